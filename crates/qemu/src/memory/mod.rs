//! Reading the guest's memory over QMP while it stands still, for `--verify full`: both ends read theirs, and compare a
//! digest.
//!
//! ```text
//!   info mtree -f ─▶ which addresses show which block ─▶ ranges: sorted, merged, each byte of a block once
//!                                                           │
//!   QEMU ◀── pmemsave ADDRESS LENGTH /proc/self/fd/N ───────┤   in pieces
//!     └───── a pipe ──────────────────────────────────────▶ │ ─▶ the canonical bytes:
//!                                                               (u16 n, name, u64 offset, u64 length, the memory)…
//! ```
//!
//! Only what the guest can see is read, as it sees it: RAM behind a device's registers is not, and blocks that are mapped
//! nowhere are not. The memory goes through a pipe that QEMU is given by `add-fd` and opens again by its number in its own
//! `/proc`: it never has a name in a file system, it needs no directory that both processes see, and QEMU may run as
//! another user. It is not kept here either, but for a buffer.

mod flat_view;
mod ranges;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::{fmt, thread};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags, fchmod, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use crate::{Error, Machine, Qmp};

use ranges::Range;

/// QEMU's main loop stands still during one `pmemsave`, which writes some 1 GB/s: so much takes less than a tenth of a
/// second.
const PIECE: u64 = 64 << 20;

/// What is read from the pipe at once: its size is raised to this where the system allows.
const BUFFER: usize = 1 << 20;

/// How much was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of guest memory.
    pub bytes: u64,
    /// In so many ranges.
    pub ranges: u32,
}

/// Reads all that the guest can see of the admitted RAM blocks, named as in the migration stream, and gives it to `visit`
/// in pieces: concatenated they are the same at both ends exactly if the memories are.
///
/// The guest must stand still, and must not be let go on meanwhile. With blocks of which the guest sees nothing the
/// extent is zero: the caller decides whether that can be.
pub fn read(
    machine: &mut Machine,
    admitted: &[String],
    mut visit: impl FnMut(&[u8]),
) -> Result<Extent, MemoryError> {
    let status = machine.status()?;
    if status.running {
        return Err(MemoryError::Running);
    }
    let printed = machine.qmp().hmp("info mtree -f")?;
    let visible = flat_view::parse(&printed)?;
    let ranges = ranges::canonical(&visible, admitted);
    let extent = Extent {
        bytes: ranges
            .iter()
            .fold(0, |sum: u64, range| sum.saturating_add(range.length)),
        ranges: u32::try_from(ranges.len()).unwrap_or(u32::MAX),
    };

    let qmp = machine.qmp();
    let pipe = Pipe::shared_with(qmp)?;
    let result = pipe.carry(qmp, &ranges, &mut visit);
    // Also when it failed; then that is what counts.
    let removed = qmp.execute("remove-fd", json!({ "fdset-id": pipe.set }));
    result?;
    removed?;
    Ok(extent)
}

/// Where the guest sees a part of a block.
pub(crate) struct Shown {
    pub(crate) block: String,
    pub(crate) offset: u64,
    pub(crate) guest_address: u64,
}

/// The beginning of each part of these blocks that the guest sees.
pub(crate) fn shown(machine: &mut Machine, blocks: &[String]) -> Result<Vec<Shown>, Error> {
    let printed = machine.qmp().hmp("info mtree -f")?;
    let visible = flat_view::parse(&printed)?;
    let shown = ranges::canonical(&visible, blocks)
        .into_iter()
        .filter_map(|range| {
            let &(guest_address, _) = range.pieces.first()?;
            Some(Shown {
                block: range.block,
                offset: range.offset,
                guest_address,
            })
        });
    Ok(shown.collect())
}

/// A pipe whose writing end QEMU has.
struct Pipe {
    read: OwnedFd,
    /// QEMU's numbers for the other end.
    set: u64,
    number: u64,
    /// Signalled when QEMU has nothing more to write.
    done: OwnedFd,
}

impl Pipe {
    fn shared_with(qmp: &mut Qmp) -> Result<Self, MemoryError> {
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(MemoryError::system("make a pipe"))?;
        // Less is slower, no more: the limit for users without privilege may be lower.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, BUFFER);
        fcntl_setfl(&read, OFlags::NONBLOCK)
            .map_err(MemoryError::system("make a pipe non-blocking"))?;
        // QEMU opens it anew, maybe as another user. Nobody else can: there is no name to open it by.
        fchmod(&write, Mode::RUSR | Mode::WUSR | Mode::WGRP | Mode::WOTH)
            .map_err(MemoryError::system("let QEMU open a pipe"))?;
        let done = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(MemoryError::system("make an event descriptor"))?;

        let answer =
            qmp.execute_with_fd("add-fd", json!({ "opaque": "sealift" }), write.as_fd())?;
        match (answer["fdset-id"].as_u64(), answer["fd"].as_u64()) {
            (Some(set), Some(number)) => Ok(Self {
                read,
                set,
                number,
                done,
            }),
            _ => Err(MemoryError::Qmp(Error::Malformed {
                problem: format!("the answer to `add-fd` was not understood: {answer}"),
            })),
        }
    }

