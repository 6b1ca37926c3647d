//! The way in: from lanes to whoever places what arrives.
//!
//! ```text
//!   lane threads                        worker threads              sequencer
//!  socket ─▶ check ─▶ open ─▶ [jobs] ─▶ decode, verify ─▶ [decoded] ─▶ batch order ─▶ resolve ─▶ Placement
//!                      │ ledger                                          versions        │ placed
//!                      └ each number once                                                ▼
//!                                                                     Arrivals ─▶ acknowledgements
//! ```
//!
//! A batch that goes on a window is decoded behind those before it there; which lane it came through does not matter.
//!
//! The source keeps what is on its way within [`HELD_MAX`]; a session whose source does not is ended. So nothing in here needs to wait
//! for anything but its own input, and memory is bounded whatever the peer does.

mod lane;
mod placed;
mod sequencer;
mod windows;
mod worker;

pub use placed::{Closed, Placed};
use sealift_session::flight::{HELD_MAX, WINDOW_MAX};

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crossbeam_channel as queue;
use sealift_pages::{Address, Agreed, Decoder, Layout, Mirror, Resolved};
use sealift_precopy::VersionMap;
use sealift_seal::{Keyed, Ledger, Opener, Receiver};
use sealift_session::control::Epoch;
use tokio::sync::mpsc::UnboundedSender;

use crate::Error;
use crate::lock::lock;
use crate::threads::Threads;
use windows::Windows;

/// How the way in is to be.
#[derive(Debug)]
pub struct Plan {
    /// The guest's blocks, and what was agreed on.
    pub layout: Arc<Layout>,
    /// Threads that decode.
    pub workers: usize,
    /// The version map, of which nothing has arrived.
    pub versions: VersionMap,
    /// The keys of the lanes.
    pub keys: Keyed<Receiver>,
}

/// A lane that batches come out of, and the keys of its first epoch.
#[derive(Debug)]
pub struct Lane {
    /// Where it comes from.
    pub way: Way,
    /// Opens what comes out of it.
    pub opener: Opener,
}

/// Where a lane comes from.
#[derive(Debug)]
pub enum Way {
    /// From a source that was admitted: it keeps within [`WINDOW_MAX`], and announces epochs.
    Peer(TcpStream),
    /// Out of a file, the only lane of its session, which holds batches in the order of their numbers. It is read as fast as they are
    /// placed.
    File(io::Take<File>),
}

/// Takes the batches, in order.
pub trait Placement: Send {
    /// Takes a batch. What takes time is for threads of its own, which tell [`Placed`] when they are done. It may wait for these, by
    /// [`Placed::wait_until`], and for nothing else.
    ///
    /// `over` is the newest batch before this one that has put any of the same pages: once all up to that are in place, this one may be put over them.
    ///
    /// # Errors
    /// When the batch cannot be placed; the session ends.
    fn place(&mut self, batch: Arc<Resolved>, over: Option<u64>) -> Result<(), String>;

    /// Reads back the content that a page has by this batch, which must be the newest that has put it, and may wait until it is in place.
    /// Returns false where it cannot be read back.
    ///
    /// # Errors
    /// When it could be, and cannot any more; the session ends.
    fn content(&mut self, _page: Address, _batch: u64, _into: &mut [u8]) -> Result<bool, String> {
        Ok(false)
    }
}

/// What the way in tells whoever drives the session.
#[derive(Debug)]
pub enum Event {
    /// There is something to acknowledge: see [`Placed::take_ranges`].
    Placed,
    /// A lane's connection ended, at the boundary of a batch or within one.
    LaneLost {
        /// The lane.
        lane: u8,
        /// How; nothing at a boundary.
        error: Option<io::Error>,
    },
    /// The session cannot go on.
    Broken(Broken),
}

/// A failure that ends the session.
#[derive(Debug)]
pub enum Broken {
    /// A batch did not open, or was replayed.
    Seal(sealift_seal::Error),
    /// A batch is not of the format.
    Decode(sealift_pages::DecodeError),
    /// A batch names what is not there.
    Resolve(sealift_pages::Unresolvable),
    /// A batch does not say what its digest says.
    Altered(sealift_pages::Altered),
    /// The source sends more than it may have on its way.
    TooMuch {
        /// Bytes held.
        held: u64,
    },
    /// The source used keys that it did not announce.
    Epoch(u8),
    /// A file's batches are not in the order of their numbers.
    Disorder {
        /// The number that was due.
        expected: u64,
        /// The one that was there.
        found: u64,
    },
    /// A batch could not be placed.
    Placement(String),
    /// The number of a batch does not fit the version map.
    Versions(u64),
}

/// Where the way in stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Pages that batches put, one by one.
    pub pages: u64,
    /// Bytes of opened bodies.
    pub bytes: u64,
    /// Bytes that the lanes carried, headers and tags included.
    pub wire: u64,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seal(error) => write!(f, "a batch was refused: {error}"),
            Self::Decode(error) => write!(f, "a batch was refused: {error}"),
            Self::Resolve(error) => write!(f, "a batch was refused: {error}"),
            Self::Altered(error) => write!(f, "a batch was refused: {error}"),
            Self::TooMuch { held } => write!(
                f,
                "the source sends more than it may: {held} bytes wait to be placed, and {HELD_MAX} is the most"
            ),
            Self::Epoch(lane) => write!(
                f,
                "lane {lane} went over to keys that the source has not announced"
            ),
            Self::Disorder { expected, found } => {
                write!(f, "batch {found} stands where batch {expected} must")
            }
            Self::Placement(why) => f.write_str(why),
            Self::Versions(number) => {
                write!(
                    f,
                    "batch {number} or a page of it is beyond the version map"
                )
            }
        }
    }
}

