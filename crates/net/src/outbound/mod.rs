//! The way out: from drafts and dirty pages to lanes.
//!
//! ```text
//!   Feed, one per channel of QEMU's                 worker threads                    lane threads
//!  draft ─▶ room in the window? ─▶ number ─▶ [jobs] ─┬─▶ find ─▶ encode ─▶ [bodies] ─▶ seal ─▶ socket
//!  pages ─▶ dirty map ─▶ room? ─▶ take, number ─▶ read ┘  store                               │
//!                 ▲     book: flight, versions, dirty map                                     │
//!                 └────────────── acknowledge ◀── control channel ◀── receiver ◀──────────────┘
//! ```
//!
//! What is serial is in the `Book`, behind one lock, and is nothing but look-ups: the number, the version map, which pages are dirty.
//! A batch may be compressed on a window, behind those that went there before, as the ladder finds that it pays. It gets its window with
//! its number, so slots rise with numbers. The store of what was sent has a lock of its own, for workers alone. The queues are not bounded
//! by themselves; the window bounds them, since a batch is counted from its number to its acknowledgement. So a slow receiver, a slow link
//! and slow compression all come back to QEMU as a socket that nobody reads.
//!
//! Pages come in one of two ways. With stream access their contents come with them, in drafts. With direct access QEMU only says which
//! pages are dirty, and a worker reads them when it comes to send them. A batch of these gets its number in the same moment in which its
//! pages are taken off the dirty map, before they are read: so of two batches with one page, the higher number has what the guest wrote last.

mod effort;
mod feed;
mod kept;
mod ladder;
mod lane;
mod limit;
mod manners;
mod sent;
mod shared;
#[cfg(test)]
mod switching;
mod worker;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel as queue;
use sealift_pages::{Address, CONTENT_MAX, Encoder, Layout, Packing, Store, Tally};
use sealift_precopy::{Costs, Engine, NoSuchPage, VersionMap};
use sealift_seal::{Keyed, Sealer, Source};
use sealift_session::control::BatchRanges;
use sealift_session::flight::{Delivered, Flight, Latency, Unaccounted, Underway};
use tokio::sync::mpsc::UnboundedSender;

pub use feed::{Feed, Mark};

use crate::Error;
use crate::lock::lock;
use crate::threads::Threads;
use effort::Effort;
use sent::PlacedBlocks;
use shared::{Body, Book, Shared};

/// How the way out is to be.
#[derive(Debug)]
pub struct Plan {
    /// The guest's blocks, and what was agreed on.
    pub layout: Arc<Layout>,
    /// Threads that compress.
    pub workers: usize,
    /// How hard they do.
    pub compression: Compression,
    /// Bytes that the store of what was sent may take.
    pub store: u64,
    /// Randomness for the store's tables, so that no guest can aim at them.
    pub store_key: u64,
    /// Bytes per second that all lanes may take together; none for as many as the link does.
    pub bandwidth: Option<u64>,
    /// Bytes of content that each channel may have on its way at first.
    pub window: u64,
    /// The version map, of which nothing was sent.
    pub versions: VersionMap,
    /// The keys of the lanes.
    pub keys: Keyed<Source>,
    /// With direct access: the guest's memory, and what of it is dirty.
    pub direct: Option<Direct>,
    /// The session may be taken up again on other connections: what was sent is kept until it is acknowledged.
    pub keeps: bool,
}

/// How hard batches are compressed, where zstd was agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// At this level of zstd's, each alone.
    Level(i32),
    /// As it pays now: from not at all, when workers hold up the link, to windows, when the link holds up workers.
    Adaptive,
}

/// Pages are read when they are sent.
#[derive(Debug)]
pub struct Direct {
    /// Where from.
    pub memory: Arc<dyn Memory>,
    /// What is to be sent, and in which order.
    pub engine: Engine,
}

/// A guest's memory, which the guest may be writing to.
pub trait Memory: std::fmt::Debug + Send + Sync {
    /// Copies pages, one behind the other, each once.
    ///
    /// # Errors
    /// When it cannot be reached any more: the session ends.
    fn read(&self, pages: &[Address], into: &mut [u8]) -> io::Result<()>;
}

/// A lane that batches can go into, and the keys of its first epoch.
#[derive(Debug)]
pub struct Lane {
    /// Where it leads.
    pub way: Way,
    /// Seals what goes into it.
    pub sealer: Sealer,
}

/// Where a lane leads.
#[derive(Debug)]
pub enum Way {
    /// To a receiver, which acknowledges. The lane has said hello.
    Peer(TcpStream),
    /// Into a file, the only lane of its session. Batches are written in the order of their numbers, and one that is written is
    /// acknowledged.
    File(File),
}

/// What the way out tells whoever drives the session.
#[derive(Debug)]
pub enum Event {
    /// A lane goes over to a new epoch; the receiver is to be told.
    Epoch {
        /// The lane.
        lane: u8,
        /// The new epoch.
        epoch: u32,
        /// Batches that were sealed in the one before.
        sealed_before: u64,
    },
    /// A lane broke.
    LaneLost {
        /// The lane.
        lane: u8,
        /// How.
        error: io::Error,
    },
    /// Something in here failed that must not: the session ends.
    Broken(Broken),
}

