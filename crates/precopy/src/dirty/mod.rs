//! Which pages are still to be sent.
//!
//! ```text
//!            mark                     take                 acknowledged
//!   clean ─────────▶ ready ─────────────────▶ in flight ───────────────▶ clean
//!     │                ▲ ▲                        │
//!     │ mark, hot      │ └────────────────────────┤ mark: ready or waiting, and still in flight
//!     └──────────▶ waiting ◀──────────────────────┘
//! ```
//!
//! The bit is cleared before the page is read, when the page joins its batch; whatever the guest writes from then on marks it again. An
//! acknowledgement never clears a bit.
//!
//! Memory is taken in chunks of 4,096 pages when something in them is marked: four bits per page, and a byte for each in chunks in which
//! pages are rewritten, 0.04 % of the guest's memory at most. A bit per chunk says where to look, so that what is left of a large guest is found at once.

mod chunk;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use sealift_pages::Address;

use crate::heat::HEAT_MAX;
use chunk::{Chunk, Fresh, PAGES, Room, mask, split};

/// Pages that are to be sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// The receiver was never sent content of these: they cost what a page costs.
    pub never_sent: u64,
    /// These were sent before: they cost what has changed.
    pub sent_before: u64,
    /// Of those that were sent before, these are rewritten in every round, and wait for the guest's stop.
    pub waiting: u64,
    /// QEMU saw nothing but zeros.
    pub zero: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.ready() + self.waiting
    }

    /// Those that do not wait.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.never_sent + self.sent_before + self.zero
    }
}

/// Pages that are to be read and sent, one after another in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taken {
    /// The first of them.
    pub first: Address,
    /// How many.
    pub run: u64,
    /// QEMU saw nothing but zeros in them, after it had cleared its bits: they need not be read.
    pub zero: bool,
}

/// Pages of a guest that are to be sent.
#[derive(Clone, Debug)]
pub(crate) struct DirtyMap {
    blocks: Vec<Block>,
    counts: Counts,
    /// Where the walk goes on.
    cursor: Address,
    round: u64,
    /// A page waits from this heat on.
    heat: u8,
}

#[derive(Clone, Debug)]
struct Block {
    pages: u64,
    chunks: Vec<Option<Box<Chunk>>>,
    /// A bit per chunk that has pages that are ready.
    ready: Vec<u64>,
    /// A bit per chunk that has pages that wait.
    waiting: Vec<u64>,
}

/// What one call took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Load {
    pub(crate) never_sent: u64,
    pub(crate) sent_before: u64,
    pub(crate) zero: u64,
}

