//! The way out: from drafts to lanes.
//!
//! ```text
//!   Feed, one per channel of QEMU's                 worker threads                     lane threads
//!  draft ─▶ room in the window? ─▶ number ─▶ [jobs] ─▶ find ─▶ encode ─▶ [bodies] ─▶ seal ─▶ socket
//!                 ▲     book: flight, versions         store                                 │
//!                 └────────────── acknowledge ◀── control channel ◀── receiver ◀─────────────┘
//! ```
//!
//! What is serial is in the `Book`, behind one lock, and is nothing but look-ups: the number and the version map. The store of what
//! was sent has a lock of its own, for workers alone. The queues are not bounded by themselves; the window bounds them, since a batch is counted from its number to its
//! acknowledgement. So a slow receiver, a slow link and slow compression all come back to QEMU as a socket that nobody reads.

mod lane;
mod limit;
mod sent;
mod worker;

use std::fs::File;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel as queue;
use sealift_pages::{Address, CONTENT_MAX, Draft, Encoder, Layout, Store, Tally};
use sealift_precopy::VersionMap;
use sealift_seal::{Keyed, Sealer, Source};
use sealift_session::control::BatchRanges;
use sealift_session::flight::{Cost, Delivered, Flight, Latency, Rates, Unaccounted, Underway};
use tokio::sync::mpsc::UnboundedSender;

use crate::Error;
use crate::lock::lock;
use crate::threads::Threads;

/// How the way out is to be.
#[derive(Debug)]
pub struct Plan {
    /// The guest's blocks, and what was agreed on.
    pub layout: Arc<Layout>,
    /// Threads that compress.
    pub workers: usize,
    /// zstd's level.
    pub level: i32,
    /// Randomness for the search for duplicates, so that no guest can aim at its table.
    pub duplicates_key: u64,
    /// Bytes per second that all lanes may take together; none for as many as the link does.
    pub bandwidth: Option<u64>,
    /// Bytes of content that each channel may have on its way at first.
    pub window: u64,
    /// The version map, of which nothing was sent.
    pub versions: VersionMap,
    /// The keys of the lanes.
    pub keys: Keyed<Source>,
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
        error: std::io::Error,
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
        }
    }
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
    /// What the receiver takes, as far as is known.
    pub rates: Option<Rates>,
    /// How long a batch takes.
    pub latency: Option<Latency>,
    /// Bytes given to the lanes, headers and tags included.
    pub wire: u64,
    /// What was encoded.
    pub tally: Tally,
    /// QEMU has more to give than the window has room for.
    pub waiting: bool,
}

