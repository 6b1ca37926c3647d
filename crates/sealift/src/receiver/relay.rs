//! Puts the stream together again and gives it to QEMU, in batch order.
//!
//! ```text
//!  sequencer ─▶ Relay ─┬─ channel 0 ─▶ [batches] ─▶ writer ─▶ QEMU's main channel     records become pages again
//!                      └─ channel n ─▶ [batches] ─▶ writer ─▶ QEMU's n-th channel     connected when its first batch comes
//! ```
//!
//! Each channel has a writer of its own, because QEMU reads them at its own pace and makes one wait for another. At a barrier the main
//! channel's writer stops until the session says that what was placed is what was sent.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel as queue;
use sealift_net::inbound::{Placed, Placement};
use sealift_pages::{Address, Entry, PageSize, Resolved};
use sealift_qemu::channel::WriteHalf;
use sealift_session::flight::CHANNELS_MAX;
use sealift_stream::main_channel::{Content, Emitter, Item, Page, Parser};
use tokio::sync::mpsc::UnboundedSender;

use super::stream_end::StreamEnd;

/// Bytes that are gathered before they are written: QEMU's socket takes about 200 KiB at once.
const WRITE: usize = 128 << 10;

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

/// Distributes batches to the writers.
pub(crate) struct Relay {
    writers: BTreeMap<u16, queue::Sender<Arc<Resolved>>>,
    /// Where the next channel's writer gets it from, once the one before is connected.
    connect: queue::Receiver<Connect>,
    placed: Placed,
    events: UnboundedSender<Event>,
}

impl Relay {
    /// Starts the main channel's writer. `hold` keeps the stream's end back.
    pub(crate) fn start(
        main: WriteHalf,
        page_size: PageSize,
        hold: bool,
        connect: Connect,
        placed: Placed,
        events: UnboundedSender<Event>,
    ) -> io::Result<(Self, Clearance)> {
        let (batches, waiting) = queue::unbounded();
        let (permits, permitted) = queue::unbounded();
        let writer = MainWriter {
            half: main,
            page_bytes: page_size.bytes() as u64,
            parser: parser(page_size),
            emitter: Emitter::new(),
            between: Vec::new(),
            out: Vec::new(),
            held: hold.then(StreamEnd::default),
            past_barrier: false,
            placed: placed.clone(),
            permitted,
            events: events.clone(),
        };
        spawn("write-0", move || writer.run(&waiting))?;
        let (pass_on, turn) = queue::bounded(1);
        // There is room for it, and `turn` is there.
        let _ = pass_on.send(connect);
        let relay = Self {
            writers: BTreeMap::from([(MAIN, batches)]),
            connect: turn,
            placed,
            events,
        };
        Ok((relay, Clearance(permits)))
    }

