//! Puts the stream together again and gives it to QEMU, in batch order.
//!
//! ```text
//!  sequencer ─▶ Relay ─┬─ channel 0 ─▶ [batches] ─▶ writer ─▶ QEMU's main channel     records become pages again
//!                      └─ channel n ─▶ [batches] ─▶ writer ─▶ QEMU's n-th channel     connected when its first batch comes
//! ```
//!
//! Each channel has a writer of its own, because QEMU reads them at its own pace and makes one wait for another. At a barrier the main
//! channel's writer stops until the session says that what was placed is what was sent.

mod parallel;
#[cfg(test)]
mod tests;
mod ticket;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel as queue;
use sealift_net::inbound::{Placed, Placement};
use sealift_pages::{Entry, PageSize, Resolved};
use sealift_qemu::channel::WriteHalf;
use sealift_session::flight::CHANNELS_MAX;
use sealift_stream::main_channel::Weaver;
use tokio::sync::mpsc::UnboundedSender;

use super::placer::{Beside, PlacedBlocks};
use super::stream_end::StreamEnd;
use parallel::ParallelWriter;
pub(crate) use ticket::Ticket;
use writer::{End, MainWriter};

/// The main channel's number in records.
pub(crate) const MAIN: u16 = 0;

/// What the relay tells the session.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything up to the barrier is with QEMU; so many batches. Nothing behind it goes on before [`Clearance::give`].
    AtBarrier {
        /// Batches up to and with the barrier.
        batches: u64,
    },
    /// QEMU has everything but the stream's end.
    HoldsEnd,
    /// A channel broke.
    Broken {
        /// Which.
        channel: u16,
        /// How.
        error: io::Error,
    },
}

/// Makes a connection to QEMU for one more channel.
pub(crate) type Connect = Box<dyn FnMut() -> Result<WriteHalf, String> + Send>;

