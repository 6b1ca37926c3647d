//! The guest's RAM blocks, as the stream lists them.

use alloc::vec::Vec;

use crate::PageSize;
use crate::name::{Name, NameBuf};

/// A block's place in the stream's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u16);

impl BlockId {
    /// The place, counted from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One RAM block: main memory, a ROM, a device's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    name: NameBuf,
    used: u64,
}

impl Block {
    /// Its name, such as `pc.ram`.
    pub fn name(&self) -> Name<'_> {
        self.name.as_name()
    }

    /// Bytes of it in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Whether a whole page lies at this offset.
    pub(crate) fn holds_page(&self, offset: u64, page: PageSize) -> bool {
        page.is_aligned(offset)
            && offset
                .checked_add(page.bytes() as u64)
                .is_some_and(|end| end <= self.used)
    }
}

/// The list of RAM blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    list: Vec<Block>,
    /// The places of the blocks in the order of their names: a stream may name one in each of its records.
    by_name: Vec<BlockId>,
}

impl Blocks {
    /// The most blocks that are kept. A guest has one per memory backend and DIMM (256 slots at the most), and one per ROM and device
    /// memory; with names of 255 bytes this comes to 300 KiB.
    pub const MAX: usize = 1024;

    /// All blocks, in the stream's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.list.iter()
    }

    /// Whether none has been listed.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The block at so many places from the first.
    pub fn id(&self, index: usize) -> Option<BlockId> {
        let id = u16::try_from(index).ok().map(BlockId)?;
        self.block(id).map(|_| id)
    }

    /// The block of this id.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.list.get(id.index())
    }

    /// The block of this name.
    pub fn find(&self, name: Name<'_>) -> Option<BlockId> {
        let place = self.search(name).ok()?;
        self.by_name.get(place).copied()
    }

    fn search(&self, name: Name<'_>) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|id| self.block(*id).map(Block::name).cmp(&Some(name)))
    }

    /// Adds a block, unless there are too many or one has this name already.
    pub(crate) fn push(&mut self, name: Name<'_>, used: u64) -> Option<BlockId> {
        let Err(place) = self.search(name) else {
            return None;
        };
        if self.list.len() >= Self::MAX {
            return None;
        }
        let id = u16::try_from(self.list.len()).ok().map(BlockId)?;
        self.by_name.insert(place, id);
        self.list.push(Block {
            name: name.into(),
            used,
        });
        Some(id)
    }
}