    /// The writer of a channel, which is connected when it is first needed, and after those before it: so QEMU sees the order in which the
    /// source's connected. It connects in its own thread: a QEMU that does not accept keeps only its own channels from going on.
    fn writer(&mut self, channel: u16) -> Result<&queue::Sender<Arc<Resolved>>, String> {
        use std::collections::btree_map::Entry;
        if channel >= CHANNELS_MAX {
            return Err(format!(
                "a batch of channel {channel}; the source may have {CHANNELS_MAX}"
            ));
        }
        match self.writers.entry(channel) {
            Entry::Occupied(writer) => Ok(writer.into_mut()),
            Entry::Vacant(place) => {
                let (placed, events) = (self.placed.clone(), self.events.clone());
                let (pass_on, next) = queue::bounded(1);
                let turn = std::mem::replace(&mut self.connect, next);
                let (batches, waiting) = queue::unbounded();
                spawn(&format!("write-{channel}"), move || {
                    match connected(&turn, &pass_on) {
                        Ok(half) => ParallelWriter {
                            channel,
                            half,
                            placed,
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
    fn place(&mut self, batch: Arc<Resolved>) -> Result<(), String> {
        let Some(channel) = channel(&batch) else {
            return Err(format!(
                "batch {} mixes channels; the source must not do that",
                batch.number()
            ));
        };
        // A writer that has ended has said why.
        let _ = self.writer(channel)?.send(batch);
        Ok(())
    }
}

/// The one channel that a batch is of; the main one when it says nothing of any.
fn channel(batch: &Resolved) -> Option<u16> {
    let mut channels = batch.entries().filter_map(|entry| match entry {
        Entry::Zero { channel, .. }
        | Entry::Page { channel, .. }
        | Entry::Opaque { channel, .. } => Some(channel),
        Entry::Barrier => None,
    });
    let first = channels.next().unwrap_or(MAIN);
    channels.all(|other| other == first).then_some(first)
}

/// A parser for what stands between the pages. The stream itself says the page size where it is not the target's usual one.
fn parser(page_size: PageSize) -> Parser {
    match sealift_stream::PageSize::from_bits(page_size.bytes().trailing_zeros()) {
        Some(page_size) => Parser::with_page_size(page_size),
        None => Parser::new(),
    }
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

/// Pieces that are gathered before they are written: a run of zeros may be longer than memory for their list.
const PIECES: usize = 1024;
/// The main channel's number in records.
const MAIN: u16 = 0;

struct MainWriter {
    half: WriteHalf,
    page_bytes: u64,
    /// Takes the bytes between the pages apart: the blocks are learnt from them.
    parser: Parser,
    emitter: Emitter,
    /// Bytes between pages that are not a whole item yet.
    between: Vec<u8>,
    out: Vec<u8>,
    held: Option<StreamEnd>,
    past_barrier: bool,
    placed: Placed,
    permitted: queue::Receiver<Permit>,
    events: UnboundedSender<Event>,
}

/// Why a writer ends.
enum End {
    /// The session has ended.
    Closed,
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl MainWriter {
    fn run(mut self, waiting: &queue::Receiver<Arc<Resolved>>) {
        if let Err(End::Broken(error)) = self.carry(waiting) {
            let _ = self.events.send(Event::Broken {
                channel: MAIN,
                error,
            });
        }
    }

    fn carry(&mut self, waiting: &queue::Receiver<Arc<Resolved>>) -> Result<(), End> {
        while let Ok(batch) = waiting.recv() {
            self.batch(&batch)?;
            self.flush()?;
            self.placed.done(batch.number(), batch.memory() as u64);
            if let Some(held) = &mut self.held
                && let Some(before) = held.found()
            {
                self.half.write_all(&before)?;
                let _ = self.events.send(Event::HoldsEnd);
                self.wait_for(Permit::End)?;
                if let Some(held) = self.held.take() {
                    self.half.write_all(held.bytes())?;
                }
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Resolved) -> Result<(), End> {
        for entry in batch.entries() {
            match entry {
                Entry::Zero { first, run, .. } => {
                    for place in 0..run {
                        let page = first.page + place;
                        self.page(Address { page, ..first }, Content::Zero)?;
                    }
                }
                Entry::Page { at, content, .. } => self.page(at, Content::Whole(content))?,
                Entry::Opaque { bytes, .. } => self.between(bytes)?,
                Entry::Barrier => self.barrier(batch.number())?,
            }
        }
        Ok(())
    }

    fn page(&mut self, at: Address, content: Content<'_>) -> Result<(), End> {
        if self.past_barrier {
            return Err(End::Broken(io::Error::other(
                "a page that comes after memory was compared; the source is at fault",
            )));
        }
        let Some(block) = self.parser.blocks().id(usize::from(at.block)) else {
            return Err(End::Broken(io::Error::other(
                "a page of a RAM block that the guest's stream does not list; the source is at fault",
            )));
        };
        let page = Page {
            block,
            offset: at.page * self.page_bytes,
            named: false,
            content,
        };
        self.emitter.emit(&Item::Page(page), &mut self.out);
        self.flush_when_full()
    }

    fn between(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.between.extend_from_slice(bytes);
        let between = std::mem::take(&mut self.between);
        let mut rest = between.as_slice();
        while let Some(item) = self.parser.pull(&mut rest) {
            self.emitter.emit(&item, &mut self.out);
        }
        self.between = rest.to_vec();
        self.flush_when_full()
    }

    /// Everything before it is written; what comes after it may only go on once the session is content.
    fn barrier(&mut self, number: u64) -> Result<(), End> {
        if std::mem::replace(&mut self.past_barrier, true) {
            return Ok(());
        }
        self.flush()?;
        let _ = self.events.send(Event::AtBarrier {
            batches: number + 1,
        });
        self.wait_for(Permit::Devices)
    }

    fn wait_for(&self, wanted: Permit) -> Result<(), End> {
        match self.permitted.recv() {
            Ok(permit) if permit == wanted => Ok(()),
            _ => Err(End::Closed),
        }
    }

    fn flush_when_full(&mut self) -> Result<(), End> {
        if self.out.len() >= WRITE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        match &mut self.held {
            Some(held) if self.past_barrier => self.half.write_all(&held.pass(&self.out))?,
            _ => self.half.write_all(&self.out)?,
        }
        self.out.clear();
        Ok(())
    }
}

struct ParallelWriter {
    channel: u16,
    half: WriteHalf,
    placed: Placed,
    events: UnboundedSender<Event>,
}

impl ParallelWriter {
    fn run(mut self, waiting: &queue::Receiver<Arc<Resolved>>) {
        if let Err(error) = self.carry(waiting) {
            let _ = self.events.send(Event::Broken {
                channel: self.channel,
                error,
            });
        }
    }

    /// A batch is written from where it lies: QEMU reads a packet's head, and then its pages straight into the guest.
    fn carry(&mut self, waiting: &queue::Receiver<Arc<Resolved>>) -> io::Result<()> {
        let mut zeros = Vec::new();
        while let Ok(batch) = waiting.recv() {
            zeros.resize(batch.page_size().bytes(), 0);
            let mut pieces = Vec::new();
            for entry in batch.entries() {
                match entry {
                    Entry::Opaque { bytes, .. } => pieces.push(IoSlice::new(bytes)),
                    Entry::Page { content, .. } => pieces.push(IoSlice::new(content)),
                    // Among a packet's pages one of zeros is a page like any other.
                    Entry::Zero { run, .. } => {
                        for _ in 0..run {
                            pieces.push(IoSlice::new(&zeros));
                            if pieces.len() >= PIECES {
                                self.write(&mut pieces)?;
                                pieces.clear();
                            }
                        }
                    }
                    Entry::Barrier => {}
                }
            }
            self.write(&mut pieces)?;
            self.placed.done(batch.number(), batch.memory() as u64);
        }
        Ok(())
    }

    fn write(&mut self, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = pieces;
        // Empty ones would look like an end that takes nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.half.write_vectored(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
        Ok(())
    }
}
