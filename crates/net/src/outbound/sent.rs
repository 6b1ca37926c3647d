//! What a batch may name: the newest content of a page as of that batch, as far as the receiver keeps it.
//!
//! ```text
//!   version map     page a: 7    page b: 12    page c: 15            as it is now, perhaps with batches behind this one in it
//!   batch 12        page b, before: 9                               as it was when the batch got its number
//!
//!   newest as of 12     a: 7     b: 9     c: not known any more
//! ```

use std::sync::Mutex;

use sealift_pages::{Address, Draft, Entry, Sent};
use sealift_precopy::VersionMap;

use super::Book;
use crate::lock::lock;

/// For each page of a draft with content, in the order of addresses, the batch with its newest content before the draft is stamped.
pub(super) fn before(draft: &Draft, versions: &VersionMap) -> Vec<(Address, Option<u64>)> {
    let pages = draft.entries().filter_map(|entry| match entry {
        Entry::Page { at, .. } => Some((at, versions.newest(at))),
        Entry::Zero { .. } | Entry::Opaque { .. } | Entry::Barrier => None,
    });
    let mut before: Vec<_> = pages.collect();
    before.sort_unstable();
    before
}

/// What was sent before a batch.
pub(super) struct Earlier<'a> {
    pub(super) number: u64,
    /// How many batches the receiver keeps.
    pub(super) oldest: u64,
    pub(super) before: &'a [(Address, Option<u64>)],
    pub(super) book: &'a Mutex<Book>,
}

impl Sent for Earlier<'_> {
    fn newest(&mut self, page: Address) -> Option<u64> {
        if let Ok(own) = self.before.binary_search_by_key(&page, |&(page, _)| page) {
            let (_, before) = self.before.get(own)?;
            return *before;
        }
        let newest = lock(self.book).versions.newest(page)?;
        (newest < self.number).then_some(newest)
    }

    fn reaches(&mut self, _: Address, batch: u64) -> bool {
        self.number.saturating_sub(batch) <= self.oldest
    }
}
