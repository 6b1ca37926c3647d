//! A batch as it is gathered at the source: what QEMU handed over, in order.
//!
//! ```text
//!   page · page · zero · opaque · page …  ─▶  Draft  ─▶  Finder ─▶  Encoder
//!        guest memory, read by addresses  ─▶   │
//!                                              │
//!          a page is looked at and copied once └─ contents, back to back: no reference to guest memory
//! ```
//!
//! A draft takes only what certainly fits a body, however badly it compresses.

use alloc::vec::Vec;
use core::ops::Range;

use crate::body::{BODY_MAX, HEADER_LEN};
use crate::budget::{CONTENT_BYTES, RECORDS_MAX, ZEROS_MAX};
use crate::contents::Contents;
use crate::fingerprint::PART;
use crate::kind::Kind;
use crate::layout::{Address, PageSize};
use crate::listing::{Entry, Listing};
use crate::patch::{Diff, Patch, WrongLength};
use crate::record::Origin;
use crate::redacted::Redacted;

/// Tag, block (below 1,024: two bytes) and page (below 2^52: eight bytes).
const ADDRESSED: usize = 1 + 2 + 8;
/// A run of zeros: an address, and below 2^18 for the run.
const ZERO: usize = ADDRESSED + 3;
/// An opaque record's tag, its channel of 16 bits, and a length below 2^21.
const OPAQUE: usize = 1 + 3 + 3;
/// The tag is all.
const BARRIER: usize = 1;
/// Opaque bytes that a cleared draft keeps room for: between pages there are few.
const OPAQUE_KEPT: usize = 64 << 10;
/// One less than a batch may have: the group around them is one as well.
const RECORDS: usize = RECORDS_MAX - 1;

/// A batch in the making.
pub struct Draft {
    contents: Contents,
    listing: Listing,
    /// The pages whose content, or most of it, was sent before, in the order of their slots.
    references: Vec<Reference>,
    /// Of the references that have one.
    patches: Vec<u8>,
    /// By slot, what the pages look like, once that was looked at.
    kinds: Vec<Kind>,
    /// From this slot on there is nothing but noise, and none before it. None when it was not looked at, or noise stands elsewhere too.
    noise: Option<usize>,
    /// Bytes of the body, at worst.
    described: usize,
    zeros: u64,
    /// Something was handed over as a page that is none.
    wrong: Option<WrongLength>,
}

/// A page that is named instead of sent.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) slot: usize,
    pub(crate) origin: Origin,
    /// What to change in what is named: a part of the draft's patches.
    pub(crate) patch: Option<Range<usize>>,
}

/// The batch has no room for it: send this one and begin the next. An empty one has room for a page, for zeros, for opaque bytes and for
/// a barrier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the batch has no room for it")
    }
}

impl core::error::Error for Full {}

/// Why pages were not read into a draft.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unread<E> {
    /// See [`Full`].
    Full,
    /// Reading them failed.
    Failed(E),
}

impl<E> core::fmt::Display for Unread<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "the batch has no room for so many pages",
            Self::Failed(_) => "the pages could not be read from the guest",
        })
    }
}

impl<E: core::error::Error + 'static> core::error::Error for Unread<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Failed(error) => Some(error),
        }
    }
}

impl Draft {
    /// An empty one. Takes the memory for its pages at once.
    #[must_use]
    pub fn new(page_size: PageSize) -> Self {
        Self {
            contents: Contents::new(page_size),
            listing: Listing::default(),
            references: Vec::new(),
            patches: Vec::new(),
            kinds: Vec::new(),
            noise: None,
            described: HEADER_LEN,
            zeros: 0,
            wrong: None,
        }
    }

