//! What the source keeps of the pages that it sent: prints of their parts, so that a page that comes again is named, and of one that changed a little
//! only the parts that did travel.
//!
//! ```text
//!   by address       page ──▶ chain ──▶ entry                      what it held before: unchanged, or the base of a delta
//!   by content       fingerprint ──▶ places ──▶ entry              the same content elsewhere
//!
//!   entries     | page, batch, alias, heat | page, batch, alias, heat | …    64 bytes each
//!   prints      | 512 bytes                | 512 bytes                | …    of the page as that batch put it
//!                    ▲ hand: where the next entry to give up is looked for
//! ```
//!
//! One entry for each page, with its newest content, whichever order batches come in: only a higher batch replaces it. A page whose content
//! another entry has gets none; the entry remembers it as its alias, another name for the content, and a younger one.
//!
//! What a batch may name is the caller's to say, by [`Sent`]: the store knows what it has, not what was sent since.
//!
//! **What is given up.** Most pages are sent once, and the few that are rewritten come again and again; these are what the store is for. So an
//! entry has a heat: 0 for a page that was sent once, more for each time that it came in handy. A newcomer looks at a few entries
//! and takes the place of the first cold one. But of pages that were all sent once none is more likely to come again than another, and those that come first are not the
//! ones to go: a cold newcomer is let in with the chance that leaves every page that came the same chance to be there. Where all are warm a cold newcomer goes without, and a warm one cools one of them, so that a
//! working set that is larger than the store does not push itself out, as it would by age: some of it stays, and that part is of use in each round.

mod addresses;
mod places;

use alloc::vec::Vec;
use core::fmt;

use crate::finder::Finder;
use crate::fingerprint::PART;
use crate::layout::{Address, PageSize};
use crate::store::addresses::Addresses;
use crate::store::places::Places;

/// Entries that a newcomer looks at: with half of all entries warm, one in 256 newcomers finds no cold one.
const LOOK: usize = 8;
/// The warmest: an entry is cold again when it did not come in handy for as many rounds of newcomers.
const HOT: u8 = 3;
/// Entries that memory is taken for at a time: 512 KiB for the smallest pages.
const SEGMENT: usize = 1024;
/// The batch of an alias that is none: `proto/WIRE.md` §1 has no such batch.
const NONE: u64 = u64::MAX;

/// What was sent before a batch, as its source knows it.
pub trait Sent {
    /// The batch with the newest content of a page as of the batch at hand: the highest below it that put the page, zeros included. None when
    /// there is none, or when that is not known any more because a later one has put the page.
    fn newest(&mut self, page: Address) -> Option<u64>;

    /// The receiver still has what the page got from this batch, which is its newest.
    fn reaches(&mut self, page: Address, batch: u64) -> bool;
}

/// What is known of pages that were sent.
pub struct Store {
    /// Of a page.
    parts: usize,
    key: u64,
    capacity: usize,
    segments: Vec<Segment>,
    entries: usize,
    addresses: Addresses,
    places: Places,
    hand: usize,
    /// Cold pages that came, whether they were let in or not.
    cold: u64,
    /// Numbers drawn by lot: a guest that knew them could choose what is kept.
    lot: u64,
}

struct Segment {
    entries: Vec<Entry>,
    prints: Vec<u64>,
}

/// A page and where its content was sent.
#[derive(Clone, Copy)]
struct Entry {
    page: Address,
    batch: u64,
    /// Another page that got the same content.
    alias: Address,
    alias_batch: u64,
    fingerprint: u64,
    /// The next one of its chain, and one; 0 for none.
    next: u32,
    heat: u8,
}

/// A page of a batch at hand.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) at: Address,
    /// Of its parts.
    pub(crate) prints: &'a [u64],
    pub(crate) fingerprint: u64,
}

/// What the store has for a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Its content, sent as another page's or as its own.
    Same { page: Address, batch: u64 },
    /// What it held before: its prints are copied out.
    Base { entry: usize, batch: u64 },
    /// Nothing of use.
    Nothing,
}

