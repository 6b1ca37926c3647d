//! One page that can tell whether it is whole.
//!
//! ```text
//!   word 0   1         2          3 … 511
//!   [ index | version | checksum | contents, by kind ]      512 little-endian words of 8 bytes
//! ```
//!
//! The checksum goes over all other words. An old content of the page is whole as well: whoever checks it has to know the version.

use crate::random::Random;

/// Words of a page.
pub(crate) const WORDS: usize = 512;

/// Where the contents begin.
const HEAD: usize = 3;

/// What a rewriting changes, beside the head.
const REWRITTEN_WORDS: usize = 8;

/// What a sparse page has beside zeros.
const SPARSE_WORDS: usize = 24;

/// What a page of one repeated byte repeats.
const REPEATED: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// The words of the log. Common ones: what makes log text easy to compress is that there are few.
const LOG: [&str; 16] = [
    "the", "request", "from", "server", "error", "took", "ms", "user", "GET", "index", "cache",
    "miss", "disk", "write", "at", "done",
];

/// Words in a line of the log.
const LOG_LINE: u64 = 24;

/// A page of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(4096))]
pub(crate) struct Page([u64; WORDS]);

/// What is in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing can compress it.
    Random,
    /// Text of few words.
    Log,
    /// Every fourth word points near its own page, the rest are small numbers.
    Heap,
    /// Zeros, but for a few words.
    Sparse,
    /// One byte throughout.
    Repeated,
}

impl Kind {
    /// Of every 16 pages 2 are random, 4 log, 6 heap, 3 sparse and 1 repeated.
    pub(crate) fn mixed(index: u64) -> Self {
        match index % 16 {
            0 | 1 => Self::Random,
            2..=5 => Self::Log,
            6..=11 => Self::Heap,
            12..=14 => Self::Sparse,
            _ => Self::Repeated,
        }
    }

    /// Of every 10 pages 9 are random and 1 is log.
    pub(crate) fn mostly_random(index: u64) -> Self {
        match index % 10 {
            0..=8 => Self::Random,
            _ => Self::Log,
        }
    }
}

impl Page {
    /// Zeros, which is not a whole page: memory before it is filled.
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Fills it as the page with this index, in this version: every version has contents of its own.
    pub(crate) fn fill(&mut self, index: u64, version: u64, kind: Kind) {
        // No guest has so many pages that the two meet.
        let mut random = Random::new(index ^ version << 32);
        let contents = &mut self.0[HEAD..];
        match kind {
            Kind::Random => contents.fill_with(|| random.next()),
            Kind::Log => log(contents, &mut random),
            Kind::Heap => heap(contents, index, &mut random),
            Kind::Sparse => {
                contents.fill(0);
                for _ in 0..SPARSE_WORDS {
                    contents[random.below(WORDS - HEAD)] = random.next();
                }
            }
            Kind::Repeated => contents.fill(REPEATED),
        }
        self.close(index, version);
    }

    /// Puts some random words anywhere, and makes it this version.
    pub(crate) fn rewrite(&mut self, index: u64, version: u64, random: &mut Random) {
        for _ in 0..REWRITTEN_WORDS {
            self.0[HEAD + random.below(WORDS - HEAD)] = random.next();
        }
        self.close(index, version);
    }

    /// Whether it is this page, in this version, with every bit right.
    pub(crate) fn is_whole(&self, index: u64, version: u64) -> bool {
        self.0[0] == index && self.0[1] == version && self.0[2] == self.checksum()
    }

    /// The version that it says that it has.
    pub(crate) fn version(&self) -> u64 {
        self.0[1]
    }

    fn close(&mut self, index: u64, version: u64) {
        self.0[0] = index;
        self.0[1] = version;
        self.0[2] = self.checksum();
    }

