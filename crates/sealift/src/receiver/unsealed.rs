//! A saved guest on its way out of its file: opened, checked, and put together again as QEMU's stream.
//!
//! ```text
//!  file ─▶ lane ─▶ inbound: batches, in order ─▶ relay ─▶ a QEMU, or whoever is at the other end of the channel
//! ```

use std::sync::Arc;

use sealift::outcome::{Ending, Fault, Kind};
use sealift_net::inbound::{self, Inbound, Placed, Plan};
use sealift_precopy::VersionMap;
use sealift_qemu::channel::WriteHalf;
use sealift_session::saved::{End, Header};
use tokio::sync::mpsc;

use super::placer::Beside;
use super::relay::{self, Clearance, Connect, Relay};
use crate::ending::whole;
use crate::saved::Opened;

/// The threads at work, and what they say.
pub(super) struct Unsealed {
    pub(super) header: Header,
    pub(super) end: End,
    pub(super) inbound: Inbound,
    pub(super) placed: Placed,
    pub(super) clearance: Clearance,
    pub(super) from_inbound: mpsc::UnboundedReceiver<inbound::Event>,
    pub(super) from_relay: mpsc::UnboundedReceiver<relay::Event>,
}

impl Unsealed {
    /// Starts them. `hold_end` keeps the stream's end back; `connect` makes channels beside this one.
    pub(super) fn start(
        opened: Opened,
        channel: WriteHalf,
        hold_end: bool,
        connect: Connect,
    ) -> Result<Self, Ending> {
        let Opened {
            header,
            end,
            layout,
            keys,
            lane,
        } = opened;
        let (events, from_inbound) = mpsc::unbounded_channel();
        let (relayed, from_relay) = mpsc::unbounded_channel();
        let placed = Placed::new(events.clone());
        let (relay, clearance) = Relay::start(
            channel,
            header.page_size,
            hold_end,
            connect,
            Beside::new(placed.clone()),
            relayed,
        )
        .map_err(|error| host(&error))?;
        let plan = Plan {
            layout: Arc::new(layout),
            workers: super::threads(),
            versions: versions(&header),
            keys,
        };
        let inbound = Inbound::start(plan, vec![lane], Box::new(relay), placed.clone(), events)
            .map_err(|error| host(&error))?;
        Ok(Self {
            header,
            end,
            inbound,
            placed,
            clearance,
            from_inbound,
            from_relay,
        })
    }
}

/// The version map of this guest, of which nothing has come.
fn versions(header: &Header) -> VersionMap {
    let page = header.page_size.bytes() as u64;
    let blocks = header.guest.blocks.as_slice().iter();
    let pages: Vec<u64> = blocks.map(|block| block.length() / page).collect();
    VersionMap::new(&pages)
}

/// Every page is there, but not each in its newest content: nothing that was sealed in good faith is so.
pub(super) const STALE: &str =
    "the file's pages are not those that its end says; nothing of the device state was used";

/// What is wrong with a file in which a batch is.
pub(super) fn spoilt(broken: &inbound::Broken) -> String {
    match broken {
        inbound::Broken::Placement(why) => why.clone(),
        broken => format!("the file was altered, or the disk has lost something of it: {broken}"),
    }
}

/// This host failed; the guest is in its file.
pub(super) fn host(error: &(dyn std::error::Error + 'static)) -> Ending {
    failed(&whole(error))
}

/// The same, for this reason.
pub(super) fn failed(why: &str) -> Ending {
    Ending::new(Kind::Host, why)
        .fault(Fault::ThisHost)
        .in_file()
}