    /// A page with what it holds, which is copied. One of nothing but zeros joins the zeros.
    ///
    /// What is not a page in length is remembered, and the draft is refused when it is to be encoded.
    ///
    /// # Errors
    /// When there is no room.
    pub fn page(&mut self, at: Address, content: &[u8]) -> Result<(), Full> {
        let page_size = self.contents.page_size().bytes();
        if let Err(wrong) = WrongLength::check(page_size, content.len()) {
            self.wrong.get_or_insert(wrong);
            return Ok(());
        }
        if is_zero(content) {
            return self.zero(at);
        }
        if self.contents.bytes().len() + page_size > CONTENT_BYTES {
            return Err(Full);
        }
        self.describe(ADDRESSED + page_size)?;
        self.contents.push(at, content);
        self.listing.page();
        Ok(())
    }

    /// `run` pages from `first` on, whose contents `fill` reads, all at once. Those of nothing but zeros join the zeros.
    ///
    /// # Errors
    /// When there is no room, or `fill` fails; the draft is what it was then.
    pub fn read<E>(
        &mut self,
        first: Address,
        run: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), Unread<E>> {
        let pages = (0..run as u64).map(|further| Address {
            page: first.page.saturating_add(further),
            ..first
        });
        self.read_all(pages, run, fill)
    }

    /// The pages at these addresses, likewise.
    ///
    /// # Errors
    /// When there is no room, or `fill` fails; the draft is what it was then.
    pub fn read_scattered<E>(
        &mut self,
        pages: &[Address],
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), Unread<E>> {
        self.read_all(pages.iter().copied(), pages.len(), fill)
    }

    fn read_all<E>(
        &mut self,
        places: impl Iterator<Item = Address>,
        pages: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), Unread<E>> {
        if pages > self.room() {
            return Err(Unread::Full);
        }
        fill(self.contents.room(pages)).map_err(Unread::Failed)?;
        // Zeros leave the room, and what follows them moves up.
        let mut zeros = 0;
        let page_size = self.contents.page_size().bytes();
        for place in places {
            let room = self.contents.room(zeros + 1);
            let added = if is_zero(room.get(zeros * page_size..).unwrap_or_default()) {
                zeros += 1;
                self.zero(place)
            } else {
                let described = self.describe(ADDRESSED + page_size);
                self.contents.push_from_room(place, zeros);
                self.listing.page();
                described
            };
            debug_assert!(added.is_ok(), "there was room for all of them");
        }
        Ok(())
    }

    /// A page of zeros; behind another one it makes that run longer.
    ///
    /// # Errors
    /// When there is no room.
    pub fn zero(&mut self, at: Address) -> Result<(), Full> {
        if self.zeros == ZEROS_MAX {
            return Err(Full);
        }
        if !self.listing.one_more_zero(at) {
            self.describe(ZERO)?;
            self.listing.zero(at, 1);
        }
        self.zeros += 1;
        Ok(())
    }

