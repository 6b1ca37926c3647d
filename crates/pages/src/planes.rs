//! A page of words with its bytes taken apart: first the lowest byte of every word, then the second lowest of every word, and so on.
//!
//! ```text
//!   words     a0 a1 … a7  b0 b1 … b7  c0 c1 … c7 …
//!   planes    a0 b0 c0 …  a1 b1 c1 …  …  a7 b7 c7 …
//! ```
//!
//! Of pointers and small numbers the upper planes are all alike, which zstd passes over at once: on such pages it is two to three times as
//! fast as on the words as they are.

/// Bytes of a word.
const WORD: usize = 8;

/// Takes the words of a page apart. Both are equally long, a multiple of 64 bytes.
pub(crate) fn apart(page: &[u8], planes: &mut [u8]) {
    let words = page.len() / WORD;
    let (blocks, _) = page.as_chunks::<{ WORD * WORD }>();
    for (block, at) in blocks.iter().zip((0..).step_by(WORD)) {
        let turned = turn(rows(block));
        for (plane, row) in turned.iter().enumerate() {
            let start = plane * words + at;
            if let Some(place) = planes.get_mut(start..start + WORD) {
                place.copy_from_slice(&row.to_le_bytes());
            }
        }
    }
}

/// Puts them together again.
pub(crate) fn together(planes: &[u8], page: &mut [u8]) {
    let words = page.len() / WORD;
    let (blocks, _) = page.as_chunks_mut::<{ WORD * WORD }>();
    for (block, at) in blocks.iter_mut().zip((0..).step_by(WORD)) {
        let mut taken = [0; WORD];
        for (plane, row) in taken.iter_mut().enumerate() {
            let start = plane * words + at;
            let bytes = planes.get(start..).and_then(|rest| rest.first_chunk());
            *row = u64::from_le_bytes(bytes.copied().unwrap_or_default());
        }
        let (places, _) = block.as_chunks_mut::<WORD>();
        for (place, word) in places.iter_mut().zip(turn(taken)) {
            *place = word.to_le_bytes();
        }
    }
}

fn rows(block: &[u8; WORD * WORD]) -> [u64; WORD] {
    let (words, _) = block.as_chunks::<WORD>();
    let mut rows = [0; WORD];
    for (row, word) in rows.iter_mut().zip(words) {
        *row = u64::from_le_bytes(*word);
    }
    rows
}

/// Turns eight rows of eight bytes into eight columns: by halves, quarters and eighths of the square.
fn turn(mut rows: [u64; WORD]) -> [u64; WORD] {
    const STEPS: [(usize, u64); 3] = [
        (4, 0x0000_0000_ffff_ffff),
        (2, 0x0000_ffff_0000_ffff),
        (1, 0x00ff_00ff_00ff_00ff),
    ];
    for (apart, mask) in STEPS {
        let shift = apart * 8;
        for upper in (0..WORD).filter(|row| row & apart == 0) {
            let lower = upper + apart;
            let swapped = (rows[upper] >> shift ^ rows[lower]) & mask;
            rows[lower] ^= swapped;
            rows[upper] ^= swapped << shift;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_goes_to_its_plane() {
        for len in [64, 4096, 65536] {
            let page: Vec<u8> = (0_usize..len)
                .map(|at| (at * 7 + at / 256).to_le_bytes()[0])
                .collect();
            let mut planes = vec![0; len];
            apart(&page, &mut planes);
            for (at, &byte) in page.iter().enumerate() {
                assert_eq!(planes[at % 8 * (len / 8) + at / 8], byte, "{len} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn together_undoes_apart(page in proptest::collection::vec(any::<u8>(), 4096)) {
            let (mut planes, mut again) = (vec![0; 4096], vec![0; 4096]);
            apart(&page, &mut planes);
            together(&planes, &mut again);
            prop_assert_eq!(page, again);
        }
    }
}
