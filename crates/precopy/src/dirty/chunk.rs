//! What is known of 4,096 pages: four bits of each, and a byte of those that are rewritten.
//!
//! ```text
//!   summary  64 bits: which words have a bit            ┐ one pair for pages that are ready to be sent,
//!   words    64 × 64 bits, a bit per page               ┘ one for those that wait
//!   zero     64 × 64 bits: QEMU saw nothing but zeros
//!   based    64 × 64 bits: the receiver was sent content of it, from which a delta can be taken
//!   history  a byte per page, once one of them was rewritten
//! ```

use alloc::boxed::Box;

use crate::heat::{HEAT_MAX, ROUNDS, heat};

use super::Counts;

/// Pages of a chunk: as many as two levels of 64 bits tell apart. 16 MiB of the smallest.
pub(super) const PAGES: u64 = 64 * 64;
const WORDS: usize = 64;
const LEN: usize = 64 * WORDS;

/// What is known of the pages of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) ready: Plane,
    pub(super) waiting: Plane,
    zero: [u64; WORDS],
    based: [u64; WORDS],
    history: Option<Box<[u8; LEN]>>,
    /// The round at the right of all histories.
    round: u64,
}

/// A bit per page, and which words have one.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    summary: u64,
    words: [u64; WORDS],
}

/// Which pages may wait, and how many more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) heat: u8,
    pub(super) pages: u64,
}

/// What became of marked pages: how many of them were not marked before, of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fresh {
    pub(super) never_sent: u64,
    pub(super) sent_before: u64,
}

impl Chunk {
    pub(super) const fn new(round: u64) -> Self {
        Self {
            ready: Plane::EMPTY,
            waiting: Plane::EMPTY,
            zero: [0; WORDS],
            based: [0; WORDS],
            history: None,
            round,
        }
    }

    /// Moves the histories on to this round.
    pub(super) fn age(&mut self, round: u64) {
        let rounds = round.saturating_sub(self.round);
        self.round = round;
        let Some(history) = self.history.as_mut().filter(|_| rounds > 0) else {
            return;
        };
        match u32::try_from(rounds) {
            Ok(rounds) if rounds < ROUNDS => {
                for page in history.iter_mut() {
                    *page <<= rounds;
                }
            }
            _ => history.fill(0),
        }
    }

    /// QEMU handed pages of a word over. In the first round, which is all of memory, that says nothing about rewriting.
    pub(super) fn mark(
        &mut self,
        word: usize,
        pages: u64,
        zero: bool,
        room: Room,
        counts: &mut Counts,
    ) -> Fresh {
        self.count(word, pages, counts, Sign::Less);
        let known = self.ready.word(word) | self.waiting.word(word);
        let rewritten = self.round > 0;
        if rewritten {
            self.remember(word, pages);
        }
        let mut hot = 0;
        if zero {
            set(&mut self.zero, word, pages);
        } else {
            clear(&mut self.zero, word, pages);
            hot = pages & self.waiting.word(word);
            if rewritten && room.pages > 0 {
                hot |= self.hot(word, pages & !hot, room);
            }
        }
        self.waiting.put(word, pages, hot);
        self.ready.put(word, pages, pages & !hot);
        self.count(word, pages, counts, Sign::More);
        let fresh = if zero { 0 } else { pages & !known };
        let based = bits(&self.based, word);
        Fresh {
            never_sent: ones(fresh & !based),
            sent_before: ones(fresh & based),
        }
    }

    /// Those of the pages that are hot enough to wait, as far as there is room.
    fn hot(&self, word: usize, pages: u64, room: Room) -> u64 {
        let mut left = room.pages;
        let mut hot = 0;
        for bit in each(pages & bits(&self.based, word)) {
            if left > 0 && self.heat(word, bit) >= room.heat.max(1) {
                hot |= 1 << bit;
                left -= 1;
            }
        }
        hot
    }

    fn heat(&self, word: usize, bit: u32) -> u8 {
        let history = self.history.as_ref();
        history
            .and_then(|history| history.get(place(word, bit)))
            .map_or(0, |&history| heat(history))
    }

    fn remember(&mut self, word: usize, pages: u64) {
        let history = self.history.get_or_insert_with(|| Box::new([0; LEN]));
        for bit in each(pages) {
            if let Some(page) = history.get_mut(place(word, bit)) {
                *page |= 1;
            }
        }
    }

    /// Adds those that wait to the count of their heat.
    pub(super) fn heats(&self, heats: &mut [u64; HEAT_MAX as usize + 1]) {
        for (word, pages) in self.waiting.all() {
            for bit in each(pages) {
                if let Some(count) = heats.get_mut(usize::from(self.heat(word, bit))) {
                    *count += 1;
                }
            }
        }
    }

    /// Those that wait and are not as hot are ready; of those that are just as hot only `keep` go on waiting.
    pub(super) fn release(&mut self, heat: u8, keep: &mut u64, counts: &mut Counts) {
        for word in 0..WORDS {
            let mut released = 0;
            for bit in each(self.waiting.word(word)) {
                let is = self.heat(word, bit);
                if is == heat && *keep > 0 {
                    *keep -= 1;
                } else if is <= heat {
                    released |= 1 << bit;
                }
            }
            self.make_ready(word, released, counts);
        }
    }

