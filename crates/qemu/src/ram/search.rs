//! The search for ways: what QEMU says of its blocks, held against what this host shows of its process.
//!
//! ```text
//!   a descriptor of the process ── QEMU answers ── /proc/PID/… is opened ── the process has not ended
//!       └ so its number was its own the whole time, and what was opened is its own
//! ```

use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use crate::{Error, Machine};

use super::lost::PRIVILEGE;
use super::mapped::Mapped;
use super::maps::{self, Behind, Mapping};
use super::places::{self, Place};
use super::remote::{Memory, Remote};
use super::{Access, Block, Found, Purpose, Reach, Want};

/// There is no way to any block.
pub(super) enum Nowhere {
    /// For this reason; the stream will do.
    Reason(String),
    /// The control socket failed, which the stream does not make good.
    Qmp(Error),
}

impl From<Error> for Nowhere {
    fn from(error: Error) -> Self {
        match error {
            // A guest can be moved without an answer to these questions.
            Error::Refused { .. } | Error::Malformed { .. } => Self::Reason(format!(
                "this QEMU does not say where its memory is ({error})"
            )),
            other => Self::Qmp(other),
        }
    }
}

pub(super) fn search(
    machine: &mut Machine,
    blocks: &[Block<'_>],
    want: Want,
    purpose: Purpose,
) -> Result<Reach, Nowhere> {
    let Some((pid, process)) = machine.pid().zip(machine.process()) else {
        return Err(Nowhere::Reason(
            "QEMU's process is not known: the control socket is not its own unix socket, or its process is hidden"
                .to_owned(),
        ));
    };
    let places = places::find(machine, blocks)?;
    let host = Host::open(pid, purpose).map_err(Nowhere::Reason)?;
    let blocks = blocks.iter().zip(places);
    let blocks = blocks
        .map(|(block, place)| host.found(block, place, want))
        .collect();
    match process.wait_end(Duration::ZERO) {
        Ok(false) => Ok(Reach {
            blocks,
            process: Some(process),
        }),
        Ok(true) => Err(Nowhere::Qmp(Error::Closed { command: None })),
        Err(error) => Err(Nowhere::Reason(format!(
            "QEMU's process cannot be watched ({error})"
        ))),
    }
}

/// What this host shows of QEMU's process.
struct Host {
    pid: u32,
    purpose: Purpose,
    mappings: Vec<Mapping>,
    memory: Result<Arc<Memory>, String>,
}

impl Host {
    fn open(pid: u32, purpose: Purpose) -> Result<Self, String> {
        let printed = fs::read(format!("/proc/{pid}/maps")).map_err(|error| not_allowed(&error))?;
        let mappings = maps::parse(&String::from_utf8_lossy(&printed))
            .ok_or("the list of its mappings (/proc/PID/maps) was not understood")?;
        let memory = Memory::open(pid, purpose).map_err(|error| not_allowed(&error));
        Ok(Self {
            pid,
            purpose,
            mappings,
            memory: memory.map(Arc::new),
        })
    }

    fn found(&self, block: &Block<'_>, place: Place, want: Want) -> Found {
        let is_main = !matches!(place, Place::Elsewhere(_));
        let reached = match place {
            Place::At(address) => self.access(address, block.length, want),
            Place::Hidden(reason) | Place::Elsewhere(reason) => Err(reason),
        };
        let (access, reason) = match reached {
            Ok((access, reason)) => (Some(access), reason),
            Err(reason) => (None, reason),
        };
        Found {
            name: block.name.to_owned(),
            length: block.length,
            is_main,
            access,
            reason,
        }
    }

    /// A way, and why it is this one; or why there is none.
    fn access(&self, address: u64, length: u64, want: Want) -> Result<(Access, String), String> {
        let behind = maps::behind(&self.mappings, address, length)
            .ok_or("QEMU has no such memory mapped, or not for writing")?;
        if want == Want::Process {
            let remote = self.remote(address, &behind)?;
            return Ok((remote, "so ordered by `--access process`".to_owned()));
        }
        let refusal = match &behind {
            Behind::File { file, offset, path } => {
                match Mapped::open(self.pid, *file, *offset, length, self.purpose) {
                    Ok(mapped) => {
                        let reason = format!("its backend's file is shared ({path})");
                        return Ok((Access::Mapped(mapped), reason));
                    }
                    Err(refusal) => refusal,
                }
            }
            Behind::Anonymous | Behind::Mixed => {
                "its memory is private to QEMU, which a backend with share=on would change"
                    .to_owned()
            }
        };
        if want == Want::Mapped {
            return Err(refusal);
        }
        match self.remote(address, &behind) {
            Ok(remote) => Ok((remote, refusal)),
            // Where neither is possible, both reasons are of use.
            Err(denied) => Err(format!("{refusal}; and {denied}")),
        }
    }

    fn remote(&self, address: u64, behind: &Behind) -> Result<Access, String> {
        let memory = self.memory.clone()?;
        let is_anonymous = *behind == Behind::Anonymous;
        Ok(Access::Process(Remote::new(memory, address, is_anonymous)))
    }
}

fn not_allowed(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        format!("QEMU's process may not be looked into: {PRIVILEGE}")
    } else {
        format!("QEMU's process cannot be looked into ({error})")
    }
}