    /// Bytes of a channel that are not pages. The pages behind them, up to the next opaque bytes, belong to that channel. Returns how many
    /// of the bytes it took: the others are for the next batch.
    ///
    /// # Errors
    /// When there is no room for a single one.
    pub fn opaque(&mut self, channel: u16, bytes: &[u8]) -> Result<usize, Full> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let joins = self.listing.ends_in_opaque(channel);
        let head = if joins { 0 } else { OPAQUE };
        let room = BODY_MAX.saturating_sub(self.described + head);
        let taken = bytes.get(..room).unwrap_or(bytes);
        if taken.is_empty() || (!joins && self.listing.len() >= RECORDS) {
            return Err(Full);
        }
        self.described += head + taken.len();
        if !self.listing.more_opaque(channel, taken) {
            self.listing.opaque(channel, taken);
        }
        Ok(taken.len())
    }

    /// All before it, in this batch and in those before, is placed and verified before anything after it is used.
    ///
    /// # Errors
    /// When there is no room.
    pub fn barrier(&mut self) -> Result<(), Full> {
        self.describe(BARRIER)?;
        self.listing.barrier();
        Ok(())
    }

    /// One more record, of `bytes` at most.
    fn describe(&mut self, bytes: usize) -> Result<(), Full> {
        let described = self.described + bytes;
        if described > BODY_MAX || self.listing.len() >= RECORDS {
            return Err(Full);
        }
        self.described = described;
        Ok(())
    }

    /// So many pages, and so many opaque bytes in front of them, certainly fit: what must not be torn apart can ask first.
    #[must_use]
    pub fn fits(&self, pages: usize, opaque: usize) -> bool {
        let content = pages.saturating_mul(self.contents.page_size().bytes());
        // A page may turn out to be zero, and its record then is the longer one.
        let records = pages.saturating_mul(ZERO).saturating_add(OPAQUE);
        let described = content.saturating_add(records).saturating_add(opaque);
        content <= CONTENT_BYTES - self.contents.bytes().len()
            && described <= BODY_MAX - self.described
            && pages < RECORDS - self.listing.len().min(RECORDS)
            && pages as u64 <= ZEROS_MAX - self.zeros
    }

    /// How many pages certainly fit.
    #[must_use]
    pub fn room(&self) -> usize {
        let page_size = self.contents.page_size().bytes();
        let contents = (CONTENT_BYTES - self.contents.bytes().len()) / page_size;
        let described = (BODY_MAX - self.described) / (page_size + ZERO);
        let records = RECORDS - self.listing.len().min(RECORDS);
        let zeros = usize::try_from(ZEROS_MAX - self.zeros).unwrap_or(usize::MAX);
        contents.min(described).min(records).min(zeros)
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listing.len() == 0 && self.wrong.is_none()
    }

    /// Bytes of the pages that are not zero.
    #[must_use]
    pub fn content_len(&self) -> usize {
        self.contents.bytes().len()
    }

    /// Opaque bytes.
    #[must_use]
    pub fn opaque_len(&self) -> usize {
        self.listing.opaque_len()
    }

    /// Bytes of memory that it takes, and will take at the receiver.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.content_len() + self.listing.memory()
    }

    /// Pages of zeros.
    #[must_use]
    pub const fn zero_pages(&self) -> u64 {
        self.zeros
    }

    /// What is in it, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.listing.entries(&self.contents)
    }

    /// The pages in it and how many follow each, in order.
    pub fn addresses(&self) -> impl Iterator<Item = (Address, u64)> {
        self.listing.addresses(&self.contents)
    }

    /// Forgets all that is in it, and keeps the memory.
    pub fn clear(&mut self) {
        self.contents.clear();
        self.listing.clear(OPAQUE_KEPT);
        self.references.clear();
        self.patches.clear();
        self.kinds.clear();
        self.noise = None;
        self.described = HEADER_LEN;
        self.zeros = 0;
        self.wrong = None;
    }

    pub(crate) const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Looks at what the pages look like, and puts those that look alike next to each other as far as their order means nothing: between two things that
    /// are not pages, and unless a page is in it twice. To be done before it is looked for what was sent. `spare` is a buffer, which is kept for the next time.
    pub fn arrange(&mut self, spare: &mut Vec<u8>) {
        let slots = 0..self.contents.places().len();
        self.kinds.clear();
        let kinds = slots.map(|slot| Kind::of(self.contents.page(slot)));
        self.kinds.extend(kinds);
        self.reorder(spare);
        let is_noise = |kind: &Kind| *kind == Kind::Noise;
        let last = self.kinds.iter().rev().take_while(|kind| is_noise(kind));
        let before = self.kinds.len() - last.count();
        let elsewhere = self.kinds.iter().take(before).any(is_noise);
        self.noise = (!elsewhere).then_some(before);
    }

    /// Sorts the pages by kind where their order means nothing.
    fn reorder(&mut self, spare: &mut Vec<u8>) {
        let Some(stretches) = self.listing.stretches() else {
            return;
        };
        self.contents.sort();
        if self.contents.slots_before_last().next().is_some() || self.zeroed_too() {
            return;
        }
        let mut order: Vec<usize> = (0..self.kinds.len()).collect();
        let mut rest = order.as_mut_slice();
        for pages in &stretches {
            let Some((stretch, behind)) = rest.split_at_mut_checked(*pages) else {
                return;
            };
            // Stable: within a kind the order of addresses is the best.
            stretch.sort_by_key(|&slot| self.kinds.get(slot));
            rest = behind;
        }
        self.contents.reorder(order.iter().copied(), spare);
        let kinds = order
            .iter()
            .filter_map(|&slot| self.kinds.get(slot).copied());
        self.kinds = kinds.collect();
    }

    /// A page with content is among the zeros as well.
    fn zeroed_too(&self) -> bool {
        let mut zeros = self.listing.zeros();
        zeros.any(|(first, run)| self.contents.slots_within(first, run).next().is_some())
    }

    /// What the page in a slot looks like, if that was looked at.
    pub(crate) fn kind(&self, slot: usize) -> Option<Kind> {
        self.kinds.get(slot).copied()
    }

    /// The slot from which on there is nothing but noise, where none stands before it; the end where there is none at all. None when that is not known.
    pub(crate) const fn noise(&self) -> Option<usize> {
        self.noise
    }

    /// Makes it known which pages are in it, and where.
    pub(crate) fn sort(&mut self) {
        self.contents.sort();
    }

    pub(crate) const fn listing(&self) -> &Listing {
        &self.listing
    }

    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The bytes of a reference's patch.
    pub(crate) fn patch(&self, range: Range<usize>) -> &[u8] {
        self.patches.get(range).unwrap_or_default()
    }

    /// The content of `slot` was sent before. Told in the order of slots.
    pub(crate) fn same_as(&mut self, slot: usize, origin: Origin) {
        self.references.push(Reference {
            slot,
            origin,
            patch: None,
        });
    }

    /// The content of `slot` differs from what was sent before in those of its parts that `changed` says: by a patch of at most so many bytes, or it is
    /// not named. Told in the order of slots.
    pub(crate) fn changed(
        &mut self,
        slot: usize,
        origin: Origin,
        changed: impl Iterator<Item = bool>,
        most: usize,
    ) -> bool {
        let start = self.patches.len();
        let page = self.contents.page(slot);
        let patch = match Patch::of_parts(page, PART, changed, most, &mut self.patches) {
            Diff::Patched { len } => Some(start..start + len),
            Diff::Same => None,
            Diff::TooLong => return false,
        };
        self.references.push(Reference {
            slot,
            origin,
            patch,
        });
        true
    }

    pub(crate) const fn wrong(&self) -> Option<WrongLength> {
        self.wrong
    }
}

impl core::fmt::Debug for Draft {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Patches are guest memory.
        f.debug_struct("Draft")
            .field("contents", &self.contents)
            .field("listing", &self.listing)
            .field("references", &self.references)
            .field("patches", &Redacted(&self.patches))
            .field("zeros", &self.zeros)
            .field("wrong", &self.wrong)
            .finish_non_exhaustive()
    }
}

/// Nothing but zeros. Comparing a page with itself, a step further on, is
/// the C library's own fastest loop: 88 GB/s where the page is in the cache, and no slower without optimisation.
fn is_zero(page: &[u8]) -> bool {
    const STEP: usize = 16;
    match page.split_first_chunk::<STEP>() {
        Some((first, rest)) => *first == [0; STEP] && *rest == page[..rest.len()],
        None => page.iter().all(|&byte| byte == 0),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::layout::PAGE_SIZE_MIN;

    #[test]
    fn a_page_is_zero_when_each_of_its_bytes_is() {
        let mut page = vec![0; PAGE_SIZE_MIN];
        assert!(is_zero(&page));
        for at in 0..PAGE_SIZE_MIN {
            page[at] = 1;
            assert!(!is_zero(&page), "{at}");
            page[at] = 0;
        }
    }
}