impl DirtyMap {
    /// A map in which nothing is dirty, of RAM blocks with so many pages each.
    pub(crate) fn new(pages: &[u64]) -> Self {
        let blocks = pages.iter().map(|&pages| {
            let chunks = usize::try_from(pages.div_ceil(PAGES)).unwrap_or(usize::MAX);
            let words = chunks.div_ceil(BITS);
            Block {
                pages,
                chunks: vec![None; chunks],
                ready: vec![0; words],
                waiting: vec![0; words],
            }
        });
        Self {
            blocks: blocks.collect(),
            counts: Counts::default(),
            cursor: START,
            round: 0,
            heat: 1,
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) const fn round(&self) -> u64 {
        self.round
    }

    /// QEMU handed pages over; `may_wait` of those that are hot may wait. Returns how many were clean, by kind.
    pub(crate) fn mark(
        &mut self,
        first: Address,
        run: u64,
        zero: bool,
        may_wait: u64,
    ) -> Result<Load, NoSuchPage> {
        let no_such_page = NoSuchPage { first, run };
        let end = first.page.checked_add(run).ok_or(no_such_page)?;
        let block = self.blocks.get_mut(usize::from(first.block));
        let block = block
            .filter(|block| end <= block.pages)
            .ok_or(no_such_page)?;
        let counts = &mut self.counts;
        let most = counts.waiting.saturating_add(may_wait);
        let mut fresh = Load::default();
        block.each_word(first.page, end, self.round, |chunk, word, pages| {
            let room = Room {
                heat: self.heat,
                pages: most.saturating_sub(counts.waiting),
            };
            let Fresh {
                never_sent,
                sent_before,
            } = chunk.mark(word, pages, zero, room, counts);
            fresh.never_sent += never_sent;
            fresh.sent_before += sent_before;
        });
        Ok(fresh)
    }

    /// What to send next, up to so many pages with content and so many of zeros: upwards through the blocks from where the last call ended, and
    /// from the start at the end.
    pub(crate) fn take(&mut self, content: u64, zero: u64, out: &mut Vec<Taken>) -> Load {
        let mut hand = Hand {
            content,
            zero,
            load: Load::default(),
            out,
        };
        for from in [self.cursor, START] {
            if let Some(full) = self.walk(from, &mut hand) {
                self.cursor = full;
                break;
            }
            self.cursor = START;
        }
        hand.load
    }

    /// Returns where the walk found no more room.
    fn walk(&mut self, from: Address, hand: &mut Hand<'_>) -> Option<Address> {
        let mut page = from.page;
        let blocks = self.blocks.iter_mut().enumerate();
        for (number, block) in blocks.skip(usize::from(from.block)) {
            let number = u16::try_from(number).ok()?;
            if let Some(full) = block.take(number, page, hand, &mut self.counts) {
                return Some(Address {
                    block: number,
                    page: full,
                });
            }
            page = 0;
        }
        None
    }

    /// QEMU has begun to walk anew. Of the pages that wait those that have cooled down are ready, and of the others the coolest
    /// until no more than `most` wait.
    pub(crate) fn next_round(&mut self, most: u64) {
        self.round += 1;
        let mut heats = [0; HEAT_MAX as usize + 1];
        for block in &mut self.blocks {
            block.each_waiting(|chunk| {
                chunk.age(self.round);
                chunk.heats(&mut heats);
            });
        }
        let (heat, mut keep) = coolest(&heats, most);
        self.heat = heat.max(1);
        for block in &mut self.blocks {
            block.each_waiting(|chunk| chunk.release(heat, &mut keep, &mut self.counts));
        }
    }

    /// None waits any more.
    pub(crate) fn release_all(&mut self) {
        for block in &mut self.blocks {
            block.each_waiting(|chunk| chunk.release_all(&mut self.counts));
        }
    }
}

/// The heat of the coolest pages that go on waiting, and how many of just that heat do.
fn coolest(heats: &[u64; HEAT_MAX as usize + 1], most: u64) -> (u8, u64) {
    let mut left = most;
    for heat in (1..=HEAT_MAX).rev() {
        let pages = heats.get(usize::from(heat)).copied().unwrap_or(0);
        if pages > left {
            return (heat, left);
        }
        left -= pages;
    }
    // Those that are not hot do not wait.
    (0, 0)
}

/// What is being taken.
struct Hand<'a> {
    content: u64,
    zero: u64,
    load: Load,
    out: &'a mut Vec<Taken>,
}

impl Hand<'_> {
    fn put(&mut self, first: Address, run: u64, zero: bool) {
        match self.out.last_mut() {
            Some(last)
                if last.zero == zero
                    && last.first.block == first.block
                    && last.first.page + last.run == first.page =>
            {
                last.run += run;
            }
            _ => self.out.push(Taken { first, run, zero }),
        }
    }
}

const START: Address = Address { block: 0, page: 0 };
const BITS: usize = u64::BITS as usize;