    /// One thread tells QEMU what to write, this one reads it.
    fn carry(
        &self,
        qmp: &mut Qmp,
        ranges: &[Range],
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), MemoryError> {
        thread::scope(|scope| {
            let orders = thread::Builder::new()
                .name("memory-orders".to_owned())
                .spawn_scoped(scope, || {
                    let result = self.order(qmp, ranges);
                    // Cannot fail: an event descriptor takes 2^64 of these.
                    let _ = rustix::io::write(&self.done, &1_u64.to_ne_bytes());
                    result
                })
                .map_err(|source| MemoryError::System {
                    doing: "start a thread",
                    source,
                })?;
            let taken = self.take(ranges, visit);
            let ordered = orders.join().unwrap_or_else(|_| {
                Err(MemoryError::System {
                    doing: "keep the thread that talked to QEMU alive",
                    source: io::Error::other("it panicked"),
                })
            });
            // What QEMU says explains why too little came.
            ordered.and(taken)
        })
    }

    fn order(&self, qmp: &mut Qmp, ranges: &[Range]) -> Result<(), MemoryError> {
        for &(address, length) in ranges.iter().flat_map(|range| &range.pieces) {
            let mut at = 0;
            while at < length {
                let size = PIECE.min(length - at);
                let arguments = json!({
                    "val": address + at,
                    "size": size,
                    "filename": format!("/proc/self/fd/{}", self.number),
                });
                qmp.execute("pmemsave", arguments)
                    .map_err(|error| match error {
                        Error::Refused { .. } => MemoryError::NotWritten(error),
                        _ => MemoryError::Qmp(error),
                    })?;
                at += size;
            }
        }
        Ok(())
    }

    fn take(&self, ranges: &[Range], visit: &mut dyn FnMut(&[u8])) -> Result<(), MemoryError> {
        let mut buffer = vec![0; BUFFER];
        for range in ranges {
            visit(&range.head());
            let mut left = range.length;
            while left > 0 {
                let room = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
                let space = buffer.get_mut(..room).unwrap_or_default();
                let length = self.read(space)?;
                let bytes = buffer.get(..length).unwrap_or_default();
                visit(bytes);
                left = left.saturating_sub(bytes.len() as u64);
            }
        }
        Ok(())
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize, MemoryError> {
        let mut done = false;
        loop {
            match rustix::io::read(&self.read, &mut *buffer) {
                Ok(length @ 1..) => return Ok(length),
                // All writers are gone: QEMU, that is.
                Ok(_) => return Err(MemoryError::Short),
                Err(Errno::INTR) => continue,
                // Looked at once more after QEMU had said that it was through.
                Err(Errno::AGAIN) if done => return Err(MemoryError::Short),
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(MemoryError::system("read from a pipe")(error)),
            }
            let mut polled = [
                PollFd::new(&self.read, PollFlags::IN),
                PollFd::new(&self.done, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) => done = polled.iter().skip(1).any(|fd| !fd.revents().is_empty()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(MemoryError::system("wait for a pipe")(error)),
            }
        }
    }
}

/// The guest's memory could not be read. Nothing of what was read is in here.
#[derive(Debug)]
#[non_exhaustive]
pub enum MemoryError {
    /// The user, or this program: the guest runs.
    Running,
    /// The control socket, or QEMU's answer.
    Qmp(Error),
    /// This host: QEMU could not write into the pipe, for the reason in its own words.
    NotWritten(Error),
    /// QEMU wrote less than it was asked for.
    Short,
    /// This host: the system refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl MemoryError {
    fn system(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }
}

impl From<Error> for MemoryError {
    fn from(error: Error) -> Self {
        Self::Qmp(error)
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => {
                f.write_str("the guest's memory is to be compared, but the guest runs: it must be stopped first")
            }
            Self::Qmp(_) => f.write_str("the guest's memory could not be asked for"),
            Self::NotWritten(_) => f.write_str(
                "QEMU could not write the guest's memory into a pipe, to be compared; a security policy may keep it from \
                 opening /proc/self/fd: allow that, or do without `--verify full`",
            ),
            Self::Short => f.write_str(
                "QEMU wrote less of the guest's memory than it was asked for, so that it cannot be compared",
            ),
            Self::System { doing, .. } => write!(f, "this host could not {doing}"),
        }
    }
}

impl std::error::Error for MemoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Qmp(error) | Self::NotWritten(error) => Some(error),
            Self::System { source, .. } => Some(source),
            Self::Running | Self::Short => None,
        }
    }
}