/// A failure inside the way out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Broken {
    /// A batch could not be encoded.
    Encode(sealift_pages::EncodeError),
    /// A batch could not be sealed.
    Seal(sealift_seal::Error),
    /// The number of a batch, or a page of it, does not fit the version map.
    Versions(u64),
    /// QEMU named pages that the guest does not have.
    Marked(NoSuchPage),
    /// The guest's memory cannot be read any more.
    Memory(io::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Encode(error) => write!(f, "encoding failed: {error}"),
            Self::Seal(error) => write!(f, "sealing failed: {error}"),
            Self::Versions(number) => {
                write!(
                    f,
                    "batch {number} or a page of it is beyond the version map"
                )
            }
            Self::Marked(no_such_page) => no_such_page.fmt(f),
            Self::Memory(error) => write!(f, "the guest's memory cannot be read any more: {error}"),
        }
    }
}

/// How pages that are read directly are to go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of content that make a batch.
    pub batch: u64,
    /// Bytes on the wire that pages may cost which wait for the guest's stop.
    pub may_wait: u64,
    /// That is near.
    pub hurry: bool,
    /// Bytes in a second that the link can carry, if that is known.
    pub wire_rate: Option<u64>,
}

/// The way out has been closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Closed;

/// Where the way out stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Batches numbered so far.
    pub batches: u64,
    /// What is not acknowledged.
    pub in_flight: Underway,
    /// What is.
    pub delivered: Delivered,
    /// How long a batch takes.
    pub latency: Option<Latency>,
    /// Bytes given to the lanes, headers and tags included.
    pub wire: u64,
    /// What was encoded.
    pub tally: Tally,
    /// There is more to send than the window has room for.
    pub waiting: bool,
    /// What is dirty and on its way, as it will cost, with direct access.
    pub costs: Option<Costs>,
}

/// The way out. Dropping it closes it.
#[derive(Debug)]
pub struct Outbound {
    shared: Arc<Shared>,
    workers: Threads,
    lanes: Threads,
    /// Dropped, it ends lanes that have nothing to write.
    stop: Option<queue::Sender<Infallible>>,
    /// For what goes again, and for lanes to come.
    bodies: (queue::Sender<Body>, queue::Receiver<Body>),
}

impl Outbound {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(
        plan: Plan,
        lanes: Vec<Lane>,
        events: UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let Plan {
            layout,
            workers,
            compression,
            store,
            store_key,
            bandwidth,
            window,
            versions,
            keys,
            direct,
            keeps,
        } = plan;
        let (memory, engine) = match direct {
            Some(Direct { memory, engine }) => (Some(memory), Some(engine)),
            None => (None, None),
        };
        let (level, windows) = match compression {
            Compression::Level(level) => (level, 0),
            // One for each worker at most, lowest last: those that are used are used again, and the others take no memory.
            Compression::Adaptive => {
                let windows = layout.agreed().windows.min(workers.max(1) as u64);
                (ladder::FAR_LEVEL, windows)
            }
        };
        let ladder = ladder::Ladder::new(workers, lanes.len(), windows > 0);
        let windows = (1..=windows).rev();
        let bodies = queue::unbounded();
        let (empties, reusable) = queue::bounded(SPARE_BUFFERS);
        let shared = Arc::new(Shared {
            compression,
            ladder: Mutex::new(ladder),
            book: Mutex::new(Book {
                flight: Flight::new(window),
                delivered: Delivered::default(),
                versions,
                jobs: VecDeque::new(),
                windows: windows.map(|window| Packing::new(window, level)).collect(),
                engine,
                batch: CONTENT_MAX,
                hurry: false,
                wire_rate: None,
                effort: Effort::new(workers),
            }),
            store: Mutex::new(Store::new(store, store_key, layout.page_size())),
            memory,
            layout,
            placed: PlacedBlocks::default(),
            room: Condvar::new(),
            work: Condvar::new(),
            taken: Condvar::new(),
            keys: Mutex::new(keys),
            kept: Mutex::default(),
            keeps,
            empties,
            interrupted: AtomicBool::new(false),
            tally: Mutex::new(Tally::default()),
            wire: AtomicU64::new(0),
            limit: bandwidth.map(limit::Limit::new),
            waiting: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            start: Instant::now(),
            events,
        });
        let mut outbound = Self {
            shared: Arc::clone(&shared),
            workers: Threads::default(),
            lanes: Threads::default(),
            stop: None,
            bodies,
        };
        for number in 0..workers.max(1) {
            let worker = worker::Worker {
                shared: Arc::clone(&shared),
                finder: lock(&shared.store).finder(),
                encoder: Encoder::new(level),
                spare: Vec::new(),
                alone: Vec::new(),
                bodies: outbound.bodies.0.clone(),
                empties: reusable.clone(),
            };
            let name = format!("encode-{number}");
            outbound.workers.spawn(name, move || worker.run())?;
        }
        outbound.open(lanes)?;
        Ok(outbound)
    }

