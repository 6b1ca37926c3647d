//! Which pages are still to be sent.
//!
//! ```text
//!            mark                    take                 acknowledged
//!   clean ─────────▶ dirty ─────────────────▶ in flight ───────────────▶ clean
//!                      ▲                          │ │
//!                      ├──────────── lost ────────┘ │ mark: dirty again, and still in flight
//!                      └────────────────────────────┘
//! ```
//!
//! The bit is cleared before the page is read, when the page joins its batch; whatever the guest writes from then on marks it again. An
//! acknowledgement only forgets the batch: it never clears a bit.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use sealift_pages::Address;

/// Pages of a guest that are to be sent, and those on their way.
#[derive(Clone, Debug)]
pub struct DirtyMap {
    blocks: Vec<Block>,
    count: u64,
    /// The pages of each batch on its way, as runs.
    in_flight: BTreeMap<u64, Vec<(Address, u64)>>,
    /// Where the walk goes on.
    cursor: Address,
}

#[derive(Clone, Debug)]
struct Block {
    pages: u64,
    words: Vec<u64>,
}

impl DirtyMap {
    /// A map in which nothing is dirty, of RAM blocks with so many pages each: a bit per page.
    #[must_use]
    pub fn new(pages: &[u64]) -> Self {
        let blocks = pages.iter().map(|&pages| {
            let words = usize::try_from(pages.div_ceil(u64::BITS.into())).unwrap_or(usize::MAX);
            Block {
                pages,
                words: vec![0; words],
            }
        });
        Self {
            blocks: blocks.collect(),
            count: 0,
            in_flight: BTreeMap::new(),
            cursor: Address { block: 0, page: 0 },
        }
    }

    /// QEMU handed the page and `run - 1` behind it over.
    ///
    /// # Errors
    /// When the map does not have all of them; nothing is marked then.
    pub fn mark(&mut self, first: Address, run: u64) -> Result<(), NoSuchPage> {
        let block = self.blocks.get_mut(usize::from(first.block));
        let end = first.page.checked_add(run);
        match (block, end) {
            (Some(block), Some(end)) if end <= block.pages => {
                self.count += (first.page..end).map(|page| block.set(page)).sum::<u64>();
                Ok(())
            }
            _ => Err(NoSuchPage { first, run }),
        }
    }

    /// The next dirty page of the walk, which goes upwards through the blocks and begins again at the end. It joins `batch`, and is clean.
    pub fn take(&mut self, batch: u64) -> Option<Address> {
        let taken = self.next_from(self.cursor).or_else(|| {
            let start = Address { block: 0, page: 0 };
            self.next_from(start)
        })?;
        self.blocks
            .get_mut(usize::from(taken.block))?
            .clear(taken.page);
        self.count -= 1;
        self.cursor = Address {
            page: taken.page + 1,
            ..taken
        };
        let runs = self.in_flight.entry(batch).or_default();
        match runs.last_mut() {
            Some((first, run)) if first.block == taken.block && first.page + *run == taken.page => {
                *run += 1;
            }
            _ => runs.push((taken, 1)),
        }
        Some(taken)
    }

    /// The batch has arrived: nothing of it is in flight. What was marked meanwhile stays dirty.
    pub fn acknowledged(&mut self, batch: u64) {
        self.in_flight.remove(&batch);
    }

    /// The batch was lost: its pages are dirty again.
    pub fn lost(&mut self, batch: u64) {
        for (first, run) in self.in_flight.remove(&batch).unwrap_or_default() {
            // They came from this map.
            let marked = self.mark(first, run);
            debug_assert!(marked.is_ok(), "{marked:?}");
        }
    }

    /// Whether a page is to be sent.
    #[must_use]
    pub fn is_dirty(&self, page: Address) -> bool {
        let block = self.blocks.get(usize::from(page.block));
        block.is_some_and(|block| block.has(page.page))
    }

