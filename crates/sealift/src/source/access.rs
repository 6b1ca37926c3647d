//! How the source comes by the guest's pages: directly, or by QEMU's stream alone, and why.

use std::io;
use std::sync::Arc;

use sealift::arguments::Access as Asked;
use sealift::event::Access;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_net::outbound::Memory;
use sealift_pages::{Address, PageSize};
use sealift_qemu::machine::Machine;
use sealift_qemu::ram::{self, Block, Purpose, Reach, ReachError, Want, Way};

use super::prologue;
use crate::ending;
use crate::monitor::Monitor;

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) access: Access,
    pub(crate) reason: String,
    /// There is one exactly if some block is reached directly.
    pub(crate) reach: Option<Arc<Reach>>,
}

/// Looks for the best way that the operator lets it take.
pub(crate) async fn find(
    asked: Asked,
    monitor: Option<&Monitor>,
    facts: &prologue::Facts,
) -> Result<Found, Ending> {
    let want = asked.into();
    let Some(monitor) = monitor else {
        return without(
            want,
            "there is no --qmp, and only QEMU knows where its memory is",
        );
    };
    let capabilities = monitor.ask(Machine::capabilities).await;
    let capabilities = capabilities.map_err(|error| ending::of_qemu(&error))?;
    if let Some(why) = ram::refused(&capabilities) {
        return without(want, why);
    }
    if capabilities.get(MULTIFD) == Some(&true) {
        return without(
            want,
            "`multifd` is on: QEMU sends pages over channels of their own",
        );
    }
    let blocks = facts.blocks.clone();
    let reached = monitor
        .ask(move |machine| {
            let names: Vec<_> = blocks
                .iter()
                .map(|block| String::from_utf8_lossy(&block.name).into_owned())
                .collect();
            let blocks: Vec<_> = names
                .iter()
                .zip(&blocks)
                .map(|(name, block)| Block {
                    name,
                    length: block.used,
                })
                .collect();
            Ok(ram::reach(machine, &blocks, want, Purpose::Read))
        })
        .await
        .map_err(|error| ending::of_qemu(&error))?;
    let reach = reached.map_err(|error| match error {
        ReachError::Qmp(error) => ending::of_qemu(&error),
        error => impossible(&error.to_string()),
    })?;
    // What the largest is reached by is what matters.
    let largest = (0_u16..)
        .zip(&facts.blocks)
        .max_by_key(|(_, block)| block.used);
    let largest = largest.map_or(0, |(number, _)| number);
    let reason = reach.reason(largest).to_owned();
    Ok(match reach.way(largest) {
        Some(way) => Found {
            access: match way {
                Way::Mapped => Access::Mapped,
                Way::Process => Access::Process,
            },
            reason,
            reach: Some(Arc::new(reach)),
        },
        None => Found::stream(reason),
    })
}

impl Found {
    /// All comes by the stream.
    const fn stream(reason: String) -> Self {
        Self {
            access: Access::Stream,
            reason,
            reach: None,
        }
    }
}

/// There is no direct way at all.
fn without(want: Want, why: &str) -> Result<Found, Ending> {
    match want {
        Want::Auto | Want::Stream => Ok(Found::stream(why.to_owned())),
        Want::Mapped | Want::Process => Err(impossible(&format!("--access cannot be had: {why}"))),
    }
}

fn impossible(why: &str) -> Ending {
    Ending::new(Kind::StillAtSource, why).fault(Fault::User)
}

/// QEMU's name for channels beside the main one.
const MULTIFD: &str = "multifd";

/// The guest's memory, for whoever sends it.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    reach: Arc<Reach>,
    page_size: PageSize,
}

impl GuestMemory {
    pub(crate) const fn new(reach: Arc<Reach>, page_size: PageSize) -> Self {
        Self { reach, page_size }
    }
}

impl Memory for GuestMemory {
    fn read(&self, pages: &[Address], into: &mut [u8]) -> io::Result<()> {
        let page_bytes = self.page_size.bytes();
        let mut rest = into;
        for of_block in pages.chunk_by(|one, next| one.block == next.block) {
            let Some(first) = of_block.first() else {
                continue;
            };
            let offsets: Vec<u64> = of_block
                .iter()
                .map(|at| at.page * page_bytes as u64)
                .collect();
            let (here, behind) = std::mem::take(&mut rest)
                .split_at_mut_checked(of_block.len() * page_bytes)
                .ok_or(io::ErrorKind::InvalidInput)?;
            self.reach
                .read_scattered(first.block, &offsets, page_bytes, here)
                .map_err(io::Error::other)?;
            rest = behind;
        }
        Ok(())
    }
}
