//! Tests of a session in which batches go by windows, alone and as they are, in turn: whatever the way, what arrives is what was sent.
//!
//! Which way pays is measured, so here it is said by hand; both ends and the lanes between them are those of a session.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use sealift_lab::both_ends::BothEnds;
use sealift_pages::{Agreed, Algorithm, Codecs, Entry, PAGE_SIZE_MIN, PageSize, Resolved};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::inbound::{self, Inbound, Placed, Placement};

/// Pages of the guest.
const PAGES: u64 = 4096;
/// Pages of a batch: 240 KiB, of which no trial is made.
const BATCH: u64 = 60;
/// Ends what hangs.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Window,
    Alone,
    AsItIs,
}

struct Session {
    outbound: Outbound,
    _told: UnboundedReceiver<Event>,
    inbound: Inbound,
    _happened: UnboundedReceiver<inbound::Event>,
    placed: Placed,
    shelf: Receiver<Arc<Resolved>>,
}

struct Shelf(Sender<Arc<Resolved>>);

impl Placement for Shelf {
    fn place(&mut self, batch: Arc<Resolved>, _: Option<u64>) -> Result<(), String> {
        self.0.send(batch).map_err(|error| error.to_string())
    }
}

impl Session {
    fn new(lanes: u8, workers: usize, windows: u64) -> Self {
        let mut chance = noise(1, 256).into_iter();
        let BothEnds {
            mut source,
            mut receiver,
            ..
        } = BothEnds::agree(1, &[], |bytes| {
            bytes.fill_with(|| chance.next().unwrap_or(7));
            Ok(())
        })
        .unwrap();
        let page_size = PageSize::new(PAGE_SIZE_MIN).unwrap();
        let layout = Layout::new(page_size, vec![PAGES]).unwrap();
        let layout = Arc::new(layout.with_agreed(Agreed {
            digest: Algorithm::Blake3,
            codecs: Codecs::ALL,
            oldest: 0,
            windows,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for lane in 0..lanes {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            from.push(Lane {
                way: Way::Peer(stream),
                sealer: source.sealer(lane).unwrap(),
            });
            to.push(inbound::Lane {
                way: inbound::Way::Peer(listener.accept().unwrap().0),
                opener: receiver.opener(lane, lane.into()).unwrap(),
            });
        }
        let (events, told) = unbounded_channel();
        let plan = Plan {
            layout: Arc::clone(&layout),
            workers,
            compression: Compression::Adaptive,
            // Nothing is found but by windows.
            store: 0,
            store_key: 0,
            bandwidth: None,
            window: 64 << 20,
            versions: VersionMap::new(&[PAGES]),
            keys: source,
            direct: None,
            keeps: false,
        };
        let outbound = Outbound::start(plan, from, events).unwrap();
        let (events, happened) = unbounded_channel();
        let (to_test, shelf) = channel();
        let placed = Placed::new(events.clone());
        let plan = inbound::Plan {
            layout,
            workers,
            versions: VersionMap::new(&[PAGES]),
            keys: receiver,
        };
        let placement = Box::new(Shelf(to_test));
        Self {
            outbound,
            _told: told,
            inbound: Inbound::start(plan, to, placement, placed.clone(), events).unwrap(),
            _happened: happened,
            placed,
            shelf,
        }
    }

    /// Batches go this way from now on.
    fn go(&self, by: By) {
        let shared = &self.outbound.shared;
        lock(&shared.ladder).keep_to(by == By::Window);
        lock(&shared.book).effort.begin_with(by == By::AsItIs);
    }

    /// Sends batch `number`.
    fn send(&self, number: u64) {
        let mut draft = sealift_pages::Draft::new(PageSize::new(PAGE_SIZE_MIN).unwrap());
        for (at, content) in batch(number) {
            draft.page(at, &content).unwrap();
        }
        assert_eq!(self.outbound.feed(0).submit(&mut draft), Ok(number));
    }

    /// Batch `number` arrives as it was sent.
    fn receive(&self, number: u64) {
        let arrived = self.shelf.recv_timeout(PATIENCE).unwrap();
        assert_eq!(arrived.number(), number);
        arrived.verify().unwrap();
        let pages = arrived.entries().map(|entry| match entry {
            Entry::Page { at, content, .. } => (at, content.to_vec()),
            other => panic!("{other:?}"),
        });
        let mut pages: Vec<_> = pages.collect();
        pages.sort();
        assert!(pages == batch(number), "batch {number} is another");
        self.placed.done(number, arrived.memory() as u64);
        while let Some(ranges) = self.placed.take_ranges() {
            self.outbound.acknowledge(&ranges).unwrap();
        }
    }

    fn ends_equal(&self) {
        let versions = self.outbound.feed(0).versions();
        assert_eq!(self.inbound.versions()(), versions);
        assert_eq!(self.outbound.standing().in_flight.batches, 0);
        assert_eq!(self.placed.held(), 0);
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    // A few steps, so that near seeds are far from each other.
    words.skip(8).flatten().take(length).collect()
}

/// What batch `number` has: pages half of which every batch has, at another place in each, and a number that no other has.
fn batch(number: u64) -> Vec<(Address, Vec<u8>)> {
    let first = number * BATCH % (PAGES - BATCH);
    let pages = (0..BATCH).map(|page| {
        let mut content = vec![7; usize::try_from(8 * (number % 64 + 1)).unwrap()];
        content.extend(noise(page, PAGE_SIZE_MIN / 2));
        content.extend(number.to_le_bytes());
        content.resize(PAGE_SIZE_MIN, 5);
        let at = Address {
            block: 0,
            page: first + page,
        };
        (at, content)
    });
    pages.collect()
}

#[test]
fn batches_by_windows_alone_and_as_they_are_follow_each_other_in_one_session() {
    use By::{Alone, AsItIs, Window};
    let session = Session::new(2, 2, 2);
    let half = BATCH * PAGE_SIZE_MIN as u64 / 2;
    let ways = [
        Alone, Window, Window, Alone, Window, AsItIs, Window, AsItIs, Alone, Window, Alone, AsItIs,
    ];
    let mut went_by_window = false;
    for (number, by) in (0..).zip(ways) {
        session.go(by);
        let before = session.outbound.standing().tally;
        session.send(number);
        session.receive(number);
        let tally = session.outbound.standing().tally;
        let (raw, packed) = (
            tally.group_raw_bytes - before.group_raw_bytes,
            tally.group_bytes - before.group_bytes,
        );
        match by {
            AsItIs => assert_eq!(raw, 0, "batch {number}"),
            // What all of them have is found by those that look back, once one of these has had it.
            Window if went_by_window => assert!(packed < half / 4, "batch {number}: {packed}"),
            Window | Alone => assert!((half..2 * half).contains(&packed), "{number}: {packed}"),
        }
        went_by_window |= by == Window;
    }
    session.ends_equal();
}

#[test]
fn batches_arrive_whatever_way_they_go_while_others_are_under_way() {
    const BATCHES: u64 = 120;
    for (lanes, workers, windows) in [(1, 1, 1), (4, 3, 2), (3, 4, 4)] {
        let session = Session::new(lanes, workers, windows);
        let mut turns = noise(u64::from(lanes), usize::try_from(BATCHES).unwrap()).into_iter();
        for number in 0..BATCHES {
            session.go(match turns.next().unwrap() % 8 {
                0 => By::AsItIs,
                1 | 2 => By::Alone,
                _ => By::Window,
            });
            session.send(number);
        }
        for number in 0..BATCHES {
            session.receive(number);
        }
        session.ends_equal();
    }
}