/// The way out. Dropping it closes it.
#[derive(Debug)]
pub struct Outbound {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    layout: Arc<Layout>,
    book: Mutex<Book>,
    /// Copies of what was sent. The book's lock is taken while this one is held, and never the other way round.
    store: Mutex<Store>,
    /// Signalled when the window has room again, and when all is over.
    room: Condvar,
    /// Batches to encode; none once the way out is closed.
    jobs: Mutex<Option<queue::Sender<Job>>>,
    keys: Mutex<Keyed<Source>>,
    tally: Mutex<Tally>,
    wire: AtomicU64,
    limit: Option<limit::Limit>,
    /// Feeds that wait for the window.
    waiting: AtomicUsize,
    closed: AtomicBool,
    start: Instant,
    events: UnboundedSender<Event>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What is serial: one owner, one lock.
struct Book {
    flight: Flight,
    /// All that was acknowledged.
    delivered: Delivered,
    versions: VersionMap,
}

/// A batch that has its number.
struct Job {
    number: u64,
    draft: Draft,
    /// The batch before this one with each page that has content in it, by address.
    before: Vec<(Address, Option<u64>)>,
}

/// A batch that is ready to be sealed: room for the header, the body, room for the tag.
struct Body {
    number: u64,
    buffer: Vec<u8>,
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
            level,
            duplicates_key,
            bandwidth,
            window,
            versions,
            keys,
        } = plan;
        let (jobs, waiting) = queue::unbounded();
        let kept = layout.agreed().oldest.saturating_mul(CONTENT_MAX);
        let shared = Arc::new(Shared {
            book: Mutex::new(Book {
                flight: Flight::new(window),
                delivered: Delivered::default(),
                versions,
            }),
            store: Mutex::new(Store::new(kept, duplicates_key, layout.page_size())),
            layout,
            room: Condvar::new(),
            jobs: Mutex::new(Some(jobs)),
            keys: Mutex::new(keys),
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
            threads: Threads::default(),
        };
        let threads = &mut outbound.threads;
        // Made after `outbound`, and so dropped before it: where a thread cannot be started, those that were end only once nobody
        // can give them more.
        let (bodies, ready) = queue::unbounded();
        let (empties, reusable) = queue::bounded(workers + lanes.len() + SPARE_BUFFERS);
        for number in 0..workers.max(1) {
            let worker = worker::Worker {
                shared: Arc::clone(&shared),
                finder: lock(&shared.store).finder(),
                encoder: Encoder::new(level),
                jobs: waiting.clone(),
                bodies: bodies.clone(),
                empties: reusable.clone(),
            };
            threads.spawn(format!("encode-{number}"), move || worker.run())?;
        }
        for Lane { way, sealer } in lanes {
            if let Way::Peer(stream) = &way {
                threads.wait_for(stream)?;
            }
            let name = format!("lane-{}", sealer.lane());
            let lane = lane::Thread {
                shared: Arc::clone(&shared),
                way,
                sealer,
                bodies: ready.clone(),
                empties: empties.clone(),
            };
            threads.spawn(name, move || lane.run())?;
        }
        Ok(outbound)
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
    pub fn acknowledge(&self, ranges: &BatchRanges<1>) -> Result<Delivered, Unaccounted> {
        self.shared.acknowledge(ranges)
    }

    /// How many bytes of content each channel may have on the way.
    pub fn set_window(&self, bytes: u64) {
        lock(&self.shared.book).flight.set_window(bytes);
        self.shared.room.notify_all();
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let now = self.now();
        let flight = {
            let book = lock(&self.shared.book);
            let flight = &book.flight;
            (
                flight.next(),
                flight.in_flight(),
                book.delivered,
                flight.rates(now),
                flight.latency(),
            )
        };
        let (batches, in_flight, delivered, rates, latency) = flight;
        Standing {
            batches,
            in_flight,
            delivered,
            rates,
            latency,
            wire: self.shared.wire.load(Ordering::Relaxed),
            tally: *lock(&self.shared.tally),
            waiting: self.shared.waiting.load(Ordering::Relaxed) > 0,
        }
    }

    /// Time since the way out was opened: the clock of all that it reports.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Closes it: what is queued is dropped, threads end, connections too.
    pub fn close(&mut self) {
        self.shared.close();
        self.threads.end();
    }
}

/// Buffers kept beside those in use, so that neither side of a queue waits for the allocator.
const SPARE_BUFFERS: usize = 8;

impl Drop for Outbound {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(lock(&self.jobs).take());
        if let Some(limit) = &self.limit {
            limit.end();
        }
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.book));
        self.room.notify_all();
    }

    fn sent(&self, number: u64, wire: u64, lane: u8) {
        let now = self.start.elapsed();
        // The lane got the number from the flight itself.
        let _ = lock(&self.book).flight.sent(number, wire, lane, now);
    }

    fn acknowledge(&self, ranges: &BatchRanges<1>) -> Result<Delivered, Unaccounted> {
        let now = self.start.elapsed();
        let delivered = {
            let mut book = lock(&self.book);
            let delivered = book.flight.acknowledge(ranges, now)?;
            let all = &mut book.delivered;
            all.batches += delivered.batches;
            all.content = all.content.saturating_add(delivered.content);
            all.wire = all.wire.saturating_add(delivered.wire);
            delivered
        };
        self.room.notify_all();
        Ok(delivered)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn tell(&self, event: Event) {
        // Nobody drives the session any more: then nobody needs to know.
        let _ = self.events.send(event);
    }

    /// Whoever finds the first thing wrong says so; what others find is what came of it.
    fn broken(&self, why: Broken) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.tell(Event::Broken(why));
        }
        self.close();
    }
}

/// Where one of QEMU's channels is fed in.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    channel: u16,
}

impl Feed {
    /// The same for another channel.
    #[must_use]
    pub fn of(&self, channel: u16) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            channel,
        }
    }

    /// Takes a batch: waits until the window has room, gives it its number and queues it. `draft` is replaced by an empty one.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn submit(&self, draft: &mut Draft) -> Result<u64, Closed> {
        let cost = Cost {
            content: draft.memory() as u64,
        };
        let fresh = Draft::new(self.shared.layout.page_size());
        let (number, draft, before) = {
            let mut book = lock(&self.shared.book);
            let number = loop {
                if self.shared.is_closed() {
                    return Err(Closed);
                }
                if book.flight.has_room(self.channel)
                    && let Ok(number) = book.flight.allot(self.channel, cost)
                {
                    break number;
                }
                self.shared.waiting.fetch_add(1, Ordering::Relaxed);
                book = self
                    .shared
                    .room
                    .wait(book)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            };
            let draft = std::mem::replace(draft, fresh);
            let before = sent::before(&draft, &book.versions);
            let mut fits = true;
            for (first, run) in draft.addresses() {
                fits &= book.versions.stamp(first, run, number).is_ok();
            }
            if !fits {
                drop(book);
                self.shared.broken(Broken::Versions(number));
                return Err(Closed);
            }
            (number, draft, before)
        };
        let jobs = lock(&self.shared.jobs);
        let job = Job {
            number,
            draft,
            before,
        };
        match jobs.as_ref().map(|jobs| jobs.send(job).is_ok()) {
            Some(true) => Ok(number),
            _ => Err(Closed),
        }
    }

    /// The digest over the version map as it is now.
    #[must_use]
    pub fn versions(&self) -> [u8; 32] {
        let algorithm = self.shared.layout.agreed().digest;
        lock(&self.shared.book).versions.digest(algorithm)
    }

    /// How many batches were numbered.
    #[must_use]
    pub fn batches(&self) -> u64 {
        lock(&self.shared.book).flight.next()
    }
}
