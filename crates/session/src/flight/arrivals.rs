//! The receiver's book: batches are placed in any order, acknowledged in ranges, and some have others missing before them.
//!
//! ```text
//!     all placed      gap      placed     gap    placed
//!  ───────────────┬─────────┬──────────┬───────┬────────┬────▶ batch number
//!               next                                  highest
//! ```
//!
//! Whoever places batches enters their numbers here, and from time to time takes what was entered since the last time.
//! That each number comes once, the ledger of what was opened has seen to before.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use sealift_seal::Ledger;

use crate::control::{BatchRange, BatchRanges};

/// Ranges in one message: as `flow.proto` bounds them.
const RANGES_MAX: usize = 1024;

/// The receiver's book of batches.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// The lowest number that was not placed.
    next: u64,
    /// What is placed above it.
    beyond: Ranges,
    /// What was placed and not acknowledged yet.
    owed: Ranges,
}

impl Arrivals {
    /// Nothing placed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 0,
            beyond: Ranges::new(),
            owed: Ranges::new(),
        }
    }

    /// A batch is opened, resolved, verified and placed.
    ///
    /// # Errors
    /// When it was before, or lies beyond the number window: the ledger was passed by.
    pub fn placed(&mut self, number: u64) -> Result<(), AlreadyPlaced> {
        let ahead = number.checked_sub(self.next);
        if ahead.is_none_or(|ahead| ahead >= Ledger::WINDOW) || self.beyond.has(number) {
            return Err(AlreadyPlaced { number });
        }
        self.owed.insert(number, number);
        self.beyond.insert(number, number);
        self.raise();
        Ok(())
    }

    /// What was placed since this was last called; the lowest 1,024 ranges of it, and the rest the next time.
    pub fn take_ranges(&mut self) -> Option<BatchRanges> {
        let ranges = self.owed.lowest();
        let taken = BatchRanges::new("Acknowledgement.ranges", ranges).ok()?;
        self.owed.drop_lowest();
        Some(taken)
    }

    /// The lowest number that was not placed: all before it is there.
    #[must_use]
    pub const fn next_in_order(&self) -> u64 {
        self.next
    }

    /// What was placed from this number on is told once more: the source may not have heard it.
    pub fn tell_again(&mut self, from: u64) {
        if let Some(before) = self.next.checked_sub(1)
            && from <= before
        {
            self.owed.insert(from, before);
        }
        for (first, last) in self.beyond.iter() {
            if last >= from {
                self.owed.insert(first.max(from), last);
            }
        }
    }

    fn raise(&mut self) {
        if let Some((first, last)) = self.beyond.first()
            && first == self.next
        {
            self.next = last + 1;
            self.beyond.remove(first);
        }
    }
}

/// Numbers as ranges that do not touch: first to last. None is [`u64::MAX`], so that each has one behind it.
#[derive(Clone, Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn has(&self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back();
        before.is_some_and(|(_, &last)| number <= last)
    }

    /// Joins with what it overlaps or touches.
    fn insert(&mut self, mut first: u64, mut last: u64) {
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&behind, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.0.remove(&behind);
        }
        self.0.insert(first, last);
    }

    fn remove(&mut self, first: u64) {
        self.0.remove(&first);
    }

    fn first(&self) -> Option<(u64, u64)> {
        self.iter().next()
    }

    fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// As many as fit a message.
    fn lowest(&self) -> Vec<BatchRange> {
        let range = |(first, last)| BatchRange::new(first, last).ok();
        self.iter().take(RANGES_MAX).filter_map(range).collect()
    }

    fn drop_lowest(&mut self) {
        for _ in 0..RANGES_MAX {
            if self.0.pop_first().is_none() {
                break;
            }
        }
    }
}

/// A number that cannot be entered: it is there, or lies beyond the window. A fault of this host's program, for the
/// ledger refuses the peer's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AlreadyPlaced {
    /// The number.
    pub number: u64,
}

impl fmt::Display for AlreadyPlaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this host placed batch {} a second time, or beyond the window",
            self.number
        )
    }
}

impl core::error::Error for AlreadyPlaced {}