/// Lets the main channel's writer go on.
#[derive(Clone, Debug)]
pub(crate) struct Clearance(queue::Sender<Permit>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Permit {
    /// Past the barrier.
    Devices,
    /// The end too.
    End,
    /// Never.
    None,
}

impl Clearance {
    /// What was placed is what was sent.
    pub(crate) fn give(&self) {
        // The writer has ended when nobody takes it.
        let _ = self.0.send(Permit::Devices);
    }

    /// The guest is this host's: the rest of the stream may go.
    pub(crate) fn release_end(&self) {
        let _ = self.0.send(Permit::End);
    }

    /// Nothing more goes: QEMU finds its stream cut off.
    pub(crate) fn abandon(&self) {
        let _ = self.0.send(Permit::None);
    }
}

/// A batch on its way to a writer.
pub(crate) struct Carried {
    pub(crate) batch: Arc<Resolved>,
    /// What of it does not go into the stream.
    pub(crate) left_out: Arc<PlacedBlocks>,
    pub(crate) ticket: Ticket,
}

/// What the main channel's writer does next.
enum Job {
    Batch(Carried),
    /// QEMU shall say this back, once it has loaded all before it.
    Ping(u32),
}

/// Distributes batches to the writers.
pub(crate) struct Relay {
    main: queue::Sender<Job>,
    others: BTreeMap<u16, queue::Sender<Carried>>,
    nothing: Arc<PlacedBlocks>,
    /// Where the next channel's writer gets it from, once the one before is connected.
    connect: queue::Receiver<Connect>,
    placed: Placed,
    events: UnboundedSender<Event>,
}

impl Relay {
    /// Starts the main channel's writer. `hold` keeps the stream's end back; at the barrier it waits for what is placed `beside` the stream.
    pub(crate) fn start(
        main: WriteHalf,
        page_size: PageSize,
        hold: bool,
        connect: Connect,
        beside: Beside,
        events: UnboundedSender<Event>,
    ) -> io::Result<(Self, Clearance)> {
        let (jobs, waiting) = queue::unbounded();
        let (permits, permitted) = queue::unbounded();
        let placed = beside.placed().clone();
        let writer = MainWriter {
            half: main,
            page_bytes: page_size.bytes() as u64,
            weaver: weaver(page_size),
            out: Vec::new(),
            held: hold.then(StreamEnd::default),
            past_barrier: false,
            beside,
            permitted,
            events: events.clone(),
        };
        spawn("write-0", move || writer.run(&waiting))?;
        let (pass_on, turn) = queue::bounded(1);
        // There is room for it, and `turn` is there.
        let _ = pass_on.send(connect);
        let relay = Self {
            main: jobs,
            others: BTreeMap::new(),
            nothing: Arc::default(),
            connect: turn,
            placed,
            events,
        };
        Ok((relay, Clearance(permits)))
    }

    /// Gives QEMU a batch of this channel, after those before it.
    pub(crate) fn carry(&mut self, channel: u16, carried: Carried) -> Result<(), String> {
        // A writer that has ended has said why.
        if channel == MAIN {
            let _ = self.main.send(Job::Batch(carried));
        } else {
            let _ = self.writer(channel)?.send(carried);
        }
        Ok(())
    }

    /// Lets QEMU say this number back, once it has loaded all that it was given so far.
    pub(crate) fn ping(&self, number: u32) {
        let _ = self.main.send(Job::Ping(number));
    }

    /// The writer of a further channel, which is connected when it is first needed, and after those before it: so QEMU sees the order in which the
    /// source's connected. It connects in its own thread: a QEMU that does not accept keeps only its own channels from going on.
    fn writer(&mut self, channel: u16) -> Result<&queue::Sender<Carried>, String> {
        use std::collections::btree_map::Entry;
        if channel >= CHANNELS_MAX {
            return Err(format!(
                "a batch of channel {channel}; the source may have {CHANNELS_MAX}"
            ));
        }
        match self.others.entry(channel) {
            Entry::Occupied(writer) => Ok(writer.into_mut()),
            Entry::Vacant(place) => {
                let events = self.events.clone();
                let (pass_on, next) = queue::bounded(1);
                let turn = std::mem::replace(&mut self.connect, next);
                let (batches, waiting) = queue::unbounded();
                spawn(&format!("write-{channel}"), move || {
                    match connected(&turn, &pass_on) {
                        Ok(half) => ParallelWriter {
                            channel,
                            half,
                            events,
                        }
                        .run(&waiting),
                        Err(End::Broken(error)) => {
                            let _ = events.send(Event::Broken { channel, error });
                        }
                        Err(End::Closed) => {}
                    }
                })
                .map_err(|error| format!("a thread cannot be started: {error}"))?;
                Ok(place.insert(batches))
            }
        }
    }
}

impl Placement for Relay {
    fn place(&mut self, batch: Arc<Resolved>, _: Option<u64>) -> Result<(), String> {
        let ticket = Ticket::new(&batch, 1, &self.placed);
        let left_out = Arc::clone(&self.nothing);
        let carried = Carried {
            left_out,
            ticket,
            batch,
        };
        self.carry(channel(&carried.batch)?, carried)
    }
}

/// The one channel that a batch is of; the main one when it says nothing of any.
pub(crate) fn channel(batch: &Resolved) -> Result<u16, String> {
    let mut channels = batch.entries().filter_map(|entry| match entry {
        Entry::Zero { channel, .. }
        | Entry::Page { channel, .. }
        | Entry::Opaque { channel, .. } => Some(channel),
        Entry::Barrier => None,
    });
    let first = channels.next().unwrap_or(MAIN);
    if channels.all(|other| other == first) {
        return Ok(first);
    }
    Err(format!(
        "batch {} mixes channels; the source must not do that",
        batch.number()
    ))
}

/// The stream itself says the page size where it is not the target's usual one.
fn weaver(page_size: PageSize) -> Weaver {
    Weaver::new(sealift_stream::PageSize::from_bits(
        page_size.bytes().trailing_zeros(),
    ))
}

/// Connects a channel when it is its turn, and lets the next one.
fn connected(
    turn: &queue::Receiver<Connect>,
    pass_on: &queue::Sender<Connect>,
) -> Result<WriteHalf, End> {
    // The one before was not connected, and has said so.
    let mut connect = turn.recv().map_err(|_| End::Closed)?;
    let half =
        connect().map_err(|why| io::Error::other(format!("it cannot be connected: {why}")))?;
    // Nobody is next when the relay is gone.
    let _ = pass_on.send(connect);
    Ok(half)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}
