//! How the guest's memory is reached at this host, block by block.

use std::ops::Range;
use std::sync::Arc;

use sealift::event::{Access, BlockAccess};
use sealift_qemu::Reach;
use sealift_qemu::machine::Machine;
use sealift_qemu::ram::{self, Block, Purpose, Want, Way};
use sealift_session::control::RamBlocks;

use super::placer::GuestMemory;
use crate::ending::whole;
use crate::monitor::Monitor;

/// Capabilities of a destination with which QEMU itself has to load all pages, and why.
const AGAINST: [(&str, &str); 3] = [
    ("multifd", "memory comes over several channels (multifd)"),
    (
        "postcopy-ram",
        "QEMU throws its memory away before a post-copy (postcopy-ram)",
    ),
    ("x-colo", "QEMU loads memory while the guest runs (x-colo)"),
];

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    reach: Option<Arc<Reach>>,
    /// The blocks' names and lengths, in the admission's order.
    blocks: Vec<(String, u64)>,
    /// Why nothing is reached.
    why: String,
}

impl Reached {
    /// Looks for ways to these blocks.
    ///
    /// # Errors
    /// When a way was ordered that is not there, or QEMU cannot be asked.
    pub(crate) async fn find(
        monitor: Option<&Monitor>,
        blocks: &RamBlocks,
        want: Want,
    ) -> Result<Self, String> {
        let blocks: Vec<_> = blocks
            .as_slice()
            .iter()
            .map(|block| {
                let name = String::from_utf8_lossy(block.name()).into_owned();
                (name, block.length())
            })
            .collect();
        let nothing = |why: &str| match want {
            Want::Mapped | Want::Process => Err(format!(
                "--access orders a way to the guest's memory that is not there: {why}"
            )),
            Want::Auto | Want::Stream => Ok(Self::nothing(blocks.clone(), why)),
        };
        let Some(monitor) = monitor.filter(|_| want != Want::Stream) else {
            return nothing(match want {
                Want::Stream => "so ordered by --access stream",
                _ => "without --qmp QEMU cannot be asked where its memory is",
            });
        };
        let asked = blocks.clone();
        let found = monitor
            .ask(move |machine| Ok((against(machine)?, reach(machine, &asked, want))))
            .await
            .map_err(|error| whole(&error))?;
        match found {
            (Some(why), _) => nothing(why),
            (None, reach) => Ok(Self {
                reach: Some(Arc::new(reach.map_err(|error| whole(&error))?)),
                blocks,
                why: String::new(),
            }),
        }
    }

    fn nothing(blocks: Vec<(String, u64)>, why: &str) -> Self {
        Self {
            reach: None,
            blocks,
            why: why.to_owned(),
        }
    }

    /// The memory, if any of it can be reached.
    pub(crate) fn memory(&self) -> Option<Arc<dyn GuestMemory>> {
        let reach = self.reach.as_ref()?;
        let any = (0..)
            .zip(&self.blocks)
            .any(|(block, _)| reach.way(block).is_some());
        any.then(|| Arc::clone(reach) as Arc<dyn GuestMemory>)
    }

    /// How most of the guest is reached, and why: its largest block.
    pub(crate) fn mostly(&self) -> (Access, String) {
        let lengths = (0..)
            .zip(&self.blocks)
            .map(|(number, (_, length))| (*length, number));
        match lengths.max() {
            Some((_, number)) => self.way(number),
            None => (
                Access::Relay,
                "the guest's stream is not understood".to_owned(),
            ),
        }
    }

    fn way(&self, block: u16) -> (Access, String) {
        let Some(reach) = &self.reach else {
            return (Access::Relay, self.why.clone());
        };
        let access = match reach.way(block) {
            Some(Way::Mapped) => Access::Mapped,
            Some(Way::Process) => Access::Process,
            None => Access::Relay,
        };
        (access, reach.reason(block).to_owned())
    }

    /// A block that is reached as it was found to be.
    pub(crate) fn settled(&self, block: u16) -> BlockAccess {
        let (access, access_reason) = self.way(block);
        BlockAccess {
            block: self.name(block),
            access,
            access_reason,
        }
    }

    /// A block that goes through QEMU all the same.
    pub(crate) fn left(&self, block: u16, why: String) -> BlockAccess {
        BlockAccess {
            block: self.name(block),
            access: Access::Relay,
            access_reason: why,
        }
    }

    fn name(&self, block: u16) -> String {
        let found = self.blocks.get(usize::from(block));
        found.map_or_else(|| block.to_string(), |(name, _)| name.clone())
    }
}

/// Why QEMU, as it is set up, has to load all pages itself.
fn against(machine: &mut Machine) -> Result<Option<&'static str>, sealift_qemu::Error> {
    let capabilities = machine.capabilities()?;
    let on = AGAINST
        .iter()
        .find(|(name, _)| capabilities.get(*name) == Some(&true));
    Ok(on.map(|(_, why)| *why))
}

fn reach(
    machine: &mut Machine,
    blocks: &[(String, u64)],
    want: Want,
) -> Result<Reach, ram::ReachError> {
    let blocks = blocks.iter().map(|(name, length)| Block {
        name,
        length: *length,
    });
    ram::reach(machine, &blocks.collect::<Vec<_>>(), want, Purpose::Write)
}

impl GuestMemory for Reach {
    fn is_reachable(&self, block: u16) -> bool {
        self.way(block).is_some()
    }

    fn read(&self, block: u16, offset: u64, into: &mut [u8]) -> Result<(), String> {
        Self::read(self, block, offset, into).map_err(|lost| whole(&lost))
    }

    fn write(&self, block: u16, offsets: &[u64], page: usize, from: &[u8]) -> Result<(), String> {
        self.write_scattered(block, offsets, page, from)
            .map_err(|lost| whole(&lost))
    }

    fn populated(&self, block: u16) -> Result<Vec<Range<u64>>, String> {
        Self::populated(self, block).map_err(|lost| whole(&lost))
    }
}