    /// Depends on every word and on its place. Multiplying is what an emulated processor does fast.
    fn checksum(&self) -> u64 {
        /// FNV's prime: odd, so that no step loses a bit.
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let words = self.0[..2].iter().chain(&self.0[HEAD..]);
        words.fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
            (sum ^ word).wrapping_mul(PRIME).rotate_left(23)
        })
    }
}

fn log(contents: &mut [u64], random: &mut Random) {
    let bytes = contents.len() * 8;
    let mut text = Vec::with_capacity(bytes + 16);
    let mut word = 0;
    while text.len() < bytes {
        text.extend_from_slice(LOG[random.below(LOG.len())].as_bytes());
        word += 1;
        text.push(if word % LOG_LINE == 0 { b'\n' } else { b' ' });
    }
    for (place, chunk) in contents.iter_mut().zip(text.as_chunks().0) {
        *place = u64::from_le_bytes(*chunk);
    }
}

fn heap(contents: &mut [u64], index: u64, random: &mut Random) {
    /// Where a process's heap is, roughly.
    const BASE: u64 = 0x7f00_0000_0000;
    for (number, place) in contents.iter_mut().enumerate() {
        *place = match number % 4 {
            // Within the sixteen pages after its own, and aligned as what malloc gives.
            0 => BASE + index * 4096 + random.next() % 4096 * 16,
            _ => random.next() % 256,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(index: u64) -> Page {
        let mut page = Page::EMPTY;
        page.fill(index, 0, Kind::mixed(index));
        page
    }

    #[test]
    fn a_page_is_a_page_of_memory() {
        assert_eq!(size_of::<Page>(), 4096);
        assert_eq!(align_of::<Page>(), 4096);
    }

    #[test]
    fn every_flipped_bit_is_noticed_in_every_kind() {
        for index in 0..16 {
            let page = filled(index);
            assert!(page.is_whole(index, 0));
            for bit in 0..WORDS * 64 {
                let mut damaged = page.clone();
                damaged.0[bit / 64] ^= 1 << (bit % 64);
                assert!(!damaged.is_whole(index, 0), "page {index} bit {bit}");
            }
        }
    }

    #[test]
    fn an_old_content_and_another_page_are_noticed() {
        let mut random = Random::new(1);
        let old = filled(7);
        let mut new = old.clone();
        new.rewrite(7, 1, &mut random);
        assert!(new.is_whole(7, 1));
        assert!(!old.is_whole(7, 1));
        assert!(!filled(23).is_whole(7, 0));
        assert!(!Page::EMPTY.is_whole(0, 0));
    }

    #[test]
    fn of_sixteen_pages_each_kind_has_its_share() {
        let count = |kind| (0..16).filter(|&index| Kind::mixed(index) == kind).count();
        let kinds = [
            Kind::Random,
            Kind::Log,
            Kind::Heap,
            Kind::Sparse,
            Kind::Repeated,
        ];
        assert_eq!(kinds.map(count), [2, 4, 6, 3, 1]);
        let random = |&index: &u64| Kind::mostly_random(index) == Kind::Random;
        assert_eq!((0..10).filter(random).count(), 9);
    }

    #[test]
    fn a_page_that_is_filled_anew_has_hardly_a_word_of_the_old() {
        for kind in [Kind::Random, Kind::Log, Kind::Heap] {
            let (mut old, mut new) = (Page::EMPTY, Page::EMPTY);
            old.fill(3, 0, kind);
            new.fill(3, 1, kind);
            assert!(new.is_whole(3, 1));
            let same = old.0.iter().zip(&new.0).filter(|(a, b)| a == b).count();
            assert!(same < 16, "{kind:?}: {same}");
        }
    }

    #[test]
    fn a_rewriting_changes_eight_words_and_the_head() {
        let page = filled(3);
        let mut rewritten = page.clone();
        rewritten.rewrite(3, 1, &mut Random::new(5));
        let changed = page.0.iter().zip(&rewritten.0).filter(|(a, b)| a != b);
        // Eight words, perhaps one of them twice, and version and checksum.
        assert!((9..=10).contains(&changed.count()));
    }
}
