//! Reaching a guest's RAM from outside its QEMU: reading a running guest's, and writing that of one which waits to arrive.
//!
//! ```text
//!                    ┌ places  is it main memory, and where?   query-memdev, info ramblock, gpa2hva
//!   reach ── block ──┼ maps    what is behind that address?    /proc/PID/maps
//!                    └ a way, or the reason why only the stream is left:
//!                         Mapped    a shared file: pread, pwrite             memory-backend-memfd, -file with share=on
//!                         Process   QEMU's own: process_vm_readv, /proc/PID/mem                      all other backends
//! ```
//!
//! What is found here is believed to be the block, and not proven: whoever uses it compares some pages with what QEMU itself
//! says of them. The guest goes on writing while it is read: what comes out is a copy, maybe of a page in the middle of a
//! change. Pages are written only while the guest cannot run.
//!
//! A [`Reach`] holds descriptors, opened once; the privilege that this takes can be given up afterwards.

mod capabilities;
mod lost;
mod mapped;
mod maps;
mod places;
mod remote;
mod runs;
mod search;

use std::ops::Range;
use std::time::Duration;
use std::{fmt, io, iter};

use crate::{Machine, Process};

pub use capabilities::refused;
pub use lost::{Lost, ReachError};

use mapped::Mapped;
use remote::Remote;
use search::Nowhere;

/// What may be used (`--access`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Want {
    /// The best that there is, for each block.
    #[default]
    Auto,
    /// The backend's file for all main memory, or an error.
    Mapped,
    /// The memory of QEMU's process for all main memory, or an error.
    Process,
    /// Nothing but QEMU's stream.
    Stream,
}

/// A way to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By its backend's file.
    Mapped,
    /// By QEMU's process.
    Process,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapped => "mapped",
            Self::Process => "process",
        })
    }
}

impl Want {
    fn forced(self) -> Option<Way> {
        match self {
            Self::Mapped => Some(Way::Mapped),
            Self::Process => Some(Way::Process),
            Self::Auto | Self::Stream => None,
        }
    }
}

/// What is to be done with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// At a source.
    Read,
    /// At a destination, which reads as well.
    Write,
}

/// A RAM block, as the migration stream lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its name.
    pub name: &'a str,
    /// The bytes in use.
    pub length: u64,
}

/// The ways to a guest's blocks, by their number in the list that was asked for.
#[derive(Debug)]
pub struct Reach {
    blocks: Vec<Found>,
    /// None when nothing is reached.
    process: Option<Process>,
}

#[derive(Debug)]
struct Found {
    name: String,
    length: u64,
    /// All else travels in the stream by nature.
    is_main: bool,
    access: Option<Access>,
    reason: String,
}

#[derive(Debug)]
enum Access {
    Mapped(Mapped),
    Process(Remote),
}

impl Access {
    fn way(&self) -> Way {
        match self {
            Self::Mapped(_) => Way::Mapped,
            Self::Process(_) => Way::Process,
        }
    }
}

