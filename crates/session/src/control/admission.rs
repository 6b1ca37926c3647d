//! Which guest is to move, and whether it may: `admission.proto`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use sealift_pages::{BLOCKS_MAX, PAGE_SIZE_MIN, PageSize};

use super::bounded::{Bytes, Text};
use super::enumeration::enumeration;
use super::handshake::Offer;
use super::invalid::{Invalid, Why, array, count, number, present};
use super::wire;

/// A guest that is to move.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    /// Its name.
    pub name: Text<255>,
    /// Its UUID; zeros when it has none.
    pub uuid: [u8; 16],
    /// Its machine type.
    pub machine: Text<255>,
    /// Its RAM blocks.
    pub blocks: RamBlocks,
    /// Memory that the receiver's host must have free.
    pub memory_needed: u64,
}

impl Admission {
    /// Its blocks are made of the pages that were offered.
    ///
    /// # Errors
    /// When a block's length is no multiple of the guest's page size, or its backing has smaller pages than the guest.
    pub fn check_within(&self, offer: &Offer) -> Result<(), Invalid> {
        self.check_pages(offer.page_size)
    }

    pub(crate) fn check_pages(&self, page_size: PageSize) -> Result<(), Invalid> {
        let page_size = page_size.bytes() as u64;
        for block in self.blocks.as_slice() {
            let length = block.length();
            if !length.is_multiple_of(page_size) {
                return Err(Why::Alignment { found: length }.of("RamBlock.length"));
            }
            number(
                "RamBlock.page_size",
                block.page_size(),
                page_size,
                BACKING_PAGE_MAX,
            )?;
        }
        Ok(())
    }
}

/// The largest page that backs a guest: x86-64's and aarch64's 1 GiB.
const BACKING_PAGE_MAX: u64 = 1 << 30;
/// All of a guest's memory: 4 PiB, the most that x86-64 can address.
const MEMORY_MAX: u64 = 1 << 52;

/// Up to 1,024 RAM blocks, 4 PiB at most, with different names; none when the stream was not understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RamBlocks(Vec<RamBlock>);

impl RamBlocks {
    /// # Errors
    /// When there are too many, two of one name, or more than 4 PiB of memory.
    pub fn new(blocks: Vec<RamBlock>) -> Result<Self, Invalid> {
        const FIELD: &str = "Admission.blocks";
        count(FIELD, blocks.len(), 0, BLOCKS_MAX)?;
        let mut names = BTreeSet::new();
        let mut total = 0_u64;
        for (index, block) in blocks.iter().enumerate() {
            if !names.insert(block.name.as_slice()) {
                return Err(Why::Repeated { index }.of(FIELD));
            }
            let length = number("RamBlock.length", block.length, 1, MEMORY_MAX - total)?;
            total += length;
        }
        Ok(Self(blocks))
    }

    /// The blocks, in the order by which records number them.
    #[must_use]
    pub fn as_slice(&self) -> &[RamBlock] {
        &self.0
    }
}

/// A RAM block as QEMU names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RamBlock {
    name: Bytes<1, 255>,
    length: u64,
    page_size: u64,
}

impl RamBlock {
    /// A block of `length` bytes, whose backing has pages of `page_size`.
    ///
    /// # Errors
    /// When the length is 0, no multiple of the smallest page or above 4 PiB, or the page size no power of two from
    /// there to 1 GiB.
    pub fn new(name: Bytes<1, 255>, length: u64, page_size: u64) -> Result<Self, Invalid> {
        let smallest = PAGE_SIZE_MIN as u64;
        if length == 0 || !length.is_multiple_of(smallest) {
            return Err(Why::Alignment { found: length }.of("RamBlock.length"));
        }
        number("RamBlock.length", length, smallest, MEMORY_MAX)?;
        if !(smallest..=BACKING_PAGE_MAX).contains(&page_size) || !page_size.is_power_of_two() {
            return Err(Why::Alignment { found: page_size }.of("RamBlock.page_size"));
        }
        Ok(Self {
            name,
            length,
            page_size,
        })
    }

    /// QEMU's name of it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.as_slice()
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The page size of what backs it.
    #[must_use]
    pub const fn page_size(&self) -> u64 {
        self.page_size
    }
}

impl TryFrom<wire::Admission> for Admission {
    type Error = Invalid;

    fn try_from(wire: wire::Admission) -> Result<Self, Invalid> {
        let blocks = wire.blocks.into_iter().map(|block| {
            RamBlock::new(
                Bytes::new("RamBlock.name", block.name)?,
                block.length,
                block.page_size,
            )
        });
        Ok(Self {
            name: Text::new("Admission.name", wire.name)?,
            uuid: array("Admission.uuid", &wire.uuid)?,
            machine: Text::new("Admission.machine", wire.machine)?,
            blocks: RamBlocks::new(blocks.collect::<Result<_, _>>()?)?,
            memory_needed: wire.memory_needed,
        })
    }
}

impl From<Admission> for wire::Admission {
    fn from(admission: Admission) -> Self {
        let block = |RamBlock {
                         name,
                         length,
                         page_size,
                     }| wire::RamBlock {
            name: name.into_vec(),
            length,
            page_size,
        };
        Self {
            name: admission.name.into_string(),
            uuid: admission.uuid.to_vec(),
            machine: admission.machine.into_string(),
            blocks: admission.blocks.0.into_iter().map(block).collect(),
            memory_needed: admission.memory_needed,
        }
    }
}

/// The receiver's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The guest may come.
    Accepted {
        /// Memory that is free on the receiver's host.
        memory_free: u64,
    },
    /// It may not.
    Refused(Refused),
}

/// A guest that may not come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why.
    pub kind: RefusalKind,
    /// Why, in words, and what to do.
    pub explanation: Text<1024>,
}

enumeration! {
    /// Why a guest may not come.
    RefusalKind = wire::RefusalKind {
        /// Not on the allow-list.
        NotAllowed,
        /// Not enough memory.
        Memory,
        /// No QEMU that waits for it.
        Destination,
        /// Too many sessions.
        Busy,
        /// Already here or on its way.
        Duplicate,
        /// Nothing to resume.
        Resume,
    }
}

impl TryFrom<wire::Verdict> for Verdict {
    type Error = Invalid;

    fn try_from(wire: wire::Verdict) -> Result<Self, Invalid> {
        Ok(match present("Verdict.verdict", wire.verdict)? {
            wire::verdict::Verdict::Accepted(accepted) => Self::Accepted {
                memory_free: accepted.memory_free,
            },
            wire::verdict::Verdict::Refused(refused) => Self::Refused(Refused {
                kind: RefusalKind::from_wire("Refused.kind", refused.kind)?,
                explanation: Text::new("Refused.explanation", refused.explanation)?,
            }),
        })
    }
}

impl From<Verdict> for wire::Verdict {
    fn from(verdict: Verdict) -> Self {
        let verdict = match verdict {
            Verdict::Accepted { memory_free } => {
                wire::verdict::Verdict::Accepted(wire::Accepted { memory_free })
            }
            Verdict::Refused(refused) => wire::verdict::Verdict::Refused(wire::Refused {
                kind: refused.kind.to_wire(),
                explanation: refused.explanation.into_string(),
            }),
        };
        Self {
            verdict: Some(verdict),
        }
    }
}
