//! A lane that leads into a file, and out of it again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sealift_net::inbound::{self, Inbound, Placed, Placement};
use sealift_net::outbound::{self, Outbound};
use sealift_pages::{Address, Draft, Layout, PageSize, Resolved};
use sealift_precopy::VersionMap;
use sealift_seal::{
    Error, Header, Keyed, Receiver, RecipientKey, Saving, Sealer, Seed, SessionId, Source,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PAGES: u64 = 4096;
const SALT: [u8; 32] = [3; 32];
const ID: SessionId = SessionId([1; 16]);

fn page_size() -> PageSize {
    PageSize::new(4096).unwrap()
}

fn layout() -> Arc<Layout> {
    Arc::new(Layout::new(page_size(), vec![PAGES]).unwrap())
}

fn keys() -> (Keyed<Source>, Keyed<Receiver>) {
    let recipient = || {
        RecipientKey::fill(|scalar| {
            scalar.fill(9);
            Ok::<_, Error>(())
        })
        .unwrap()
    };
    let seed = Seed::fill(|seed| {
        seed.fill(7);
        Ok::<_, Error>(())
    });
    let saving = Saving::for_recipient(recipient().share(), seed.unwrap()).unwrap();
    let share = *saving.share();
    let source = saving.derive(&SALT, ID, b"header").unwrap();
    let receiver = recipient().derive(&share, &SALT, ID, b"header").unwrap();
    (source, receiver)
}

/// Notes the numbers of the batches that come.
struct Noting {
    numbers: Arc<Mutex<Vec<u64>>>,
    placed: Placed,
}

impl Placement for Noting {
    fn place(&mut self, batch: Arc<Resolved>, _: Option<u64>) -> Result<(), String> {
        self.numbers.lock().unwrap().push(batch.number());
        self.placed.done(batch.number(), batch.memory() as u64);
        Ok(())
    }
}

/// Reads a file to its end, or to what is wrong with it.
fn read(mut file: File, mut keys: Keyed<Receiver>) -> (Vec<u64>, Option<inbound::Broken>) {
    let length = file.metadata().unwrap().len();
    file.rewind().unwrap();
    let opener = keys.opener(0, 0).unwrap();
    let lane = inbound::Lane {
        way: inbound::Way::File(file.take(length)),
        opener,
    };
    let (events, mut happened) = unbounded_channel();
    let placed = Placed::new(events.clone());
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let placement = Noting {
        numbers: Arc::clone(&numbers),
        placed: placed.clone(),
    };
    let plan = inbound::Plan {
        layout: layout(),
        workers: 4,
        versions: VersionMap::new(&[PAGES]),
        keys,
    };
    let mut inbound =
        Inbound::start(plan, vec![lane], Box::new(placement), placed, events).unwrap();
    let broken = end(&mut happened);
    // Its threads finish what they have.
    if broken.is_none() {
        while inbound.standing().bytes > 0 && !all_placed(&numbers) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    inbound.close();
    let numbers = numbers.lock().unwrap().clone();
    (numbers, broken)
}

fn all_placed(numbers: &Mutex<Vec<u64>>) -> bool {
    numbers.lock().unwrap().len() as u64 == BATCHES
}

fn end(happened: &mut UnboundedReceiver<inbound::Event>) -> Option<inbound::Broken> {
    loop {
        match happened.blocking_recv().unwrap() {
            inbound::Event::Placed => {}
            inbound::Event::LaneLost { error, .. } => {
                assert!(error.is_none(), "{error:?}");
                return None;
            }
            inbound::Event::Broken(broken) => return Some(broken),
        }
    }
}

/// More than are read ahead, and of different sizes, so that workers overtake each other.
const BATCHES: u64 = 100;

#[test]
fn what_goes_into_a_file_comes_out_in_order_and_is_delivered_when_it_is_written() {
    let (mut source, receiver) = keys();
    let file = tempfile::tempfile().unwrap();
    let sealer = source.sealer(0).unwrap();
    let lane = outbound::Lane {
        way: outbound::Way::File(file.try_clone().unwrap()),
        sealer,
    };
    let (events, _happened) = unbounded_channel();
    let plan = outbound::Plan {
        layout: layout(),
        workers: 4,
        compression: outbound::Compression::Level(1),
        store: 8 << 20,
        store_key: 5,
        bandwidth: None,
        window: 4 << 20,
        versions: VersionMap::new(&[PAGES]),
        keys: source,
        direct: None,
        keeps: false,
    };
    let mut outbound = Outbound::start(plan, vec![lane], events).unwrap();
    let feed = outbound.feed(0);
    let mut draft = Draft::new(page_size());
    for number in 0..BATCHES {
        let pages = if number % 2 == 0 { 200 } else { 1 };
        for page in 0..pages {
            let content: Vec<u8> = (0..4096_u64)
                .map(|at| u8::try_from((at * (page + 3) + number) % 251).unwrap())
                .collect();
            draft.page(Address { block: 0, page }, &content).unwrap();
        }
        assert_eq!(feed.submit(&mut draft), Ok(number));
    }
    while outbound.standing().in_flight.batches > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let standing = outbound.standing();
    outbound.close();
    assert_eq!(standing.delivered.batches, BATCHES);
    assert_eq!(standing.wire, file.metadata().unwrap().len());

    let (numbers, broken) = read(file, receiver);
    assert!(broken.is_none(), "{broken:?}");
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>());
}

#[test]
fn a_file_in_another_order_is_refused_however_well_it_is_sealed() {
    let (mut source, receiver) = keys();
    let mut sealer = source.sealer(0).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    // A body of nothing: its digest's algorithm and value.
    for number in [1, 0] {
        let mut batch = vec![0; Sealer::OVERHEAD + 33];
        batch[Header::LENGTH] = 1;
        sealer.seal(number, &mut batch).unwrap();
        file.write_all(&batch).unwrap();
    }
    let (numbers, broken) = read(file, receiver);
    assert!(
        matches!(
            broken,
            Some(inbound::Broken::Disorder {
                expected: 0,
                found: 1
            })
        ),
        "{broken:?}"
    );
    assert!(numbers.is_empty());
}
