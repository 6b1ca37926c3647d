//! What carries pages from QEMU to the lanes: a thread for each of QEMU's channels, the workers, and a thread for each lane.
//!
//! ```text
//!  QEMU ─┬─ main channel ─▶ ingest-0 ─┐
//!        └─ multifd ─▶ ingest-1 … ────┴─▶ drafts ─▶ outbound: workers, lanes
//! ```

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sealift::outcome::{Ending, Fault, Kind};
use sealift_net::outbound::{self, Compression, Direct, Feed, Lane, Outbound, Plan};
use sealift_pages::{Draft, Layout, PageSize, WINDOW_MEMORY};
use sealift_precopy::{Engine, IfNotConverging, VersionMap};
use sealift_qemu::channel::{Channel, Closer};
use sealift_qemu::ram::Reach;
use sealift_seal::Keyed;
use sealift_session::control::RamBlocks;
use sealift_session::flight::CHANNELS_MAX;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::access::GuestMemory;
use super::channels::of_guest;
use super::ingest::{self, Ingest};
use super::intake::Intake;
use super::pace::Pace;
use super::parallel::{Parallel, Quiesce};
use super::prologue::{self, Prologue};
use super::shares::Shares;
use super::trust::Trust;
use crate::voice::Voice;
use crate::{lock, random};

/// Where things that happen come from.
pub(super) struct Sources {
    pub(super) outbound: mpsc::UnboundedReceiver<outbound::Event>,
    pub(super) ingest: mpsc::UnboundedReceiver<ingest::Event>,
}

/// What carries pages from QEMU to the lanes.
pub(super) struct Pipeline {
    pub(super) prologue: Prologue,
    pub(super) page_size: PageSize,
    pub(super) blocks: RamBlocks,
    pub(super) layout: Layout,
    pub(super) keys: Keyed<sealift_seal::Source>,
    pub(super) lanes: Vec<Lane>,
    pub(super) closers: Arc<Mutex<Vec<Closer>>>,
    pub(super) further: mpsc::Receiver<Channel>,
    /// With direct access.
    pub(super) reach: Option<Arc<Reach>>,
    pub(super) max_downtime: Duration,
    pub(super) if_not_converging: IfNotConverging,
    pub(super) bandwidth: Option<u64>,
    pub(super) shares: Shares,
    pub(super) compression: Compression,
    /// Connections may break, and others be made.
    pub(super) keeps: bool,
    /// QEMU is asked how its migration stands.
    pub(super) asked: bool,
    /// Nobody else will say that the whole stream has come.
    pub(super) watch_for_the_end: bool,
    pub(super) voice: Voice,
}

