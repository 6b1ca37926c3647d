//! Whether a block's memory is what it is taken for: some of its pages go through QEMU, and are read back.
//!
//! ```text
//!   first pages ─▶ relay ─▶ ping ─▶ QEMU ─▶ pong ─▶ read them ─┬─ equal: the block is placed from here on
//!       └──────────── kept ────────────────────────────────────┴─ not: it goes on by the stream
//! ```

use std::collections::BTreeMap;

use super::GuestMemory;

/// So many pages, each different from the others, are compared: nothing but the right memory has them all, at the right places.
const SAMPLES: usize = 32;

/// Pages of a block that went through QEMU, and what is in them.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// By their number in the block. Never shown: they are the guest's.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Samples {
    /// A page that QEMU was given.
    pub(super) fn page(&mut self, page: u64, content: &[u8]) {
        let is_new = || {
            let mut kept = self.pages.values();
            self.pages.len() < SAMPLES && kept.all(|kept| **kept != *content)
        };
        if self.pages.contains_key(&page) || is_new() {
            self.pages.insert(page, content.into());
        }
    }

    /// Pages of zeros that QEMU was given.
    pub(super) fn zeros(&mut self, first: u64, run: u64) {
        let end = first.saturating_add(run);
        self.pages.retain(|page, _| !(first..end).contains(page));
    }

    /// There are enough of them.
    pub(super) fn suffice(&self) -> bool {
        self.pages.len() >= SAMPLES
    }

    /// Compares them with memory, once QEMU has loaded them all.
    pub(super) fn compare(&self, memory: &dyn GuestMemory, block: u16) -> Result<(), String> {
        for (&page, content) in &self.pages {
            let mut found = vec![0; content.len()];
            let offset = page * content.len() as u64;
            memory.read(block, offset, &mut found)?;
            if *found != **content {
                return Err(format!(
                    "what QEMU has loaded into page {page} is not what is found there: the memory is taken for another's"
                ));
            }
        }
        Ok(())
    }
}
