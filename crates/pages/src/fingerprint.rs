//! Numbers that stand for the contents of a page, a part at a time: equal parts share them, and others hardly ever do. A page that comes again is
//! held against them, and they are a small part of what a copy would take.
//!
//! ```text
//!   page      | part | part | … 64 bytes each … | part |
//!   prints    | u64  | u64  | …                 | u64  |    sum of folded products: (word ^ secret) x (next word ^ secret), of 128 bits
//!   page's fingerprint                                       over its prints
//! ```
//!
//! Two parts that differ have the same print once in some 2^64 times, and whoever does not know the key cannot make such. Were it to happen the receiver would
//! find it: a batch's digest is over what the pages hold, however they travelled.

use alloc::vec::Vec;

/// Bytes of a part. What changes of a page is sent in such: shorter ones take more memory for prints, longer ones more of the link.
pub(crate) const PART: usize = 64;
/// Words of a part.
const WORDS: usize = PART / 8;
/// Odd, and with about as many ones as zeros, so that a multiplication reaches all higher bits: the fraction of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What makes prints and fingerprints. Without its key a guest cannot make pages that have the same.
#[derive(Clone)]
pub(crate) struct Fingerprint {
    secret: [u64; WORDS],
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

    /// Appends the prints of a page's parts, and returns the page's fingerprint.
    pub(crate) fn of(&self, page: &[u8], prints: &mut Vec<u64>) -> u64 {
        let start = prints.len();
        let (words, _) = page.as_chunks::<8>();
        let (parts, _) = words.as_chunks::<WORDS>();
        prints.extend(parts.iter().map(|part| self.print(part)));
        let prints = prints.get(start..).unwrap_or_default();
        let whole = prints.iter().fold(0, |whole: u64, print| {
            (whole ^ print).wrapping_mul(MULTIPLIER).rotate_left(29)
        });
        avalanche(whole)
    }

    #[inline]
    fn print(&self, part: &[[u8; 8]; WORDS]) -> u64 {
        let mixed: [u64; WORDS] =
            core::array::from_fn(|word| u64::from_le_bytes(part[word]) ^ self.secret[word]);
        let (pairs, _) = mixed.as_chunks::<2>();
        pairs.iter().fold(0, |sum: u64, &[one, other]| {
            sum.wrapping_add(folded(one, other))
        })
    }
}

/// Both halves of a product in one: each bit depends on each of both numbers.
#[inline]
fn folded(one: u64, other: u64) -> u64 {
    let (low, high) = one.carrying_mul(other, 0);
    low ^ high
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

    fn prints(key: u64, page: &[u8]) -> (u64, Vec<u64>) {
        let mut prints = vec![];
        let whole = Fingerprint::new(key).of(page, &mut prints);
        (whole, prints)
    }

    #[test]
    fn every_changed_byte_and_key_shows() {
        let mut page = vec![0; 4096];
        let (whole, parts) = prints(7, &page);
        let mut seen = HashSet::from([whole, prints(8, &page).0]);
        let mut parts_seen = HashSet::from([parts[0]]);
        for at in 0..page.len() {
            page[at] = 1;
            let (whole, changed) = prints(7, &page);
            assert!(seen.insert(whole), "{at}");
            // A byte within its part, wherever the part is.
            assert_eq!(parts_seen.insert(changed[at / PART]), at < PART, "{at}");
            let others = changed.iter().zip(&parts).filter(|(new, old)| new != old);
            assert_eq!(others.count(), 1, "{at}");
            page[at] = 0;
        }
        assert_eq!(seen.len(), page.len() + 2);
    }

    #[test]
    fn the_order_of_words_shows() {
        let words: Vec<u64> = (1..=512).collect();
        let bytes = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let whole = prints(7, &bytes(&words)).0;
        for other in 1..512 {
            let mut swapped = words.clone();
            swapped.swap(0, other);
            assert_ne!(whole, prints(7, &bytes(&swapped)).0, "{other}");
        }
    }
}