    /// None waits any more.
    pub(super) fn release_all(&mut self, counts: &mut Counts) {
        for word in 0..WORDS {
            self.make_ready(word, self.waiting.word(word), counts);
        }
    }

    fn make_ready(&mut self, word: usize, pages: u64, counts: &mut Counts) {
        if pages != 0 {
            self.count(word, pages, counts, Sign::Less);
            self.waiting.put(word, pages, 0);
            self.ready.put(word, pages, pages);
            self.count(word, pages, counts, Sign::More);
        }
    }

    /// The first run of pages of one kind that are ready, from the page on: where it begins, its length, and whether it is of zeros. It stays
    /// within a word.
    pub(super) fn next(&self, from: u64) -> Option<(u64, u64, bool)> {
        let (word, bit) = split(from);
        let (word, pages) = self.ready.next(word, bit)?;
        let first = pages.trailing_zeros();
        let zero = bits(&self.zero, word);
        let is_zero = zero >> first & 1 == 1;
        let alike = pages & if is_zero { zero } else { !zero };
        let run = (alike >> first).trailing_ones();
        Some((place(word, first) as u64, run.into(), is_zero))
    }

    /// A run of ready pages within a word joins a batch. Returns how many of them the receiver was sent content of before.
    pub(super) fn take(&mut self, first: u64, run: u64, zero: bool, counts: &mut Counts) -> u64 {
        let (word, bit) = split(first);
        let pages = mask(bit, run);
        self.count(word, pages, counts, Sign::Less);
        self.ready.put(word, pages, 0);
        let before = ones(bits(&self.based, word) & pages);
        // A delta can only be taken from content.
        if zero {
            clear(&mut self.zero, word, pages);
            clear(&mut self.based, word, pages);
        } else {
            set(&mut self.based, word, pages);
        }
        before
    }

    /// Counts pages of a word as what they are now.
    fn count(&self, word: usize, pages: u64, counts: &mut Counts, sign: Sign) {
        let ready = self.ready.word(word) & pages;
        let waiting = self.waiting.word(word) & pages;
        if ready | waiting == 0 {
            return;
        }
        let zero = bits(&self.zero, word);
        let content = ready & !zero;
        let before = content & bits(&self.based, word);
        sign.apply(&mut counts.zero, ready & zero);
        sign.apply(&mut counts.sent_before, before);
        sign.apply(&mut counts.never_sent, content & !before);
        sign.apply(&mut counts.waiting, waiting);
    }
}

#[derive(Clone, Copy)]
enum Sign {
    More,
    Less,
}

impl Sign {
    const fn apply(self, count: &mut u64, pages: u64) {
        match self {
            Self::More => *count += ones(pages),
            // What is counted out was counted in.
            Self::Less => *count -= ones(pages),
        }
    }
}

impl Plane {
    const EMPTY: Self = Self {
        summary: 0,
        words: [0; WORDS],
    };

    pub(super) const fn is_empty(&self) -> bool {
        self.summary == 0
    }

    pub(super) fn word(&self, word: usize) -> u64 {
        bits(&self.words, word)
    }

    /// Of the pages of a word, these and no others are in it.
    fn put(&mut self, word: usize, pages: u64, these: u64) {
        if let Some(bits) = self.words.get_mut(word) {
            *bits = *bits & !pages | these;
            let summary = 1 << (word % WORDS);
            if *bits == 0 {
                self.summary &= !summary;
            } else {
                self.summary |= summary;
            }
        }
    }

    /// The first word with pages from that place on, and those pages.
    fn next(&self, word: usize, bit: u32) -> Option<(usize, u64)> {
        let here = self.word(word) & u64::MAX << bit;
        if here != 0 {
            return Some((word, here));
        }
        let later = self.summary & (u64::MAX << word << 1);
        // 64 when there is none.
        let word = usize::try_from(later.trailing_zeros()).ok()?;
        (later != 0).then(|| (word, self.word(word)))
    }

    fn all(&self) -> impl Iterator<Item = (usize, u64)> {
        let words = self.words.iter().copied().enumerate();
        words.filter(|&(_, pages)| pages != 0)
    }
}

/// A page's word and bit.
pub(super) fn split(page: u64) -> (usize, u32) {
    let within = page % PAGES;
    // Both are below 64.
    let word = usize::try_from(within / 64).unwrap_or(0);
    let bit = u32::try_from(within % 64).unwrap_or(0);
    (word, bit)
}

const fn place(word: usize, bit: u32) -> usize {
    word * 64 + bit as usize
}

/// A run of at most 64 pages within a word.
pub(super) const fn mask(bit: u32, run: u64) -> u64 {
    if run >= 64 {
        u64::MAX << bit
    } else {
        ((1 << run) - 1) << bit
    }
}

fn bits(words: &[u64; WORDS], word: usize) -> u64 {
    words.get(word).copied().unwrap_or(0)
}

fn set(words: &mut [u64; WORDS], word: usize, pages: u64) {
    if let Some(bits) = words.get_mut(word) {
        *bits |= pages;
    }
}

fn clear(words: &mut [u64; WORDS], word: usize, pages: u64) {
    if let Some(bits) = words.get_mut(word) {
        *bits &= !pages;
    }
}

const fn ones(pages: u64) -> u64 {
    pages.count_ones() as u64
}

fn each(mut pages: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = (pages != 0).then(|| pages.trailing_zeros())?;
        pages &= pages - 1;
        Some(bit)
    })
}
