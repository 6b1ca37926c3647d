//! A batch as it is gathered at the source: what QEMU handed over, in order.
//!
//! ```text
//!   page · page · zero · opaque · page …  ─▶  Draft  ─▶  Duplicates (serial)  ─▶  Encoder (any thread)
//!                                              │
//!          a page is looked at and copied once └─ contents, back to back: no reference to guest memory
//! ```
//!
//! A draft takes only what certainly fits a body, however badly it compresses.

use alloc::vec::Vec;

use crate::body::{BODY_MAX, HEADER_LEN};
use crate::budget::{CONTENT_BYTES, RECORDS_MAX, ZEROS_MAX};
use crate::contents::Contents;
use crate::layout::{Address, PageSize};
use crate::listing::{Entry, Listing};
use crate::patch::WrongLength;
use crate::record::Origin;

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
#[derive(Debug)]
pub struct Draft {
    contents: Contents,
    listing: Listing,
    /// By slot: the pages whose content was sent before.
    origins: Vec<(usize, Origin)>,
    /// Bytes of the body, at worst.
    described: usize,
    zeros: u64,
    /// Something was handed over as a page that is none.
    wrong: Option<WrongLength>,
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

impl Draft {
    /// An empty one. Takes the memory for its pages at once.
    #[must_use]
    pub fn new(page_size: PageSize) -> Self {
        Self {
            contents: Contents::new(page_size),
            listing: Listing::default(),
            origins: Vec::new(),
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
        self.origins.clear();
        self.described = HEADER_LEN;
        self.zeros = 0;
        self.wrong = None;
    }

    pub(crate) const fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(crate) const fn contents_mut(&mut self) -> &mut Contents {
        &mut self.contents
    }

    pub(crate) const fn listing(&self) -> &Listing {
        &self.listing
    }

    pub(crate) fn origins(&self) -> &[(usize, Origin)] {
        &self.origins
    }

    /// The content of `slot` was sent before. Told in the order of slots.
    pub(crate) fn came_from(&mut self, slot: usize, origin: Origin) {
        self.origins.push((slot, origin));
    }

    pub(crate) const fn wrong(&self) -> Option<WrongLength> {
        self.wrong
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
