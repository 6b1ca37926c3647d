//! What a batch may name: the newest content of a page as of that batch, as far as the receiver has it.
//!
//! ```text
//!   version map        page a: 7    page b: 12    page c: 15         as it is now, with batches behind this one in it
//!   batch 12, before   page b: 9                                     as it was when the batch got its number
//!
//!   newest as of 12    a: 7         b: 9          c: not known any more
//!
//!   the receiver has   the last batches, and of blocks that it places everything, until its QEMU has to load pages itself
//! ```

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

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
        self.shared.placed.contains(page.block)
            || self.number.saturating_sub(batch) <= self.shared.layout.agreed().oldest
    }
}

/// Blocks whose pages the receiver has in its guest's memory, each as it was last.
#[derive(Debug)]
pub(super) struct PlacedBlocks {
    /// None when there will be no more of them.
    blocks: RwLock<Option<BTreeSet<u16>>>,
}

impl Default for PlacedBlocks {
    fn default() -> Self {
        Self {
            blocks: RwLock::new(Some(BTreeSet::new())),
        }
    }
}

impl PlacedBlocks {
    fn contains(&self, block: u16) -> bool {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        blocks
            .as_ref()
            .is_some_and(|blocks| blocks.contains(&block))
    }

    /// The receiver says so of these.
    pub(super) fn add(&self, blocks: &[u16]) {
        let mut known = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        // What it says late it has taken back by itself, where it has come to the batch that this end knows of already.
        if let Some(known) = known.as_mut() {
            known.extend(blocks);
        }
    }

    /// From the next batch on there are none, for good.
    pub(super) fn close(&self) {
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
