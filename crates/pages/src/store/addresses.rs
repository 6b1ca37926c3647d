//! From a page to its entry: chains, of which the heads are here and the rest in the entries. Exact, unlike the fingerprints' places: a page
//! has one entry.

use alloc::vec;
use alloc::vec::Vec;

use crate::layout::Address;

/// Odd, so that a multiplication loses nothing.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The heads of the chains: an entry and one, 0 for none. As many as entries, so that a chain is short.
pub(super) struct Addresses {
    heads: Vec<u32>,
    key: u64,
}

impl Addresses {
    /// Bytes that it takes for each entry.
    pub(super) const EACH: usize = 4;

    pub(super) fn new(entries: usize, key: u64) -> Self {
        let heads = vec![0; entries];
        Self { heads, key }
    }

    /// The first entry of the page's chain.
    pub(super) fn first(&self, page: Address) -> Option<usize> {
        entry(self.head(page))
    }

    /// The same as a chain has it.
    pub(super) fn head(&self, page: Address) -> u32 {
        let chain = self.chain(page);
        self.heads.get(chain).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, page: Address, head: u32) {
        let chain = self.chain(page);
        if let Some(place) = self.heads.get_mut(chain) {
            *place = head;
        }
    }

    pub(super) fn set_head(&mut self, page: Address, entry: usize) {
        self.set(page, link(entry));
    }

    fn chain(&self, page: Address) -> usize {
        let number = (page.page ^ u64::from(page.block) << 52 ^ self.key).wrapping_mul(MULTIPLIER);
        let number = (number ^ number >> 32).wrapping_mul(MULTIPLIER);
        within(number, self.heads.len())
    }
}

/// An entry as a table has it.
pub(super) fn link(entry: usize) -> u32 {
    // The store has fewer than 2^32 - 1 entries.
    u32::try_from(entry + 1).unwrap_or(0)
}

/// An entry of a table.
pub(super) fn entry(link: u32) -> Option<usize> {
    (link as usize).checked_sub(1)
}

/// The high half of a number, as one below `len`: without a division, and without a length that must be a power of two.
pub(super) fn within(number: u64, len: usize) -> usize {
    let high = (u128::from(number) * len as u128) >> 64;
    usize::try_from(high).unwrap_or(0)
}
