//! The guest, as admission wants it: from the stream, and from QEMU where it can be asked.

use sealift::outcome::{Ending, Fault, Kind};
use sealift_pages::PageSize;
use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use sealift_session::control::{Admission, Bytes, Invalid, RamBlock, RamBlocks, RunState, Text};

use super::prologue::Facts;
use crate::guest::{NAMELESS, UNKNOWN};

/// What QEMU says of its guest before it migrates.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: Option<String>,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) machine: String,
    pub(crate) run_state: Option<RunState>,
    /// Whether QEMU knows the destination's word that it may stop the guest.
    pub(crate) knows_gate: bool,
    /// Whether QEMU calls the guest running now.
    pub(crate) running: bool,
}

impl Asked {
    pub(crate) fn ask(machine: &mut Machine) -> Result<Self, Error> {
        let status = machine.status()?;
        Ok(Self {
            name: machine.name()?,
            uuid: machine.uuid()?,
            machine: machine.machine_type()?,
            run_state: run_state(&status.state),
            knows_gate: machine.capabilities()?.contains_key(SWITCHOVER_ACK),
            running: status.running,
        })
    }
}

/// What a guest does, by QEMU's word for it. Nothing once it was stopped for the move: a small one is before anybody has asked.
pub(crate) fn run_state(word: &str) -> Option<RunState> {
    match word {
        "running" => Some(RunState::Running),
        "suspended" => Some(RunState::Suspended),
        "finish-migrate" | "postmigrate" => None,
        // Paused, a shut-down that is not over, an I/O error: whoever stopped it says when it goes on.
        _ => Some(RunState::Paused),
    }
}

/// QEMU's name for the capability to wait for that word, which 8.1 brought.
const SWITCHOVER_ACK: &str = "switchover-ack";
/// The release, as versioned machine types name it.
const SWITCHOVER_ACK_SINCE: (u32, u32) = (8, 1);

/// Whether QEMU knows the destination's word that it may stop the guest. One that cannot be asked is taken to be as old as its guest's
/// machine type: the word would make a QEMU that does not know it give up, and one that waits for it was set up by somebody who has --qmp.
pub(crate) fn knows_gate(facts: &Facts, asked: Option<&Asked>) -> bool {
    match asked {
        Some(asked) => asked.knows_gate,
        None => {
            let machine = facts.machine.as_deref();
            machine
                .and_then(release)
                .is_none_or(|release| release >= SWITCHOVER_ACK_SINCE)
        }
    }
}

/// `(7, 2)` of `pc-q35-7.2`; none of `microvm`.
fn release(machine: &str) -> Option<(u32, u32)> {
    let (_, release) = machine.rsplit_once('-')?;
    let (major, minor) = release.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The admission. What the operator says counts most, then what QEMU says, then the stream.
pub(crate) fn admission(
    facts: &Facts,
    asked: Option<&Asked>,
    name: Option<&str>,
    page_size: PageSize,
) -> Result<Admission, Ending> {
    build(facts, asked, name, page_size)
        .map_err(|invalid| Ending::because(Kind::StillAtSource, &invalid).fault(Fault::Guest))
}

fn build(
    facts: &Facts,
    asked: Option<&Asked>,
    name: Option<&str>,
    page_size: PageSize,
) -> Result<Admission, Invalid> {
    let name = name
        .or_else(|| asked.and_then(|asked| asked.name.as_deref()))
        .unwrap_or(NAMELESS);
    let machine = facts
        .machine
        .as_deref()
        .or_else(|| asked.map(|asked| asked.machine.as_str()))
        .unwrap_or(UNKNOWN);
    let uuid = facts
        .uuid
        .or_else(|| asked.and_then(|asked| asked.uuid))
        .unwrap_or_default();
    let blocks = facts.blocks.iter().map(|block| {
        let host_page = block.host_page.unwrap_or(page_size.bytes() as u64);
        RamBlock::new(
            Bytes::new("RamBlock.name", block.name.clone())?,
            block.used,
            host_page,
        )
    });
    let blocks = RamBlocks::new(blocks.collect::<Result<_, _>>()?)?;
    let memory_needed = facts.blocks.iter().map(|block| block.used).sum();
    Ok(Admission {
        name: Text::new("Admission.name", name.to_owned())?,
        uuid,
        machine: Text::new("Admission.machine", machine.to_owned())?,
        blocks,
        memory_needed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versioned_machine_type_names_its_release() {
        assert_eq!(release("pc-q35-7.2"), Some((7, 2)));
        assert_eq!(release("pc-i440fx-10.0"), Some((10, 0)));
        assert_eq!(release("microvm"), None);
        assert_eq!(release("pc-q35-rhel9.4.0"), None);
    }

    #[test]
    fn a_guest_that_was_stopped_for_the_move_is_not_called_paused() {
        assert_eq!(run_state("finish-migrate"), None);
        assert_eq!(run_state("postmigrate"), None);
        assert_eq!(run_state("running"), Some(RunState::Running));
        assert_eq!(run_state("paused"), Some(RunState::Paused));
    }
}
