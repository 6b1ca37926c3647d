//! The ledger: which batch numbers of a session and direction were seen, each at most once.
//!
//! ```text
//!   all seen          seen or not, one bit each          none seen
//!  ──────────────┬──────────────────────────────────┬──────────────▶ batch number
//!              floor                          floor + 65,536
//! ```
//!
//! Lanes run at different speeds, so numbers come out of order; the window is how far they may be apart. The
//! floor is the lowest number not seen, and a number's bit is at its place modulo the window.
//! An end keeps one ledger for all that it opens in a session, since it opens in one direction only. It belongs to whoever
//! owns the session and outlives lanes, epochs, reconnects and so every [`Keyed`](crate::Keyed), none of which could hand it
//! out: a new one after a reconnect would take every batch a second time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::error::Error;

/// What was seen, in 8 KiB whatever the peer sends.
pub struct Ledger {
    floor: u64,
    /// Bits of numbers below the floor are clear, ready for the number a window later.
    seen: Box<[u64; WORDS]>,
}

impl Ledger {
    /// How far ahead of the floor a number may be: 64 GiB of batches of 1 MiB between the slowest lane and the
    /// fastest.
    pub const WINDOW: u64 = 1 << 16;

    /// Nothing seen.
    #[must_use]
    pub fn new() -> Self {
        Self {
            floor: 0,
            seen: Box::new([0; WORDS]),
        }
    }

    #[cfg(test)]
    pub(crate) fn starting_at(floor: u64) -> Self {
        Self {
            floor,
            ..Self::new()
        }
    }

    /// The lowest number not seen.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Which numbers from the floor on were seen, a bit each, the lowest of the first byte for the floor itself; without what comes behind the last.
    #[must_use]
    pub fn seen(&self) -> Vec<u8> {
        let mut bits = Vec::new();
        for (above, number) in (self.floor..self.floor.saturating_add(Self::WINDOW)).enumerate() {
            if self.has(number) {
                bits.resize(above / 8 + 1, 0_u8);
                bits[above / 8] |= 1 << (above % 8);
            }
        }
        bits
    }

    pub(crate) fn enter(&mut self, batch: u64) -> Result<(), Error> {
        self.within(batch)?;
        if batch < self.floor || self.has(batch) {
            return Err(Error::BatchSeen { batch });
        }
        self.mark(batch);
        self.raise();
        Ok(())
    }

    fn within(&self, batch: u64) -> Result<(), Error> {
        // The last number of all stays out, so that there is always one that was not seen.
        if batch.saturating_sub(self.floor) >= Self::WINDOW || batch == u64::MAX {
            return Err(Error::BatchAhead {
                batch,
                floor: self.floor,
            });
        }
        Ok(())
    }

    fn raise(&mut self) {
        while self.has(self.floor) {
            let (word, bit) = place(self.floor);
            self.seen[word] &= !bit;
            self.floor += 1;
        }
    }

    fn has(&self, batch: u64) -> bool {
        let (word, bit) = place(batch);
        self.seen[word] & bit != 0
    }

    fn mark(&mut self, batch: u64) {
        let (word, bit) = place(batch);
        self.seen[word] |= bit;
    }
}

/// Bits of a word.
const WORD: u64 = u64::BITS as u64;

const WORDS: usize = (Ledger::WINDOW / WORD) as usize;

fn place(batch: u64) -> (usize, u64) {
    let word = (batch % Ledger::WINDOW / WORD) as usize;
    (word, 1 << (batch % WORD))
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