/// The way in. Dropping it closes it.
#[derive(Debug)]
pub struct Inbound {
    shared: Arc<Shared>,
    /// All but the lanes.
    threads: Threads,
    lanes: Threads,
    /// For lanes to come. Without it, and without lanes, workers end.
    jobs: Option<queue::Sender<Job>>,
    empties: queue::Receiver<Vec<u8>>,
}

struct Shared {
    layout: Arc<Layout>,
    ledger: Mutex<Ledger>,
    keys: Mutex<Keyed<Receiver>>,
    /// Epochs that were announced and not begun, by lane.
    announced: Mutex<HashMap<u8, Epoch>>,
    announcement: Condvar,
    placed: Placed,
    windows: Windows,
    closed: AtomicBool,
    /// There are no connections: lanes end.
    interrupted: AtomicBool,
    versions: Mutex<VersionMap>,
    pages: AtomicU64,
    bytes: AtomicU64,
    wire: AtomicU64,
    events: UnboundedSender<Event>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A batch that was opened.
struct Job {
    number: u64,
    buffer: Vec<u8>,
    /// Bytes of the body, at the buffer's front.
    length: usize,
}

impl Inbound {
    /// Starts the threads. `placement` gets the batches and tells `placed` when it has placed them.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(
        plan: Plan,
        lanes: Vec<Lane>,
        placement: Box<dyn Placement>,
        placed: Placed,
        events: UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let Plan {
            layout,
            workers,
            versions,
            keys,
        } = plan;
        let Agreed {
            oldest, windows, ..
        } = *layout.agreed();
        let shared = Arc::new(Shared {
            layout,
            ledger: Mutex::new(Ledger::new()),
            keys: Mutex::new(keys),
            announced: Mutex::new(HashMap::new()),
            announcement: Condvar::new(),
            placed,
            windows: Windows::new(windows),
            closed: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            versions: Mutex::new(versions),
            pages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            wire: AtomicU64::new(0),
            events,
        });
        let (jobs, waiting) = queue::unbounded();
        let (decoded, arriving) = queue::unbounded();
        let (empties, reusable) = queue::bounded(workers + lanes.len() + SPARE_BUFFERS);
        let mut inbound = Self {
            shared: Arc::clone(&shared),
            threads: Threads::default(),
            lanes: Threads::default(),
            jobs: Some(jobs),
            empties: reusable,
        };
        let threads = &mut inbound.threads;
        for number in 0..workers.max(1) {
            let worker = worker::Worker {
                shared: Arc::clone(&shared),
                decoder: Decoder::new(),
                jobs: waiting.clone(),
                decoded: decoded.clone(),
                empties: empties.clone(),
            };
            threads.spawn(format!("decode-{number}"), move || worker.run())?;
        }
        let sequencer = sequencer::Sequencer {
            shared: Arc::clone(&shared),
            mirror: Mirror::new(oldest),
            arriving,
            placement,
        };
        threads.spawn("sequencer".to_owned(), move || sequencer.run())?;
        // Those that send to the others end first.
        drop((decoded, empties));
        inbound.open(lanes)?;
        Ok(inbound)
    }

    /// Starts a thread for each lane.
    fn open(&mut self, lanes: Vec<Lane>) -> Result<(), Error> {
        let Some(jobs) = &self.jobs else {
            return Ok(());
        };
        for Lane { way, opener } in lanes {
            if let Way::Peer(stream) = &way {
                self.lanes.wait_for(stream)?;
            }
            let name = format!("lane-{}", opener.lane());
            let lane = lane::Thread {
                shared: Arc::clone(&self.shared),
                way,
                opener,
                jobs: jobs.clone(),
                empties: self.empties.clone(),
            };
            self.lanes.spawn(name, move || lane.run())?;
        }
        Ok(())
    }

    /// The connections are gone, or are given up: lanes end. What has come is placed.
    pub fn interrupt(&mut self) {
        self.shared.interrupted.store(true, Ordering::SeqCst);
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.shared.announced));
        self.shared.announcement.notify_all();
        self.lanes.end();
    }

    /// After [`Self::interrupt`]: the lowest batch that has not come, and which have from there on, a bit each.
    #[must_use]
    pub fn seen(&self) -> (u64, Vec<u8>) {
        let ledger = lock(&self.shared.ledger);
        (ledger.floor(), ledger.seen())
    }

    /// Goes on by other lanes and under other keys.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn resume(&mut self, keys: Keyed<Receiver>, lanes: Vec<Lane>) -> Result<(), Error> {
        *lock(&self.shared.keys) = keys;
        lock(&self.shared.announced).clear();
        self.shared.interrupted.store(false, Ordering::SeqCst);
        self.open(lanes)
    }

    /// The source says that a lane goes over to a new epoch.
    pub fn announce(&self, epoch: Epoch) {
        lock(&self.shared.announced).insert(epoch.lane(), epoch);
        self.shared.announcement.notify_all();
    }

    /// What makes the digest over the version map as it is then: work for a thread that may take its time.
    pub fn versions(&self) -> impl FnOnce() -> [u8; 32] + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let algorithm = shared.layout.agreed().digest;
            lock(&shared.versions).digest(algorithm)
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Standing {
            pages: read(&self.shared.pages),
            bytes: read(&self.shared.bytes),
            wire: read(&self.shared.wire),
        }
    }

    /// Closes it: connections are cut, threads end.
    pub fn close(&mut self) {
        self.shared.close();
        self.lanes.end();
        self.jobs = None;
        self.threads.end();
    }
}

/// Buffers kept beside those in use.
const SPARE_BUFFERS: usize = 8;

impl Drop for Inbound {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.announced));
        self.announcement.notify_all();
        self.placed.close();
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
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