impl Pipeline {
    /// Starts it all.
    pub(super) fn start(self) -> Result<(Outbound, Arc<Pace>, Sources), Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
        };
        let page_bytes = self.page_size.bytes() as u64;
        let blocks = self.blocks.as_slice();
        let pages: Vec<u64> = blocks
            .iter()
            .map(|block| block.length() / page_bytes)
            .collect();
        let names: Arc<[Vec<u8>]> = blocks.iter().map(|block| block.name().to_vec()).collect();
        let memory = blocks.iter().map(|block| block.length()).sum();
        let pace = Arc::new(Pace::new(
            memory,
            self.page_size,
            self.max_downtime,
            self.if_not_converging,
            self.asked,
        ));
        let Shares { workers, contents } = self.shares;
        let windows = self.layout.agreed().windows.min(workers as u64) * WINDOW_MEMORY;
        let (events, from_outbound) = mpsc::unbounded_channel();
        let outbound = Outbound::start(
            Plan {
                layout: Arc::new(self.layout),
                workers,
                compression: self.compression,
                // Windows were offered out of the same memory.
                store: contents.saturating_sub(windows),
                store_key: u64::from_ne_bytes(random::array().map_err(|error| host(&error))?),
                bandwidth: self.bandwidth,
                window: pace.window(),
                versions: VersionMap::new(&pages),
                keys: self.keys,
                direct: self.reach.as_ref().map(|reach| Direct {
                    memory: Arc::new(GuestMemory::new(Arc::clone(reach), self.page_size)),
                    engine: Engine::new(&pages, self.page_size),
                }),
                keeps: self.keeps,
            },
            self.lanes,
            events,
        )
        .map_err(|error| host(&error))?;

        let (told, from_ingest) = mpsc::unbounded_channel();
        let quiesce = Arc::new(Quiesce::default());
        let (stream_page_size, uuid) = (self.prologue.facts.page_size, self.prologue.facts.uuid);
        let (ingest, begun) = Ingest::new(
            self.prologue,
            Draft::new(self.page_size),
            page_bytes,
            outbound.feed(0),
            Arc::clone(&pace),
            Arc::clone(&quiesce),
            told.clone(),
        );
        let trust = self.reach.map(|reach| {
            // The list of blocks was admitted with at most 1,024.
            let blocks = u16::try_from(pages.len()).unwrap_or(u16::MAX);
            Trust::new(reach, blocks, self.page_size)
        });
        let ingest = ingest.reading_directly(trust);
        let ingest = match self.watch_for_the_end {
            true => ingest.watching_for_the_end(),
            false => ingest,
        };
        thread::Builder::new()
            .name("ingest-0".to_owned())
            .spawn(move || ingest.run(begun))
            .map_err(|error| host(&error))?;
        let further = Further {
            feeds: outbound.feed(1),
            page_size: self.page_size,
            stream_page_size: stream_page_size.unwrap_or(sealift_stream::PageSize::KIB_4),
            blocks: names,
            pace: Arc::clone(&pace),
            quiesce,
            closers: self.closers,
            events: told,
            uuid,
            voice: self.voice,
        };
        tokio::spawn(further.serve(self.further));
        let sources = Sources {
            outbound: from_outbound,
            ingest: from_ingest,
        };
        Ok((outbound, pace, sources))
    }
}

/// Starts a reader for each further channel.
struct Further {
    feeds: Feed,
    page_size: PageSize,
    stream_page_size: sealift_stream::PageSize,
    blocks: Arc<[Vec<u8>]>,
    pace: Arc<Pace>,
    quiesce: Arc<Quiesce>,
    closers: Arc<Mutex<Vec<Closer>>>,
    events: mpsc::UnboundedSender<ingest::Event>,
    /// The guest's, if the stream says it.
    uuid: Option<[u8; 16]>,
    voice: Voice,
}

impl Further {
    async fn serve(self, mut opened: mpsc::Receiver<Channel>) {
        let mut number = 0_u16;
        let mut looked_at = JoinSet::new();
        loop {
            tokio::select! {
                Some(channel) = opened.recv(), if looked_at.len() < usize::from(CHANNELS_MAX) => {
                    let uuid = self.uuid;
                    looked_at.spawn_blocking(move || of_guest(channel, uuid));
                }
                Some(looked) = looked_at.join_next() => match looked {
                    Ok(Ok(channel)) => {
                        number += 1;
                        if number >= CHANNELS_MAX {
                            let _ = self
                                .events
                                .send(ingest::Event::Unsupported(prologue::Unsupported::Channels));
                            return;
                        }
                        self.read(channel, number);
                    }
                    Ok(Err(why)) => self.voice.warn(format!(
                        "a connection that was made while QEMU migrates is not QEMU's, and was closed: {why}"
                    )),
                    // Nothing in it panics.
                    Err(_) => {}
                },
                else => return,
            }
        }
    }

    /// Starts its reader.
    fn read(&self, channel: Channel, number: u16) {
        self.pace.one_more_channel();
        lock(&self.closers).push(channel.closer());
        let (read, way_back) = channel.split();
        self.quiesce.join(number);
        let reader = Parallel {
            way_back,
            channel: number,
            parser: sealift_stream::multifd::Parser::new(self.stream_page_size),
            draft: Draft::new(self.page_size),
            feed: self.feeds.of(number),
            page_bytes: self.page_size.bytes() as u64,
            blocks: Arc::clone(&self.blocks),
            pace: Arc::clone(&self.pace),
            quiesce: Arc::clone(&self.quiesce),
        };
        let intake = Intake::new(read);
        let started = thread::Builder::new()
            .name(format!("ingest-{number}"))
            .spawn(move || reader.run(intake));
        if started.is_err() {
            // Without its reader the channel blocks QEMU, and the session ends by its deadlines.
            self.quiesce.leave(number);
        }
    }
}
