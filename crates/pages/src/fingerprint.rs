//! A number that equal pages share and others hardly ever do. Quick, and good for nothing else: whoever finds two pages with the same one
//! compares them.
//!
//! ```text
//!   page     | stride | stride | … 16 strides … | stride |            of 8 words
//!   stride   sum[i] += low half of (word ^ secret) x high half;   sum[i ^ 1] += word
//!   block    sum[i]  = (sum[i] ^ sum[i] >> 47 ^ secret) x prime       so that the order of blocks counts
//! ```
//!
//! Products of halves are what processors without wide multiplications make two or more of at a time. Each stride of a block has words of the secret of its own, so that the order of strides counts.

/// Words of a stride, each into a sum of its own: no sum waits for another.
const LANES: usize = 8;
/// Strides of a block. The smallest page is four of them, and none has bytes behind its last whole one.
const STRIDES: usize = 16;
/// Words of the secret: one further on for each stride.
const SECRET: usize = STRIDES + LANES;
/// Odd, and with about as many ones as zeros, so that a multiplication reaches all higher bits: the fraction of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Likewise, of 32 bits: half of a product.
const PRIME: u64 = 0x9e37_79b1;

/// What makes fingerprints. Without its key a guest cannot make pages whose fingerprints collide.
#[derive(Clone)]
pub(crate) struct Fingerprint {
    secret: [u64; SECRET],
}

impl Fingerprint {
    pub(crate) fn new(key: u64) -> Self {
        let mut state = key;
        let secret = core::array::from_fn(|_| {
            state = state.wrapping_add(MULTIPLIER);
            avalanche(state)
        });
        Self { secret }
    }

    /// The fingerprint of a page.
    pub(crate) fn of(&self, page: &[u8]) -> u64 {
        let mut sums = [MULTIPLIER; LANES];
        let (words, _) = page.as_chunks::<8>();
        let (strides, _) = words.as_chunks::<LANES>();
        let (blocks, _) = strides.as_chunks::<STRIDES>();
        let (last, _) = self.secret.as_chunks::<LANES>();
        for block in blocks {
            for (stride, secret) in block.iter().zip(self.secret.array_windows::<LANES>()) {
                add(&mut sums, stride, secret);
            }
            for (sum, secret) in sums.iter_mut().zip(&last[last.len() - 1]) {
                *sum = (*sum ^ *sum >> 47 ^ secret).wrapping_mul(PRIME);
            }
        }
        let whole = sums.iter().fold(0, |whole: u64, sum| {
            (whole ^ sum).wrapping_mul(MULTIPLIER).rotate_left(29)
        });
        avalanche(whole)
    }
}

#[inline]
fn add(sums: &mut [u64; LANES], stride: &[[u8; 8]; LANES], secret: &[u64; LANES]) {
    let words: [u64; LANES] = core::array::from_fn(|lane| u64::from_le_bytes(stride[lane]));
    for lane in 0..LANES {
        let mixed = words[lane] ^ secret[lane];
        let product = (mixed & 0xffff_ffff).wrapping_mul(mixed >> 32);
        // The word itself too, elsewhere: half a product forgets what it is made from when the other half is zero.
        sums[lane] = sums[lane]
            .wrapping_add(product)
            .wrapping_add(words[lane ^ 1]);
    }
}

/// Every bit of the result depends on each of the number's.
const fn avalanche(mut number: u64) -> u64 {
    number = (number ^ number >> 32).wrapping_mul(MULTIPLIER);
    number = (number ^ number >> 29).wrapping_mul(MULTIPLIER);
    number ^ number >> 32
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_changed_byte_and_key_shows() {
        let fingerprint = Fingerprint::new(7);
        let mut page = vec![0; 4096];
        let mut seen = HashSet::from([fingerprint.of(&page), Fingerprint::new(8).of(&page)]);
        for at in 0..page.len() {
            page[at] = 1;
            assert!(seen.insert(fingerprint.of(&page)), "{at}");
            page[at] = 0;
        }
        assert_eq!(seen.len(), page.len() + 2);
    }

    #[test]
    fn the_order_of_words_shows() {
        let fingerprint = Fingerprint::new(7);
        let words: vec::Vec<u64> = (1..=512).collect();
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let whole: vec::Vec<u8> = bytes(&words);
        for other in 1..512 {
            let mut swapped = words.clone();
            swapped.swap(0, other);
            let swapped: vec::Vec<u8> = bytes(&swapped);
            assert_ne!(fingerprint.of(&whole), fingerprint.of(&swapped), "{other}");
        }
    }
}
