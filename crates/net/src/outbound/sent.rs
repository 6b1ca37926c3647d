//! What a batch may name: the newest content of a page as of that batch, as far as the receiver has it.
//!
//! ```text
//!   version map        page a: 7    page b: 12    page c: 15         as it is now, with batches behind this one in it
//!   batch 12, before   page b: 9                                     as it was when the batch got its number
//!
//!   newest as of 12    a: 7         b: 9          c: not known any more
//! ```

use std::sync::PoisonError;

use sealift_pages::{Address, Sent};

use super::shared::{Before, Shared};
use crate::lock::lock;

/// What was sent before a batch.
pub(super) struct Earlier<'a> {
    pub(super) number: u64,
    pub(super) before: &'a Before,
    pub(super) shared: &'a Shared,
}

impl Sent for Earlier<'_> {
    fn newest(&mut self, page: Address) -> Option<u64> {
        if let Ok(own) = self.before.binary_search_by_key(&page, |&(page, _)| page) {
            let (_, before) = self.before.get(own)?;
            return *before;
        }
        let newest = lock(&self.shared.book).versions.newest(page)?;
        (newest < self.number).then_some(newest)
    }

    fn reaches(&mut self, page: Address, batch: u64) -> bool {
        let placed = &self.shared.placed;
        let placed = placed.read().unwrap_or_else(PoisonError::into_inner);
        placed.contains(&page.block)
            || self.number.saturating_sub(batch) <= self.shared.layout.agreed().oldest
    }
}
