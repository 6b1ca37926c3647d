//! Direct access is tried before it is trusted: for each block the first pages, whose contents the stream still carries, are read
//! directly too, and compared.
//!
//! ```text
//!            out of reach                    too many differ, or one cannot be read
//!  Stream ◀──────────────── block ─▶ Trying ──────────────────────────────────────▶ Stream, and why
//!                                       └─── enough are equal ─▶ Direct
//! ```
//!
//! A running guest may change a page between QEMU's look and ours, so that one which differs says little; many that are equal say all.

use std::sync::Arc;

use sealift_pages::{Address, PageSize};
use sealift_qemu::ram::{Lost, Reach};

use crate::ending::whole;

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
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Its pages are read directly from here on.
    Trusted,
    /// Its pages come by the stream.
    Distrusted(Distrust),
}

/// Why a block is not read directly, though there is a way to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Distrust {
    /// What is read is not what QEMU sends.
    Differs,
    /// It cannot be read, and why. Later that would end the session.
    Unreadable(String),
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
        if !matches!(block, Block::Trying { .. }) {
            return None;
        }
        let offset = at.page * self.page_bytes;
        let read = self.reach.read(at.block, offset, &mut self.page);
        block.tried(read.map(|()| self.page == content))
    }
}

impl Block {
    /// A page of it was read, and is equal or not.
    fn tried(&mut self, read: Result<bool, Lost>) -> Option<Verdict> {
        let Self::Trying { looked, equal } = self else {
            return None;
        };
        *looked += 1;
        let distrust = match read {
            Ok(is_equal) => {
                *equal += u32::from(is_equal);
                if *equal == EQUAL {
                    *self = Self::Direct;
                    return Some(Verdict::Trusted);
                }
                if *looked < LOOKED {
                    return None;
                }
                Distrust::Differs
            }
            // Which says nothing about the block, and is told elsewhere.
            Err(Lost::QemuGone) => return None,
            Err(lost) => Distrust::Unreadable(whole(&lost)),
        };
        *self = Self::Stream;
        Some(Verdict::Distrusted(distrust))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const TRYING: Block = Block::Trying {
        looked: 0,
        equal: 0,
    };

    #[test]
    fn a_block_is_trusted_when_enough_of_its_pages_are_equal() {
        let mut block = TRYING;
        for _ in 1..EQUAL {
            assert_eq!(block.tried(Ok(false)), None, "the guest writes");
            assert_eq!(block.tried(Ok(true)), None);
        }
        assert_eq!(block.tried(Ok(true)), Some(Verdict::Trusted));
        assert_eq!(block, Block::Direct);
    }

    #[test]
    fn a_block_whose_pages_differ_is_left_to_the_stream() {
        let mut block = TRYING;
        for _ in 1..LOOKED {
            assert_eq!(block.tried(Ok(false)), None);
        }
        let differs = Verdict::Distrusted(Distrust::Differs);
        assert_eq!(block.tried(Ok(false)), Some(differs));
        assert_eq!(block, Block::Stream);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_left_to_the_stream_with_the_reason() {
        let mut block = TRYING;
        let denied = Lost::Denied {
            block: "pc.ram".to_owned(),
            source: io::Error::other("not permitted"),
        };
        let Some(Verdict::Distrusted(Distrust::Unreadable(why))) = block.tried(Err(denied)) else {
            panic!("{block:?}");
        };
        assert!(
            why.contains("CAP_SYS_PTRACE") && why.contains("not permitted"),
            "{why}"
        );
        assert_eq!(block, Block::Stream);
    }

    #[test]
    fn a_qemu_that_has_ended_says_nothing_about_its_blocks() {
        let mut block = TRYING;
        assert_eq!(block.tried(Err(Lost::QemuGone)), None);
        assert_ne!(block, Block::Stream);
    }
}
