//! What the pages of a batch hold, back to back, and where each goes. Both ends keep it for as many batches as were agreed
//! on, so that later ones can name it.
//!
//! ```text
//!   bytes    | page | page | page | page |        in record order; a place in it is a slot: 0 1 2 3
//!   places   |  a   |  b   |  a   |  c   |        the page of each
//!   index    a0 a2 b1 c3                          sorted: the content of `a` is slot 2, and was slot 0 before slot 2 came
//! ```
//!
//! Zero runs are not in it, and cannot be named: what is kept is thus never more than the content of a batch.
//!
//! A buffer that is used again keeps the bytes that were there: what is read into it is not cleared first.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::budget::CONTENT_BYTES;
use crate::layout::{Address, PageSize};
use crate::planes;
use crate::redacted::Redacted;

/// Later than every slot of a batch.
pub(crate) const WHOLE_BATCH: usize = usize::MAX;

pub(crate) struct Contents {
    page_size: PageSize,
    /// Those of `places`, and behind them what was there before.
    bytes: Vec<u8>,
    places: Vec<Address>,
    index: Vec<(Address, usize)>,
}

impl Contents {
    /// Takes the memory for all that a batch may hold at once: it never grows.
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            bytes: Vec::with_capacity(CONTENT_BYTES),
            places: Vec::with_capacity(CONTENT_BYTES / page_size.bytes()),
            index: Vec::new(),
        }
    }

    pub(crate) const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Another page; its content must be one, which the caller has checked.
    pub(crate) fn push(&mut self, place: Address, content: &[u8]) {
        let len = self.len();
        if len == self.bytes.len() {
            self.bytes.extend_from_slice(content);
        } else {
            self.room(1).copy_from_slice(content);
        }
        self.places.push(place);
    }

    /// Another page, whose bytes were taken apart.
    pub(crate) fn push_planes(&mut self, place: Address, bytes: &[u8]) {
        planes::together(bytes, self.room(1));
        self.places.push(place);
    }

    /// Another order: `order` has each slot once. `spare` is a buffer, which is kept for the next time.
    pub(crate) fn reorder(&mut self, order: impl Iterator<Item = usize>, spare: &mut Vec<u8>) {
        let places = core::mem::take(&mut self.places);
        self.places.reserve(places.capacity());
        spare.clear();
        for slot in order {
            if let Some(&place) = places.get(slot) {
                let from = slot * self.page_size.bytes();
                let page = self.bytes.get(from..from + self.page_size.bytes());
                spare.extend_from_slice(page.unwrap_or_default());
                self.places.push(place);
            }
        }
        core::mem::swap(&mut self.bytes, spare);
    }

    /// Another page, whose content is not known yet, and what it may be made from, which is shorter than a page; returns its slot.
    pub(crate) fn push_unknown(&mut self, place: Address, from: &[u8]) -> usize {
        if let Some(hole) = self.room(1).get_mut(..from.len()) {
            hole.copy_from_slice(from);
        }
        self.places.push(place);
        self.places.len() - 1
    }

    /// Room for so many pages behind those that are there, with bytes of no meaning in it.
    pub(crate) fn room(&mut self, pages: usize) -> &mut [u8] {
        let len = self.len();
        let end = len + pages * self.page_size.bytes();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[len..end]
    }

    /// Another page: the one `ahead` pages into the room.
    pub(crate) fn push_from_room(&mut self, place: Address, ahead: usize) {
        if ahead > 0 {
            let slot = self.places.len();
            self.copy(slot + ahead, slot);
        }
        self.places.push(place);
    }

    /// All pages, back to back.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    fn len(&self) -> usize {
        self.places.len() * self.page_size.bytes()
    }

    /// Where each of them goes.
    pub(crate) fn places(&self) -> &[Address] {
        &self.places
    }

    /// The content in a slot.
    pub(crate) fn page(&self, slot: usize) -> &[u8] {
        &self.bytes[self.range(slot)]
    }

    pub(crate) fn page_mut(&mut self, slot: usize) -> &mut [u8] {
        let range = self.range(slot);
        &mut self.bytes[range]
    }

    /// Gives a slot the content of another.
    pub(crate) fn copy(&mut self, from: usize, to: usize) {
        let (from, to) = (self.range(from), self.range(to));
        self.bytes.copy_within(from, to.start);
    }

    fn range(&self, slot: usize) -> Range<usize> {
        let page_size = self.page_size.bytes();
        slot * page_size..(slot + 1) * page_size
    }

    /// Gives back the memory for pages that did not come: what waits for other batches takes no more than it says.
    pub(crate) fn shrink(&mut self) {
        self.bytes.truncate(self.len());
        self.bytes.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// Makes [`Contents::last_before`] know the pages that are there.
    pub(crate) fn sort(&mut self) {
        self.index.clear();
        let slots = self.places.iter().enumerate();
        self.index.extend(slots.map(|(slot, &place)| (place, slot)));
        // Guests' pages come mostly in order, which this finds out in one pass.
        self.index.sort_unstable();
    }

    /// The last slot below `before` that was for `place`: what a reference to that page means.
    pub(crate) fn last_before(&self, place: Address, before: usize) -> Option<usize> {
        let end = self.index.partition_point(|&entry| entry < (place, before));
        match self.index.get(end.checked_sub(1)?) {
            Some(&(found, slot)) if found == place => Some(slot),
            _ => None,
        }
    }

    /// The slots whose page has a later one, when they are sorted.
    pub(crate) fn slots_before_last(&self) -> impl Iterator<Item = usize> {
        let pairs = self.index.array_windows();
        pairs.filter_map(|&[(page, slot), (next, _)]| (page == next).then_some(slot))
    }

    /// The slots of the pages from `first` on, `run` of them, when they are sorted.
    pub(crate) fn slots_within(&self, first: Address, run: u64) -> impl Iterator<Item = usize> {
        let start = self.index.partition_point(|&(page, _)| page < first);
        let within = move |&&(page, _): &&(Address, usize)| {
            page.block == first.block && page.page - first.page < run
        };
        self.index[start..]
            .iter()
            .take_while(within)
            .map(|&(_, slot)| slot)
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.index.clear();
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("pages", &self.places.len())
            .field("bytes", &Redacted(self.bytes()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PAGE_SIZE_MIN;

    #[test]
    fn a_page_means_its_last_content_before() {
        let mut contents = Contents::new(PageSize::new(PAGE_SIZE_MIN).unwrap());
        let at = |page| Address { block: 0, page };
        for (page, fill) in [(5, 1), (3, 2), (5, 3), (9, 4)] {
            contents.push(at(page), &[fill; PAGE_SIZE_MIN]);
        }
        contents.sort();
        assert_eq!(contents.last_before(at(5), WHOLE_BATCH), Some(2));
        assert_eq!(contents.last_before(at(5), 2), Some(0));
        assert_eq!(contents.last_before(at(5), 0), None);
        assert_eq!(contents.last_before(at(3), WHOLE_BATCH), Some(1));
        assert_eq!(contents.last_before(at(4), WHOLE_BATCH), None);
        assert_eq!(contents.page(2)[0], 3);
    }
}
