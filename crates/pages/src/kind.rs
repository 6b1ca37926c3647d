//! What a page looks like: pages of one kind next to each other compress better and faster than in the order of their addresses, because zstd counts
//! how often each byte occurs over 128 KiB at a time, and text, pointers and small numbers have nothing in common.
//!
//! ```text
//!   64 words of a page ─▶ zeros? numbers? text? noise? ─▶ kind
//! ```
//!
//! On the guest "mix" (a sixteenth of whose pages are of each of sixteen kinds in turn) batches of 1 MiB become 8 % smaller so at zstd's level 1.
//! It is a guess: a wrong one costs nothing but what a right one would have brought.

/// Kinds, in the order in which they stand in a batch.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// Mostly zeros.
    Sparse,
    /// Pointers and numbers: words whose upper bytes say little. Their bytes are better taken apart: see [`planes`](crate::planes).
    Words,
    /// Text.
    Text,
    /// Anything else.
    Other,
    /// Compressed or encrypted, as it seems. Last, so that it can be left out.
    Noise,
}

/// Words that are looked at: enough to tell the kinds apart, and an eighth of the smallest page.
const LOOKED: usize = 64;
/// Bytes of theirs of which half have their top bit set, if they are random.
const HALF: u32 = 64 * 8 / 2;
/// How far apart they are, in turn: odd numbers of words, so that they fall on every place in whatever structures the page has.
const STEPS: [usize; 4] = [7, 9, 5, 11];
/// The top bit of each byte.
const TOPS: u64 = 0x8080_8080_8080_8080;

impl Kind {
    /// What it looks like.
    pub(crate) fn of(page: &[u8]) -> Self {
        let (words, _) = page.as_chunks::<8>();
        let (mut zeros, mut numbers, mut text, mut tops) = (0, 0, 0, 0);
        // A register that noise turns over and over, and a pattern does not: words that were seen leave their bit.
        let mut seen = 0_u64;
        let mut at = 0;
        for turn in 0..LOOKED {
            let Some(word) = words.get(at % words.len().max(1)) else {
                return Self::Other;
            };
            at += STEPS[turn % STEPS.len()];
            let word = u64::from_le_bytes(*word);
            if word == 0 {
                zeros += 1;
                continue;
            }
            numbers += usize::from(is_number(word));
            text += usize::from(is_text(word));
            tops += (word & TOPS).count_ones();
            seen |= 1 << (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58);
        }
        let filled = LOOKED - zeros;
        // Of random bytes half have their top bit set: within six deviations (of 11 each) of that.
        let random = tops.abs_diff(HALF) < 68;
        // And 64 random words set 40 of 64 bits, within as much of theirs.
        let varied = seen.count_ones() > 28;
        if filled * 4 <= LOOKED {
            Self::Sparse
        } else if numbers * 3 > filled * 2 {
            Self::Words
        } else if text * 3 > filled * 2 {
            Self::Text
        } else if zeros == 0 && random && varied {
            Self::Noise
        } else {
            Self::Other
        }
    }
}

/// A pointer of a process, of a kernel, or a number below 2^40: the upper two bytes say nothing.
const fn is_number(word: u64) -> bool {
    let top = word >> 48;
    top == 0 || top == 0xffff
}

/// Each byte is printable, a tabulator or the end of a line, but for a few that need not be told apart.
fn is_text(word: u64) -> bool {
    word.to_le_bytes()
        .iter()
        .all(|byte| matches!(byte, 0x09..0x7f))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn page(word: impl Fn(u64) -> u64) -> Vec<u8> {
        (0..512).flat_map(|at| word(at).to_le_bytes()).collect()
    }

    fn noise(at: u64) -> u64 {
        let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
    }

    #[test]
    fn kinds_are_told_apart() {
        let sparse = page(|at| if at % 16 == 3 { noise(at) } else { 0 });
        assert_eq!(Kind::of(&sparse), Kind::Sparse);
        let heap = page(|at| match at % 4 {
            0 => 0x7f12_3456_0000 + (noise(at) & 0xfff8),
            _ => noise(at) & 0xff,
        });
        assert_eq!(Kind::of(&heap), Kind::Words);
        let kernel = page(|at| 0xffff_8880_0000_0000 + (noise(at) & 0xff_ffff));
        assert_eq!(Kind::of(&kernel), Kind::Words);
        let line = b"a line of a log, with a number: 4711\n";
        let text: Vec<u8> = line.iter().copied().cycle().take(4096).collect();
        assert_eq!(Kind::of(&text), Kind::Text);
        assert_eq!(Kind::of(&page(noise)), Kind::Noise);
        let pattern = page(|at| noise(at % 8));
        assert_ne!(Kind::of(&pattern), Kind::Noise);
    }

    #[test]
    fn every_size_of_page_has_a_kind() {
        for len in [4096, 16384, 65536] {
            let zeros: Vec<u8> = core::iter::repeat_n(0, len).collect();
            assert_eq!(Kind::of(&zeros), Kind::Sparse);
        }
        assert_eq!(Kind::of(&[]), Kind::Other);
    }
}
