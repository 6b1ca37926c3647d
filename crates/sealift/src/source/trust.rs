//! Direct access is tried before it is trusted: for each block the first pages, whose contents the stream still carries, are read
//! directly too, and compared.
//!
//! ```text
//!            out of reach                              too many differ
//!  Stream ◀──────────────── block ─▶ Trying ──────────────────────────────▶ Stream, and why
//!                                       └─── enough are equal ─▶ Direct
//! ```
//!
//! A running guest may change a page between QEMU's look and ours, so that one which differs says little; many that are equal say all.

use std::sync::Arc;

use sealift_pages::{Address, PageSize};
use sealift_qemu::ram::Reach;

/// Pages that must be equal: each holds something, and the memory of another block, or of this one at another offset, would have to hold the
/// same in all of them.
const EQUAL: u32 = 16;
/// Pages that are looked at before a block is given up: a guest that rewrites three of four pages within the milliseconds in between is
/// none that was ever seen.
const LOOKED: u32 = 64;

/// Which blocks' pages are read directly.
#[derive(Debug)]
pub(crate) struct Trust {
    reach: Arc<Reach>,
    page_bytes: u64,
    blocks: Vec<Block>,
    page: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Block {
    Stream,
    Trying { looked: u32, equal: u32 },
    Direct,
}

/// What has become of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Its pages are read directly from here on.
    Trusted,
    /// What is read is not what QEMU sends: its pages come by the stream.
    Differs,
}

impl Trust {
    /// Trusts none of so many blocks yet.
    pub(crate) fn new(reach: Arc<Reach>, blocks: u16, page_size: PageSize) -> Self {
        let state = |block| match reach.way(block) {
            Some(_) => Block::Trying {
                looked: 0,
                equal: 0,
            },
            None => Block::Stream,
        };
        Self {
            blocks: (0..blocks).map(state).collect(),
            page_bytes: page_size.bytes() as u64,
            page: vec![0; page_size.bytes()],
            reach,
        }
    }

    /// Whether a block's pages are read directly.
    pub(crate) fn is_direct(&self, block: u16) -> bool {
        self.blocks.get(usize::from(block)) == Some(&Block::Direct)
    }

    /// Compares a page that the stream brought, if its block is being tried. Says what has become of the block when that is decided.
    pub(crate) fn compare(&mut self, at: Address, content: &[u8]) -> Option<Verdict> {
        let block = self.blocks.get_mut(usize::from(at.block))?;
        let Block::Trying { looked, equal } = block else {
            return None;
        };
        let read = self
            .reach
            .read(at.block, at.page * self.page_bytes, &mut self.page);
        *looked += 1;
        // What cannot be read now differs: QEMU may end at any time, which others notice.
        *equal += u32::from(read.is_ok() && self.page == content);
        if *equal == EQUAL {
            *block = Block::Direct;
            Some(Verdict::Trusted)
        } else if *looked == LOOKED {
            *block = Block::Stream;
            Some(Verdict::Differs)
        } else {
            None
        }
    }
}