/// Looks for a way to each of the blocks.
///
/// That there is none is no failure, unless one was ordered. QEMU must have all of its RAM for good: at a destination,
/// wait until it has read RAM's START section.
pub fn reach(
    machine: &mut Machine,
    blocks: &[Block<'_>],
    want: Want,
    purpose: Purpose,
) -> Result<Reach, ReachError> {
    if want == Want::Stream {
        return Ok(Reach::nothing(blocks, "so ordered by `--access stream`"));
    }
    match (
        search::search(machine, blocks, want, purpose),
        want.forced(),
    ) {
        (Ok(reach), None) => Ok(reach),
        (Ok(reach), Some(way)) => reach.by_order(way),
        (Err(Nowhere::Qmp(error)), _) => Err(ReachError::Qmp(error)),
        (Err(Nowhere::Reason(reason)), None) => Ok(Reach::nothing(blocks, &reason)),
        (Err(Nowhere::Reason(reason)), Some(way)) => Err(ReachError::Forced {
            way,
            block: None,
            reason,
        }),
    }
}

impl Reach {
    fn nothing(blocks: &[Block<'_>], reason: &str) -> Self {
        let blocks = blocks.iter().map(|block| Found {
            name: block.name.to_owned(),
            length: block.length,
            is_main: false,
            access: None,
            reason: reason.to_owned(),
        });
        Self {
            blocks: blocks.collect(),
            process: None,
        }
    }

    /// With a way that is ordered, all main memory must be reached by it, and there must be some.
    fn by_order(self, way: Way) -> Result<Self, ReachError> {
        let refuse = |block: Option<&Found>, reason: &str| ReachError::Forced {
            way,
            block: block.map(|block| block.name.clone()),
            reason: reason.to_owned(),
        };
        let mut main = self.blocks.iter().filter(|block| block.is_main).peekable();
        if main.peek().is_none() {
            return Err(refuse(
                None,
                "the guest has no main memory that is a backend's",
            ));
        }
        match main.find(|block| block.access.is_none()) {
            Some(block) => Err(refuse(Some(block), &block.reason)),
            None => Ok(self),
        }
    }

    /// The way to a block; none when only the stream is left, or when there is no such block.
    #[must_use]
    pub fn way(&self, block: u16) -> Option<Way> {
        self.found(block)?.access.as_ref().map(Access::way)
    }

    /// Why it is this way, or none; for the report.
    #[must_use]
    pub fn reason(&self, block: u16) -> &str {
        self.found(block)
            .map_or("there is no such block", |found| &found.reason)
    }

    /// Reads a part of a block. The guest may be writing to it.
    pub fn read(&self, block: u16, offset: u64, into: &mut [u8]) -> Result<(), Lost> {
        self.read_scattered(block, &[offset], into.len(), into)
    }

    /// Reads pages of a block, of `page` bytes each, one after the other into the buffer, which has exactly their length.
    pub fn read_scattered(
        &self,
        block: u16,
        offsets: &[u64],
        page: usize,
        into: &mut [u8],
    ) -> Result<(), Lost> {
        let (found, access) = self.within(block, offsets, page, into.len())?;
        let done = match access {
            Access::Mapped(mapped) => mapped.read(offsets, page, into),
            Access::Process(remote) => remote.read(offsets, page, into),
        };
        self.settled(found, offsets, done)
    }

    /// Writes a part of a block. The guest must not run.
    pub fn write(&self, block: u16, offset: u64, from: &[u8]) -> Result<(), Lost> {
        self.write_scattered(block, &[offset], from.len(), from)
    }

    /// Writes pages of a block, of `page` bytes each, which stand one after the other in the buffer.
    pub fn write_scattered(
        &self,
        block: u16,
        offsets: &[u64],
        page: usize,
        from: &[u8],
    ) -> Result<(), Lost> {
        let (found, access) = self.within(block, offsets, page, from.len())?;
        let done = match access {
            Access::Mapped(mapped) => mapped.write(offsets, page, from),
            Access::Process(remote) => remote.write(offsets, page, from),
        };
        self.settled(found, offsets, done)
    }

    /// The parts of a block that may hold something else than zeros, in order: all else has never been touched.
    pub fn populated(&self, block: u16) -> Result<Vec<Range<u64>>, Lost> {
        let (found, access) = self.within(block, &[], 0, 0)?;
        let told = match access {
            Access::Mapped(mapped) => mapped.populated(found.length),
            Access::Process(remote) => remote.populated(found.length),
        };
        let ranges = self.settled(found, &[0], told)?;
        Ok(ranges.unwrap_or_else(|| iter::once(0..found.length).collect()))
    }

    fn found(&self, block: u16) -> Option<&Found> {
        self.blocks.get(usize::from(block))
    }

    /// The way to a block, if it is reached, and all of the bytes are its own: offsets come from a stream, and what lies behind
    /// a block is some other memory of QEMU's.
    fn within(
        &self,
        block: u16,
        offsets: &[u64],
        page: usize,
        buffer: usize,
    ) -> Result<(&Found, &Access), Lost> {
        let outside = |offset: u64| Lost::Outside {
            block: self
                .found(block)
                .map_or_else(|| format!("number {block}"), |found| found.name.clone()),
            offset,
        };
        let first = offsets.first().copied().unwrap_or(0);
        let Some(found) = self.found(block) else {
            return Err(outside(first));
        };
        let Some(access) = &found.access else {
            return Err(outside(first));
        };
        if offsets.len().checked_mul(page) != Some(buffer) {
            return Err(outside(first));
        }
        let fits = |offset: u64| {
            offset
                .checked_add(page as u64)
                .is_some_and(|end| end <= found.length)
        };
        match offsets.iter().find(|offset| !fits(**offset)) {
            Some(&offset) => Err(outside(offset)),
            None => Ok((found, access)),
        }
    }

    /// Only a QEMU that is still there afterwards had the memory that was reached: its file may outlive it, and so does its number.
    fn settled<T>(&self, found: &Found, offsets: &[u64], done: io::Result<T>) -> Result<T, Lost> {
        let block = || found.name.clone();
        let ended = match &self.process {
            Some(process) => process.wait_end(Duration::ZERO),
            None => Ok(true),
        };
        match (ended, done) {
            (Ok(true), _) => Err(Lost::QemuGone),
            (Ok(false), Ok(done)) => Ok(done),
            (Ok(false), Err(error)) if mapped::is_short(&error) => Err(match found.access {
                // Some time before a process has ended it has given up its memory.
                Some(Access::Process(_)) => Lost::QemuGone,
                _ => Lost::Short {
                    block: block(),
                    offset: offsets.first().copied().unwrap_or(0),
                },
            }),
            (Ok(false), Err(source)) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(Lost::Denied {
                    block: block(),
                    source,
                })
            }
            (Err(source), _) | (_, Err(source)) => Err(Lost::System {
                block: block(),
                source,
            }),
        }
    }
}