impl Store {
    /// An empty one, for so many bytes: prints and all that is needed to find them. A budget for less than a page keeps nothing. The tables are
    /// taken at once, a fortieth of it; the rest as pages come. `key` is random and never leaves this host.
    #[must_use]
    pub fn new(budget: u64, key: u64, page_size: PageSize) -> Self {
        let parts = page_size.bytes() / PART;
        let each = parts * size_of::<u64>() + size_of::<Entry>() + Addresses::EACH + Places::EACH;
        let capacity = usize::try_from(budget).unwrap_or(usize::MAX) / each;
        // An entry's number is 32 bits long, and 0 is none.
        let capacity = capacity.min(u32::MAX as usize - 1);
        Self {
            parts,
            key,
            capacity,
            segments: Vec::new(),
            entries: 0,
            addresses: Addresses::new(capacity, key),
            places: Places::new(capacity),
            hand: 0,
            cold: 0,
            lot: key,
        }
    }

    /// For a worker that is to find what is in it.
    #[must_use]
    pub fn finder(&self) -> Finder {
        Finder::new(self.key, self.capacity > 0)
    }

    /// Pages that it has.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.entries
    }

    /// Looks for a page of batch `number`, and keeps it from now on. `base` gets the prints of what it held before, when that is what was found.
    ///
    /// The pages of a batch come in order, each once.
    pub(crate) fn find(
        &mut self,
        number: u64,
        page: Page<'_>,
        sent: &mut impl Sent,
        base: &mut Vec<u64>,
    ) -> Found {
        let newest = sent.newest(page.at);
        let own = self.own(page.at);
        let before = own.and_then(|own| {
            let batch = self.entry(own).batch;
            let named = batch < number && newest == Some(batch) && sent.reaches(page.at, batch);
            named.then_some(batch)
        });
        // What a later batch has put is worth more to those that come.
        let late = own.is_some_and(|own| self.entry(own).batch > number);
        if let (Some(own), Some(batch)) = (own, before)
            && self.has(own, &page)
        {
            let entry = self.entry_mut(own);
            entry.batch = number;
            entry.warm();
            self.places.put(page.fingerprint, own);
            return Found::Same {
                page: page.at,
                batch,
            };
        }
        if let Some((other, name, batch)) = self.same(number, &page, sent) {
            match own {
                Some(own) if !late => self.replace(own, number, &page),
                Some(_) => {}
                None => self.entry_mut(other).call(page.at, number),
            }
            return Found::Same { page: name, batch };
        }
        let found = match (own, before) {
            (Some(entry), Some(batch)) => {
                base.extend_from_slice(self.prints(entry));
                self.entry_mut(entry).warm();
                Found::Base { entry, batch }
            }
            _ => Found::Nothing,
        };
        match own {
            Some(own) if !late => self.replace(own, number, &page),
            Some(_) => {}
            // A page that was sent before comes again.
            None => self.insert(number, &page, u8::from(newest.is_some())),
        }
        found
    }

    /// What batch `number` replaced was of no use as a base: the page changes too much.
    pub(crate) fn useless(&mut self, entry: usize, number: u64) {
        if entry < self.entries && self.entry(entry).batch == number {
            let entry = self.entry_mut(entry);
            // More than it was warmed by.
            entry.heat = entry.heat.saturating_sub(2);
        }
    }

    /// An entry with the page's content, and a name for it that the batch may use.
    fn same(
        &mut self,
        number: u64,
        page: &Page<'_>,
        sent: &mut impl Sent,
    ) -> Option<(usize, Address, u64)> {
        for place in self.places.of(page.fingerprint).into_iter().flatten() {
            if !self.has(place, page) {
                continue;
            }
            let entry = *self.entry(place);
            for (name, batch) in [(entry.page, entry.batch), (entry.alias, entry.alias_batch)] {
                let named = if batch == number {
                    // Earlier in the same batch, where a page may not name itself.
                    name != page.at
                } else {
                    batch < number && sent.newest(name) == Some(batch) && sent.reaches(name, batch)
                };
                if named {
                    self.entry_mut(place).warm();
                    return Some((place, name, batch));
                }
            }
        }
        None
    }

    /// The entry has this content.
    fn has(&self, entry: usize, page: &Page<'_>) -> bool {
        entry < self.entries
            && self.entry(entry).fingerprint == page.fingerprint
            && self.prints(entry) == page.prints
    }

    /// The page's own entry.
    fn own(&self, page: Address) -> Option<usize> {
        let mut next = self.addresses.first(page);
        while let Some(entry) = next {
            let found = self.entry(entry);
            if found.page == page {
                return Some(entry);
            }
            next = addresses::entry(found.next);
        }
        None
    }

    fn replace(&mut self, entry: usize, number: u64, page: &Page<'_>) {
        let kept = self.entry_mut(entry);
        kept.batch = number;
        kept.fingerprint = page.fingerprint;
        kept.alias_batch = NONE;
        kept.heat = kept.heat.max(1);
        self.prints_mut(entry).copy_from_slice(page.prints);
        self.places.put(page.fingerprint, entry);
    }

    fn insert(&mut self, number: u64, page: &Page<'_>, heat: u8) {
        let entry = Entry {
            page: page.at,
            batch: number,
            alias: page.at,
            alias_batch: NONE,
            fingerprint: page.fingerprint,
            next: self.addresses.head(page.at),
            heat,
        };
        self.cold += u64::from(heat == 0);
        let at = if self.entries < self.capacity {
            self.push(entry, page.prints);
            self.entries - 1
        } else {
            let Some(at) = self.give_up(heat > 0) else {
                return;
            };
            // Its chain may be the same, and has lost its first.
            let next = self.addresses.head(page.at);
            *self.entry_mut(at) = Entry { next, ..entry };
            self.prints_mut(at).copy_from_slice(page.prints);
            at
        };
        self.addresses.set_head(page.at, at);
        self.places.put(page.fingerprint, at);
    }

    fn push(&mut self, entry: Entry, prints: &[u64]) {
        if self.entries.is_multiple_of(SEGMENT) {
            let entries = SEGMENT.min(self.capacity - self.entries);
            self.segments.push(Segment {
                entries: Vec::with_capacity(entries),
                prints: Vec::with_capacity(entries * self.parts),
            });
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.entries.push(entry);
            segment.prints.extend_from_slice(prints);
            self.entries += 1;
        }
    }

    /// The next number drawn by lot: xorshift, which never comes to 0 from another one.
    const fn draw(&mut self) -> u64 {
        let mut lot = self.lot | (self.lot == 0) as u64;
        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        self.lot = lot;
        lot
    }

    /// An entry for a newcomer.
    fn give_up(&mut self, warm: bool) -> Option<usize> {
        if !warm {
            // Of so many, as many as there is room for.
            if self.draw() % self.cold.max(1) >= self.entries as u64 {
                return None;
            }
            self.hand = usize::try_from(self.draw() % self.entries.max(1) as u64).unwrap_or(0);
        }
        for _ in 0..LOOK.min(self.entries) {
            self.hand = (self.hand + 1) % self.entries;
            if self.entry(self.hand).heat == 0 {
                self.unlink(self.hand);
                return Some(self.hand);
            }
        }
        if warm && self.entries > 0 {
            self.entry_mut(self.hand).heat -= 1;
        }
        None
    }

    /// Takes an entry out of its chain.
    fn unlink(&mut self, entry: usize) {
        let Entry { page, next, .. } = *self.entry(entry);
        let mut before = self.addresses.first(page);
        if before == Some(entry) {
            return self.addresses.set(page, next);
        }
        while let Some(at) = before {
            let after = addresses::entry(self.entry(at).next);
            if after == Some(entry) {
                self.entry_mut(at).next = next;
                return;
            }
            before = after;
        }
    }

    fn entry(&self, entry: usize) -> &Entry {
        &self.segments[entry / SEGMENT].entries[entry % SEGMENT]
    }

    fn entry_mut(&mut self, entry: usize) -> &mut Entry {
        &mut self.segments[entry / SEGMENT].entries[entry % SEGMENT]
    }

    fn prints(&self, entry: usize) -> &[u64] {
        let start = entry % SEGMENT * self.parts;
        &self.segments[entry / SEGMENT].prints[start..start + self.parts]
    }

    fn prints_mut(&mut self, entry: usize) -> &mut [u64] {
        let start = entry % SEGMENT * self.parts;
        &mut self.segments[entry / SEGMENT].prints[start..start + self.parts]
    }
}

impl Entry {
    const fn warm(&mut self) {
        if self.heat < HOT {
            self.heat += 1;
        }
    }

    /// Another name, when it is younger than the one before.
    const fn call(&mut self, alias: Address, batch: u64) {
        if self.alias_batch == NONE || self.alias_batch < batch {
            self.alias = alias;
            self.alias_batch = batch;
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("capacity", &self.capacity)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_of_the_cache() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
