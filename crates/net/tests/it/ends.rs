//! Both ends of a session, and the lanes between them.
//!
//! ```text
//!  test ─▶ Feed ─▶ Outbound ═══ lanes over loopback ═══▶ Inbound ─▶ Shelf ─▶ test
//!            ▲                                                       │
//!            └───────────────── Arrivals::acknowledge ◀──────────────┘
//! ```
//!
//! The test is the control channel: what the way in has placed it tells the way out.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use sealift_lab::both_ends::BothEnds;
use sealift_net::inbound::{self, Inbound, Placed, Placement};
use sealift_net::outbound::{self, Outbound};
use sealift_pages::Resolved;
use sealift_seal::{Keyed, Source};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::guest::{Chance, layout, versions};

/// Ends what hangs; nothing that is well takes a hundredth of it. Shorter than what the lanes themselves wait for an epoch.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// More content than any test sends without being acknowledged.
pub(crate) const WIDE: u64 = 1 << 30;

/// X25519.
const SUITE: u16 = 1;

/// Both ends' keys.
pub(crate) fn agree() -> BothEnds {
    agree_with(0xa9ee)
}

/// The same, from other randomness.
pub(crate) fn agree_with(seed: u64) -> BothEnds {
    let mut chance = Chance::new(seed);
    BothEnds::agree(SUITE, &[], |bytes| {
        bytes.copy_from_slice(&chance.bytes(bytes.len()));
        Ok(())
    })
    .unwrap()
}

/// Both ends of a connection.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (connecting, accepted)
}

/// How a way out is to be, where a test cares.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) window: u64,
    pub(crate) workers: usize,
    pub(crate) bandwidth: Option<u64>,
}

impl Default for Out {
    fn default() -> Self {
        Self {
            window: WIDE,
            workers: 2,
            bandwidth: None,
        }
    }
}

/// A way out into these connections, and what it tells.
pub(crate) fn way_out(
    keys: Keyed<Source>,
    streams: Vec<TcpStream>,
    how: Out,
) -> (Outbound, UnboundedReceiver<outbound::Event>) {
    way_out_of(keys, streams, how, None)
}

/// The same, of a guest whose memory is read directly.
fn way_out_of(
    mut keys: Keyed<Source>,
    streams: Vec<TcpStream>,
    how: Out,
    direct: Option<outbound::Direct>,
) -> (Outbound, UnboundedReceiver<outbound::Event>) {
    let lanes = (0..)
        .zip(streams)
        .map(|(lane, stream)| outbound::Lane {
            way: outbound::Way::Peer(stream),
            sealer: keys.sealer(lane).unwrap(),
        })
        .collect();
    let (events, told) = unbounded_channel();
    let plan = outbound::Plan {
        layout: layout(),
        workers: how.workers,
        compression: outbound::Compression::Level(1),
        store: 8 << 20,
        store_key: 0x5eed,
        bandwidth: how.bandwidth,
        window: how.window,
        versions: versions(),
        keys,
        direct,
        keeps: true,
    };
    (Outbound::start(plan, lanes, events).unwrap(), told)
}

/// A way in, what it tells, and what it places.
pub(crate) struct Arriving {
    pub(crate) inbound: Inbound,
    pub(crate) told: UnboundedReceiver<inbound::Event>,
    pub(crate) placed: Placed,
    shelf: Receiver<Arc<Resolved>>,
}

/// Takes what is placed to the test.
struct Shelf(Sender<Arc<Resolved>>);

impl Placement for Shelf {
    fn place(&mut self, batch: Arc<Resolved>, _: Option<u64>) -> Result<(), String> {
        self.0.send(batch).map_err(|error| error.to_string())
    }
}

/// A way in out of these connections, of which lane n has epoch n.
pub(crate) fn way_in(mut keys: Keyed<sealift_seal::Receiver>, streams: Vec<TcpStream>) -> Arriving {
    let lanes = (0..)
        .zip(streams)
        .map(|(lane, stream)| inbound::Lane {
            way: inbound::Way::Peer(stream),
            opener: keys.opener(lane, lane.into()).unwrap(),
        })
        .collect();
    let (events, told) = unbounded_channel();
    let (to_test, shelf) = channel();
    let placed = Placed::new(events.clone());
    let plan = inbound::Plan {
        layout: layout(),
        workers: 2,
        versions: versions(),
        keys,
    };
    let placement = Box::new(Shelf(to_test));
    Arriving {
        inbound: Inbound::start(plan, lanes, placement, placed.clone(), events).unwrap(),
        told,
        placed,
        shelf,
    }
}

impl Arriving {
    /// The next batch, in the order of placement.
    pub(crate) fn next(&self) -> Arc<Resolved> {
        self.shelf.recv_timeout(PATIENCE).unwrap()
    }

    /// Says that a batch is placed for good.
    pub(crate) fn done(&self, batch: &Resolved) {
        self.placed.done(batch.number(), batch.memory() as u64);
    }

    /// Tells the way out what was placed.
    pub(crate) fn acknowledge(&self, outbound: &Outbound) {
        while let Some(ranges) = self.placed.take_ranges() {
            outbound.acknowledge(&ranges).unwrap();
        }
    }

    /// What is told next, apart from what is to be acknowledged.
    pub(crate) fn next_told(&mut self) -> inbound::Event {
        loop {
            match next(&mut self.told) {
                inbound::Event::Placed => {}
                event => return event,
            }
        }
    }

    /// Closes it; returns what it had placed and the test has not seen, and what it had told.
    pub(crate) fn close(mut self) -> (Vec<Arc<Resolved>>, Vec<inbound::Event>) {
        let inbound = self.inbound;
        promptly("closing the way in", move || drop(inbound));
        let left = self.shelf.iter().collect();
        let mut told = Vec::new();
        while let Ok(event) = self.told.try_recv() {
            told.push(event);
        }
        (left, told)
    }
}

/// Both ends, with so many lanes between them.
pub(crate) fn joined(
    lanes: usize,
    how: Out,
) -> (Outbound, UnboundedReceiver<outbound::Event>, Arriving) {
    joined_of(lanes, how, None)
}

/// The same, of a guest whose memory is read directly.
pub(crate) fn joined_of(
    lanes: usize,
    how: Out,
    direct: Option<outbound::Direct>,
) -> (Outbound, UnboundedReceiver<outbound::Event>, Arriving) {
    let keys = agree();
    let (from, to) = (0..lanes).map(|_| connection()).unzip();
    let (outbound, told) = way_out_of(keys.source, from, how, direct);
    (outbound, told, way_in(keys.receiver, to))
}

/// What is told next.
pub(crate) fn next<T>(told: &mut UnboundedReceiver<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let next = async { tokio::time::timeout(PATIENCE, told.recv()).await };
    runtime.block_on(next).unwrap().unwrap()
}

/// Waits until something holds that will hold for good, or for long.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Does what must not hang.
pub(crate) fn promptly<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = channel();
    std::thread::spawn(move || done.send(work()));
    finished
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{what} hangs"))
}
