//! Whether a guest may come here: looked at before a byte of its memory does.
//!
//! ```text
//!  admission ─▶ the target is free? ─▶ the waiting QEMU is for this guest? ─▶ its memory fits this host? ─▶ accepted
//!                 BUSY                  DESTINATION, with what differs          MEMORY, with both figures
//! ```

use std::fs;

use crate::guest::{NAMELESS, UNKNOWN};
use sealift::figures;
use sealift_qemu::Error;
use sealift_qemu::machine::{Machine, RamBlock};
use sealift_session::control::{Admission, RefusalKind, Refused, Text};

/// What the waiting QEMU says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    name: Option<String>,
    uuid: Option<[u8; 16]>,
    machine: String,
    blocks: Vec<RamBlock>,
    state: String,
    /// Memory that the process has already.
    resident: u64,
}

impl Waiting {
    /// Asks it.
    pub(crate) fn ask(machine: &mut Machine) -> Result<Self, Error> {
        Ok(Self {
            name: machine.name()?,
            uuid: machine.uuid()?,
            machine: machine.machine_type()?,
            blocks: machine.ram_blocks()?,
            state: machine.status()?.state,
            resident: machine.pid().and_then(resident).unwrap_or(0),
        })
    }
}

/// Decides. `waiting` is there when the destination's QEMU can be asked. Returns the memory that is free.
pub(crate) fn decide(admission: &Admission, waiting: Option<&Waiting>) -> Result<u64, Refused> {
    if let Some(waiting) = waiting {
        compare(admission, waiting).map_err(|why| refused(RefusalKind::Destination, &why))?;
    }
    let has = waiting.map_or(0, |waiting| waiting.resident);
    let blocks = admission.blocks.as_slice().iter();
    let blocks = blocks.fold(0, |sum: u64, block| sum.saturating_add(block.length()));
    // What the source says it needs is not less than what it will send.
    let needed = admission.memory_needed.max(blocks).saturating_sub(has);
    match available() {
        None => Err(refused(
            RefusalKind::Memory,
            "the destination cannot tell how much memory it has free: it has no /proc/meminfo",
        )),
        Some(free) if free < needed => Err(refused(
            RefusalKind::Memory,
            &format!(
                "the guest needs {} of memory, and the destination has {} free",
                figures::size(needed),
                figures::size(free)
            ),
        )),
        Some(free) => Ok(free),
    }
}

fn compare(admission: &Admission, waiting: &Waiting) -> Result<(), String> {
    if waiting.state != "inmigrate" {
        return Err(format!(
            "the destination's QEMU does not wait for a guest: it is in state {}; start it with -incoming",
            waiting.state
        ));
    }
    let here = &waiting.machine;
    let there = admission.machine.as_str();
    if there != UNKNOWN && here != there {
        return Err(format!(
            "the guest's machine type is {there}, the waiting QEMU's is {here}; start it with -M {there}"
        ));
    }
    if let Some(here) = waiting.uuid
        && admission.uuid != [0; 16]
        && admission.uuid != here
    {
        return Err(format!(
            "the guest's UUID is {}, the waiting QEMU's is {}",
            figures::uuid(&admission.uuid),
            figures::uuid(&here)
        ));
    }
    if let Some(here) = &waiting.name
        && admission.name.as_str() != NAMELESS
        && here != admission.name.as_str()
    {
        return Err(format!(
            "the guest is called {}, the waiting QEMU's {here}; it may wait for another guest",
            admission.name.as_str()
        ));
    }
    for block in admission.blocks.as_slice() {
        let name = String::from_utf8_lossy(block.name());
        match waiting.blocks.iter().find(|here| here.name == name) {
            None => {
                return Err(format!(
                    "the guest has a RAM block {name}, the waiting QEMU has none of that name; give both the same devices"
                ));
            }
            // Only one that can change its size may have another.
            Some(here)
                if here.total < block.length()
                    || (here.used == here.total && here.used != block.length()) =>
            {
                return Err(format!(
                    "the guest's RAM block {name} has {}, the waiting QEMU's {}; give both the same memory",
                    figures::size(block.length()),
                    figures::size(here.total)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A refusal for people.
pub(crate) fn refused(kind: RefusalKind, why: &str) -> Refused {
    Refused {
        kind,
        explanation: Text::explaining(why),
    }
}

/// Bytes that the system could give to a process without swapping.
fn available() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> Option<u64> {
    field(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        "VmRSS:",
    )
}

/// A field of one of /proc's tables, which are in KiB.
fn field(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}