impl Block {
    /// The words of the pages from `first` to before `end`, with those pages of each.
    fn each_word(
        &mut self,
        first: u64,
        end: u64,
        round: u64,
        mut act: impl FnMut(&mut Chunk, usize, u64),
    ) {
        let mut page = first;
        while page < end {
            let index = index(page);
            let Some(slot) = self.chunks.get_mut(index) else {
                return;
            };
            let chunk = slot.get_or_insert_with(|| Box::new(Chunk::new(round)));
            chunk.age(round);
            let chunk_end = end.min((page / PAGES + 1) * PAGES);
            while page < chunk_end {
                let (word, bit) = split(page);
                let run = (64 - u64::from(bit)).min(chunk_end - page);
                act(chunk, word, mask(bit, run));
                page += run;
            }
            let (ready, waiting) = (!chunk.ready.is_empty(), !chunk.waiting.is_empty());
            put(&mut self.ready, index, ready);
            put(&mut self.waiting, index, waiting);
        }
    }

    /// Returns the page for which there was no room.
    fn take(
        &mut self,
        number: u16,
        from: u64,
        hand: &mut Hand<'_>,
        counts: &mut Counts,
    ) -> Option<u64> {
        let mut next = next(&self.ready, index(from));
        while let Some(index) = next {
            let start = index as u64 * PAGES;
            let Some(Some(chunk)) = self.chunks.get_mut(index) else {
                return None;
            };
            let mut within = from.saturating_sub(start);
            while let Some((first, run, zero)) = chunk.next(within).filter(|_| within < PAGES) {
                let room = if zero {
                    &mut hand.zero
                } else {
                    &mut hand.content
                };
                if *room == 0 {
                    return Some(start + first);
                }
                let run = run.min(*room);
                *room -= run;
                let before = chunk.take(first, run, zero, counts);
                if zero {
                    hand.load.zero += run;
                } else {
                    hand.load.sent_before += before;
                    hand.load.never_sent += run - before;
                }
                let at = Address {
                    block: number,
                    page: start + first,
                };
                hand.put(at, run, zero);
                within = first + run;
            }
            // There may be some before the page from which on it was to be taken.
            let left = !chunk.ready.is_empty();
            put(&mut self.ready, index, left);
            next = self::next(&self.ready, index + 1);
        }
        None
    }

    /// The chunks in which pages wait.
    fn each_waiting(&mut self, mut act: impl FnMut(&mut Chunk)) {
        let mut from = 0;
        while let Some(index) = next(&self.waiting, from) {
            let Some(Some(chunk)) = self.chunks.get_mut(index) else {
                return;
            };
            act(chunk);
            let (ready, waiting) = (!chunk.ready.is_empty(), !chunk.waiting.is_empty());
            put(&mut self.ready, index, ready);
            put(&mut self.waiting, index, waiting);
            from = index + 1;
        }
    }
}

/// A page's chunk.
fn index(page: u64) -> usize {
    usize::try_from(page / PAGES).unwrap_or(usize::MAX)
}

fn put(bits: &mut [u64], index: usize, is: bool) {
    if let Some(word) = bits.get_mut(index / BITS) {
        let bit = 1 << (index % BITS);
        *word = if is { *word | bit } else { *word & !bit };
    }
}

/// The first bit from there on.
fn next(bits: &[u64], from: usize) -> Option<usize> {
    let mut mask = u64::MAX << (from % BITS);
    for (index, word) in bits.iter().enumerate().skip(from / BITS) {
        let word = word & mask;
        if word != 0 {
            // Below 64.
            let bit = usize::try_from(word.trailing_zeros()).ok()?;
            return Some(index * BITS + bit);
        }
        mask = u64::MAX;
    }
    None
}

/// Pages that the guest does not have: this host's QEMU named them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSuchPage {
    /// The first of them.
    pub first: Address,
    /// How many.
    pub run: u64,
}

impl fmt::Display for NoSuchPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, run } = self;
        write!(
            f,
            "this host's QEMU named {run} pages from page {} of RAM block {} on, which the guest does not have",
            first.page, first.block
        )
    }
}

impl core::error::Error for NoSuchPage {}