    /// Starts a thread for each lane.
    fn open(&mut self, lanes: Vec<Lane>) -> Result<(), Error> {
        let (running, stop) = queue::bounded(0);
        self.stop = Some(running);
        for Lane { way, sealer } in lanes {
            if let Way::Peer(stream) = &way {
                self.lanes.wait_for(stream)?;
            }
            let name = format!("lane-{}", sealer.lane());
            let lane = lane::Thread {
                shared: Arc::clone(&self.shared),
                way,
                sealer,
                bodies: self.bodies.1.clone(),
                stop: stop.clone(),
            };
            self.lanes.spawn(name, move || lane.run())?;
        }
        Ok(())
    }

    /// The connections are gone, or are given up: lanes end. QEMU is read on, and batches are made, for as long as the window has room. What was sent and not
    /// acknowledged is kept, if [`Plan::keeps`] says so.
    pub fn interrupt(&mut self) {
        self.shared.interrupted.store(true, Ordering::SeqCst);
        if let Some(limit) = &self.shared.limit {
            limit.wake();
        }
        self.stop = None;
        self.lanes.end();
    }

    /// The lowest batch that is not acknowledged: what the receiver needs to know to take the session up again.
    #[must_use]
    pub fn lowest_unacknowledged(&self) -> u64 {
        lock(&self.shared.book).flight.lowest_unacknowledged()
    }

    /// Goes on by other lanes and under other keys, after [`Self::interrupt`]. What the receiver has not seen goes again.
    ///
    /// # Errors
    /// [`Error::Thread`]; [`Error::Resealing`], which is a fault of the program.
    pub fn resume(
        &mut self,
        keys: Keyed<Source>,
        lanes: Vec<Lane>,
        has_seen: impl Fn(u64) -> bool,
    ) -> Result<u64, Error> {
        let unseen = lock(&self.shared.kept).take_unseen(has_seen);
        let unseen = unseen.map_err(Error::Resealing)?;
        let again = unseen.len() as u64;
        for body in unseen {
            // This end holds the other end of the queue.
            let _ = self.bodies.0.send(body);
        }
        *lock(&self.shared.keys) = keys;
        self.shared.interrupted.store(false, Ordering::SeqCst);
        self.open(lanes)?;
        Ok(again)
    }

    /// For a thread that reads one of QEMU's channels.
    #[must_use]
    pub fn feed(&self, channel: u16) -> Feed {
        Feed {
            shared: Arc::clone(&self.shared),
            channel,
        }
    }

    /// The receiver has placed batches.
    ///
    /// # Errors
    /// When it names some that it cannot have.
    pub fn acknowledge(&self, ranges: &BatchRanges) -> Result<Delivered, Unaccounted> {
        self.shared.acknowledge(ranges)
    }

    /// The receiver has these blocks' pages in its guest's memory: whatever they got last can be named from now on, however old it is;
    /// unless [its QEMU has to load pages itself](Feed::pages_are_qemus).
    pub fn placed(&self, blocks: &[u16]) {
        self.shared.placed.add(blocks);
    }

    /// How many bytes of content each channel may have on the way.
    pub fn set_window(&self, bytes: u64) {
        lock(&self.shared.book).flight.set_window(bytes);
        self.shared.there_is_room();
    }

    /// How pages that are read directly are to go.
    pub fn set_pace(&self, pace: Pace) {
        let mut book = lock(&self.shared.book);
        book.batch = pace.batch.min(CONTENT_MAX);
        book.hurry = pace.hurry;
        book.wire_rate = pace.wire_rate;
        if let Some(engine) = &mut book.engine {
            engine.may_wait(pace.may_wait);
            engine.hurry(pace.hurry);
        }
    }

    /// QEMU may stop the guest from now on: whoever reads its channel waits for nothing any more.
    pub fn release(&self) {
        if let Some(engine) = &mut lock(&self.shared.book).engine {
            engine.release();
        }
        self.shared.taken.notify_all();
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let now = self.now();
        let book = lock(&self.shared.book);
        let flight = &book.flight;
        let engine = book.engine.as_ref();
        let ready = engine.is_some_and(|engine| engine.has_work(now));
        Standing {
            batches: flight.next(),
            in_flight: flight.in_flight(),
            delivered: book.delivered,
            latency: flight.latency(),
            wire: self.shared.wire.load(Ordering::Relaxed),
            tally: *lock(&self.shared.tally),
            waiting: self.shared.waiting.load(Ordering::Relaxed) > 0 || ready,
            costs: engine.map(Engine::costs),
        }
    }

    /// Time since the way out was opened: the clock of all that it reports.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// Closes it: what is queued is dropped, threads end, connections too.
    pub fn close(&mut self) {
        self.shared.close();
        self.stop = None;
        self.lanes.end();
        self.workers.end();
    }
}

/// Buffers that wait to be used again, so that nobody waits for the allocator: an acknowledgement frees a few dozen at once.
const SPARE_BUFFERS: usize = 64;

impl Drop for Outbound {
    fn drop(&mut self) {
        self.close();
    }
}