    /// How many pages are to be sent.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Nothing is to be sent, and nothing is on its way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.count == 0 && self.in_flight.is_empty()
    }

    fn next_from(&self, from: Address) -> Option<Address> {
        let mut page = from.page;
        for (number, block) in self.blocks.iter().enumerate().skip(usize::from(from.block)) {
            if let Some(found) = block.next_from(page) {
                let block = u16::try_from(number).ok()?;
                return Some(Address { block, page: found });
            }
            page = 0;
        }
        None
    }
}

const BITS: u64 = u64::BITS as u64;

impl Block {
    fn word(page: u64) -> (usize, u64) {
        // Below the number of words for every page that the block has.
        let index = usize::try_from(page / BITS).unwrap_or(usize::MAX);
        (index, 1 << (page % BITS))
    }

    fn has(&self, page: u64) -> bool {
        let (index, bit) = Self::word(page);
        self.words.get(index).is_some_and(|word| word & bit != 0)
    }

    /// Returns how many bits that changed: one or none.
    fn set(&mut self, page: u64) -> u64 {
        let (index, bit) = Self::word(page);
        match self.words.get_mut(index) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                1
            }
            _ => 0,
        }
    }

    fn clear(&mut self, page: u64) {
        let (index, bit) = Self::word(page);
        if let Some(word) = self.words.get_mut(index) {
            *word &= !bit;
        }
    }

    fn next_from(&self, page: u64) -> Option<u64> {
        let (first, bit) = Self::word(page);
        // Of the first word, only what is not below the page.
        let mut mask = !(bit - 1);
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let word = word & mask;
            if word != 0 {
                return Some(index as u64 * BITS + u64::from(word.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PAGES: [u64; 3] = [130, 1, 64];

    #[derive(Clone, Debug)]
    enum Step {
        Mark(Address, u64),
        Take(u64),
        Acknowledged(u64),
        Lost(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u16..4, 0u64..140, 0u64..9)
                .prop_map(|(block, page, run)| Step::Mark(Address { block, page }, run)),
            6 => (0u64..4).prop_map(Step::Take),
            1 => (0u64..4).prop_map(Step::Acknowledged),
            1 => (0u64..4).prop_map(Step::Lost),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_sets_of_pages_do(steps in vec(step(), 0..200)) {
            let mut map = DirtyMap::new(&PAGES);
            let mut dirty = BTreeSet::new();
            let mut flying: BTreeMap<u64, BTreeSet<Address>> = BTreeMap::new();
            let mut last = None;
            for step in steps {
                match step {
                    Step::Mark(first, run) => {
                        let there = PAGES.get(usize::from(first.block))
                            .is_some_and(|&pages| first.page + run <= pages);
                        prop_assert_eq!(map.mark(first, run).is_ok(), there);
                        if there {
                            dirty.extend((first.page..first.page + run).map(|page| Address { page, ..first }));
                        }
                    }
                    Step::Take(batch) => {
                        let next = dirty.iter().find(|&&page| Some(page) > last).or(dirty.first()).copied();
                        prop_assert_eq!(map.take(batch), next);
                        if let Some(page) = next {
                            dirty.remove(&page);
                            flying.entry(batch).or_default().insert(page);
                            last = next;
                        }
                    }
                    Step::Acknowledged(batch) => {
                        map.acknowledged(batch);
                        flying.remove(&batch);
                    }
                    Step::Lost(batch) => {
                        map.lost(batch);
                        dirty.extend(flying.remove(&batch).unwrap_or_default());
                    }
                }
                prop_assert_eq!(map.count(), dirty.len() as u64);
                prop_assert!(dirty.iter().all(|&page| map.is_dirty(page)));
                prop_assert_eq!(map.is_drained(), dirty.is_empty() && flying.is_empty());
            }
        }
    }

    #[test]
    fn an_acknowledgement_never_makes_a_page_clean() {
        let page = Address { block: 0, page: 5 };
        let mut map = DirtyMap::new(&PAGES);
        map.mark(page, 1).unwrap();
        assert_eq!(map.take(0), Some(page));
        map.mark(page, 1).unwrap();
        map.acknowledged(0);
        assert!(map.is_dirty(page));
        // Nor does a batch that nobody knows.
        map.acknowledged(9);
        map.lost(9);
        assert_eq!(map.count(), 1);
    }
}
