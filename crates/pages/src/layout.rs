//! The shape of a guest's memory as both ends admitted it: page size, RAM blocks, and what else they agreed on.
//!
//! Every number in a record is checked against it, in both directions.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::agreed::{Agreed, Codecs};
use crate::digest::Algorithm;
use crate::refusal::Refusal;

/// The smallest page: what every architecture that QEMU runs under KVM has.
pub const PAGE_SIZE_MIN: usize = 4 << 10;
/// The largest page: 64 KiB, of aarch64 and ppc64 guests. Beyond it a page would crowd a batch.
pub const PAGE_SIZE_MAX: usize = 64 << 10;
/// RAM blocks that an admission may list. Guests seen in practice have fewer than twenty.
pub const BLOCKS_MAX: usize = 1024;

/// A page's place: which RAM block, and its number there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address {
    /// The block's place in the admission's list.
    pub block: u16,
    /// Offset in the block, divided by the page size.
    pub page: u64,
}

/// A power of two from [`PAGE_SIZE_MIN`] to [`PAGE_SIZE_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageSize(usize);

impl PageSize {
    /// # Errors
    /// When `bytes` is not a power of two within the bounds.
    pub const fn new(bytes: usize) -> Result<Self, LayoutError> {
        if bytes < PAGE_SIZE_MIN || bytes > PAGE_SIZE_MAX || !bytes.is_power_of_two() {
            return Err(LayoutError::PageSize { found: bytes });
        }
        Ok(Self(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// Pages that a block can have before the offset of its last byte no longer fits 64 bits.
    #[must_use]
    pub const fn pages_max(self) -> u64 {
        1 << (u64::BITS - self.0.trailing_zeros())
    }
}

/// What records are checked against.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    page_size: PageSize,
    /// Pages per RAM block, in the admission's order.
    blocks: Vec<u64>,
    agreed: Agreed,
}

impl Layout {
    /// A layout of blocks with so many pages each, in the admission's order.
    ///
    /// # Errors
    /// When there are more than [`BLOCKS_MAX`] blocks, or one has more than [`PageSize::pages_max`] pages.
    pub fn new(page_size: PageSize, blocks: Vec<u64>) -> Result<Self, LayoutError> {
        if blocks.len() > BLOCKS_MAX {
            return Err(LayoutError::Blocks {
                found: blocks.len(),
            });
        }
        let pages_max = page_size.pages_max();
        if let Some(&found) = blocks.iter().find(|&&pages| pages > pages_max) {
            return Err(LayoutError::Pages { found, pages_max });
        }
        Ok(Self {
            page_size,
            blocks,
            agreed: Agreed::default(),
        })
    }

    /// The layout that takes every address, codec and age that the wire can carry: for tools that look at a body without
    /// its admission.
    #[must_use]
    pub fn widest(page_size: PageSize, digest: Algorithm) -> Self {
        Self {
            page_size,
            blocks: vec![page_size.pages_max(); BLOCKS_MAX],
            agreed: Agreed {
                digest,
                codecs: Codecs::ALL,
                oldest: u64::MAX,
                ..Agreed::default()
            },
        }
    }

    /// The same layout with what else both ends agreed on; [`Agreed::default`] until then.
    #[must_use]
    pub fn with_agreed(self, agreed: Agreed) -> Self {
        Self { agreed, ..self }
    }

    /// The page size of all blocks.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// What else both ends agreed on.
    #[must_use]
    pub const fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Narrows a block number from the wire.
    pub(crate) fn check_block(&self, block: u64) -> Result<u16, Refusal> {
        match u16::try_from(block) {
            Ok(narrow) if usize::from(narrow) < self.blocks.len() => Ok(narrow),
            _ => Err(Refusal::UnknownBlock {
                block,
                blocks: self.blocks.len(),
            }),
        }
    }

    /// The page is there.
    #[inline]
    pub(crate) fn check_page(&self, address: Address) -> Result<(), Refusal> {
        let Address { block, page } = address;
        let Some(&pages) = self.blocks.get(usize::from(block)) else {
            return Err(Refusal::UnknownBlock {
                block: block.into(),
                blocks: self.blocks.len(),
            });
        };
        if page >= pages {
            return Err(Refusal::PageBeyondBlock { block, page, pages });
        }
        Ok(())
    }

    /// The page and `more` pages behind it are there; returns the last one.
    pub(crate) fn check_run(&self, first: Address, more: u64) -> Result<Address, Refusal> {
        self.check_page(first)?;
        let Address { block, page } = first;
        let pages = self
            .blocks
            .get(usize::from(block))
            .copied()
            .unwrap_or_default();
        match page.checked_add(more) {
            Some(last) if last < pages => Ok(Address { block, page: last }),
            _ => Err(Refusal::RunBeyondBlock {
                block,
                page,
                more,
                pages,
            }),
        }
    }
}

/// Why a layout cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayoutError {
    /// Not a power of two from 4 KiB to 64 KiB.
    PageSize {
        /// The size given.
        found: usize,
    },
    /// More than [`BLOCKS_MAX`] blocks.
    Blocks {
        /// How many there are.
        found: usize,
    },
    /// A block larger than 64 bits can address.
    Pages {
        /// Pages of that block.
        found: u64,
        /// The most it can have at this page size.
        pages_max: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize { found } => write!(
                f,
                "page size: expected a power of two from {PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}, found {found}"
            ),
            Self::Blocks { found } => {
                write!(
                    f,
                    "RAM blocks: expected at most {BLOCKS_MAX}, found {found}"
                )
            }
            Self::Pages { found, pages_max } => {
                write!(
                    f,
                    "pages of a RAM block: expected at most {pages_max}, found {found}"
                )
            }
        }
    }
}

impl core::error::Error for LayoutError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_size_is_a_power_of_two_within_bounds() {
        for bad in [0, 1, 2048, 4095, 6144, 128 << 10, usize::MAX] {
            assert_eq!(
                PageSize::new(bad),
                Err(LayoutError::PageSize { found: bad })
            );
        }
        for good in [4, 8, 16, 32, 64] {
            assert_eq!(PageSize::new(good << 10).unwrap().bytes(), good << 10);
        }
    }

    #[test]
    fn a_block_ends_where_64_bits_do() {
        let small = PageSize::new(PAGE_SIZE_MIN).unwrap();
        assert_eq!(small.pages_max(), 1 << 52);
        assert!(Layout::new(small, vec![1 << 52]).is_ok());
        assert!(matches!(
            Layout::new(small, vec![(1 << 52) + 1]),
            Err(LayoutError::Pages { .. })
        ));
        assert_eq!(PageSize::new(PAGE_SIZE_MAX).unwrap().pages_max(), 1 << 48);
    }

    #[test]
    fn a_layout_has_at_most_1024_blocks() {
        let size = PageSize::new(PAGE_SIZE_MIN).unwrap();
        assert!(Layout::new(size, vec![1; BLOCKS_MAX]).is_ok());
        assert!(matches!(
            Layout::new(size, vec![1; BLOCKS_MAX + 1]),
            Err(LayoutError::Blocks { found: 1025 })
        ));
    }
}
