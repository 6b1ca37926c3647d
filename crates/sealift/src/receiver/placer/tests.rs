//! Batches are placed by real threads, beside a QEMU of which the test has the channel: it loads what it is given and answers pings.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_net::inbound::{self, Placed};
use sealift_pages::{Draft, Full, PAGE_SIZE_MIN};
use sealift_precopy::VersionMap;
use sealift_qemu::channel::Channel;
use sealift_stream::main_channel::{Command, Content, Item, Parser};
use tokio::sync::mpsc::{self, UnboundedReceiver, error::TryRecvError};

use super::*;
use crate::lock;
use crate::receiver::batches::{batch, page_size};
use crate::receiver::relay::Clearance;

/// Pages of the blocks: the first can be reached, the second cannot.
const PAGES: [u64; 2] = [96, 8];
const BYTES: u64 = PAGE_SIZE_MIN as u64;

/// Blocks of memory, and what was written to them beside the stream.
#[derive(Debug, Default)]
struct Ram {
    blocks: Mutex<[Vec<u8>; 2]>,
    writes: Mutex<Vec<(u64, usize)>>,
    /// Read at another place than it is written at.
    askew: bool,
    /// Cannot be written.
    lost: bool,
}

impl Ram {
    /// Everything was used before, but for the first block's second half.
    fn used() -> Self {
        let block = |pages: u64| vec![0xee; usize::try_from(pages * BYTES).unwrap()];
        let mut blocks = PAGES.map(block);
        let half = blocks[0].len() / 2;
        blocks[0][half..].fill(0);
        Self {
            blocks: Mutex::new(blocks),
            ..Self::default()
        }
    }

    fn put(&self, block: usize, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        lock(&self.blocks)[block][offset..][..bytes.len()].copy_from_slice(bytes);
    }
}

impl GuestMemory for Ram {
    fn is_reachable(&self, block: u16) -> bool {
        block == 0
    }

    fn read(&self, block: u16, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let askew = if self.askew { BYTES } else { 0 };
        let offset = usize::try_from((offset + askew) % (PAGES[0] * BYTES)).unwrap();
        into.copy_from_slice(&lock(&self.blocks)[usize::from(block)][offset..][..into.len()]);
        Ok(())
    }

    fn write(&self, block: u16, offsets: &[u64], page: usize, from: &[u8]) -> Result<(), String> {
        if self.lost {
            return Err("QEMU has ended".to_owned());
        }
        for (&offset, bytes) in offsets.iter().zip(from.chunks(page)) {
            lock(&self.writes).push((offset, bytes.len()));
            self.put(block.into(), offset, bytes);
        }
        assert_eq!(offsets.len() * page, from.len());
        Ok(())
    }

    fn populated(&self, block: u16) -> Result<Vec<Range<u64>>, String> {
        let blocks = lock(&self.blocks);
        let pages = blocks[usize::from(block)].chunks(PAGE_SIZE_MIN);
        let used = (0..)
            .zip(pages)
            .filter(|(_, page)| page.iter().any(|&byte| byte != 0));
        Ok(used
            .map(|(page, _)| page * BYTES..(page + 1) * BYTES)
            .collect())
    }
}

/// A QEMU that loads what it reads into the same memory.
fn load(mut channel: UnixStream, ram: &Ram, pongs: &Pongs) {
    let mut parser = Parser::new();
    let mut rest = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = channel.read(&mut buffer) {
        rest.extend_from_slice(&buffer[..read]);
        let mut input = rest.as_slice();
        while let Some(item) = parser.pull(&mut input) {
            match item {
                Item::Page(page) => match page.content {
                    Content::Whole(bytes) => ram.put(page.block.index(), page.offset, bytes),
                    _ => ram.put(page.block.index(), page.offset, &[0; PAGE_SIZE_MIN]),
                },
                Item::Command(Command::Ping(number)) => assert!(pongs.take(number)),
                _ => {}
            }
        }
        rest = input.to_vec();
    }
    pongs.end();
}

struct Trial {
    placer: Option<Placer>,
    qemu: Option<JoinHandle<()>>,
    ram: Arc<Ram>,
    versions: VersionMap,
    next: u64,
    placed: Placed,
    clearance: Clearance,
    relayed: UnboundedReceiver<relay::Event>,
    told: UnboundedReceiver<Event>,
}

impl Trial {
    fn start(ram: Ram) -> Self {
        let ram = Arc::new(ram);
        let (theirs, ours) = Channel::pair().unwrap();
        let placed = Placed::new(mpsc::unbounded_channel::<inbound::Event>().0);
        let pongs = Pongs::new(placed.clone());
        let beside = Beside::new(placed.clone());
        let qemu = {
            let (ram, pongs) = (Arc::clone(&ram), pongs.clone());
            thread::spawn(move || load(theirs.into(), &ram, &pongs))
        };
        let (relays, relayed) = mpsc::unbounded_channel();
        let (tells, told) = mpsc::unbounded_channel();
        let connect: relay::Connect = Box::new(|| Err("nobody listens".to_owned()));
        let half = ours.split().1;
        let (relay, clearance) =
            Relay::start(half, page_size(), false, connect, beside.clone(), relays).unwrap();
        let plan = Plan {
            memory: Arc::clone(&ram) as Arc<dyn GuestMemory>,
            page_size: page_size(),
            pages: PAGES.to_vec(),
            threads: 3,
            pongs,
        };
        let placer = Placer::start(plan, relay, beside, tells).unwrap();
        let mut trial = Self {
            placer: Some(placer),
            qemu: Some(qemu),
            ram,
            versions: VersionMap::new(&PAGES),
            next: 0,
            placed,
            clearance,
            relayed,
            told,
        };
        trial.opaque(&beginning(true)).unwrap();
        trial
    }

    /// A batch, as the sequencer hands it on.
    fn place(&mut self, fill: impl FnOnce(&mut Draft)) -> Result<(), String> {
        let number = self.next;
        self.next += 1;
        let batch = batch(number, &PAGES, fill);
        let newest = batch
            .addresses()
            .map(|(first, run)| self.versions.newest_of(first, run));
        let over = newest.max().flatten();
        for (first, run) in batch.addresses() {
            self.versions.stamp(first, run, number).unwrap();
        }
        self.placer.as_mut().unwrap().place(batch, over)
    }

    fn opaque(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.place(|draft| {
            draft.opaque(MAIN, bytes).unwrap();
        })
    }

    fn puts(&mut self, puts: &[Put]) -> Result<(), String> {
        self.place(|draft| puts.iter().for_each(|put| put.draft(draft).unwrap()))
    }

    /// Enough different pages of the first block to be sure of it.
    fn first_pages(&mut self) {
        let puts: Vec<_> = (0..40).map(|page| Put::Page(0, page, 1)).collect();
        self.puts(&puts).unwrap();
    }

    /// Everything is in place, and with QEMU.
    fn settle(&mut self) {
        self.place(|draft| draft.barrier().unwrap()).unwrap();
        assert!(matches!(
            self.relayed.blocking_recv(),
            Some(relay::Event::AtBarrier { batches }) if batches == self.next
        ));
        self.clearance.give();
        self.end();
    }

    /// All threads have ended, and QEMU has loaded what there was.
    fn end(&mut self) {
        self.placer = None;
        self.qemu.take().unwrap().join().unwrap();
    }

    fn is_placing(&mut self) -> bool {
        matches!(self.told.try_recv(), Ok(Event::Placing { blocks }) if blocks == [0])
    }
}

/// What a stream begins with: two blocks, and the first section of RAM after it.
fn beginning(return_path: bool) -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
    if return_path {
        bytes.extend_from_slice(&[8, 0, 1, 0, 0]);
    }
    bytes.extend_from_slice(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
    let total = (PAGES[0] + PAGES[1]) * BYTES;
    bytes.extend_from_slice(&(total | 4).to_be_bytes());
    for (name, pages) in [(b'a', PAGES[0]), (b'b', PAGES[1])] {
        bytes.extend_from_slice(&[1, name]);
        bytes.extend_from_slice(&(pages * BYTES).to_be_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2]);
    bytes
}

/// Something that a batch puts.
#[derive(Clone, Copy, Debug)]
enum Put {
    /// Block, page, and what tells its content from others.
    Page(u16, u64, u8),
    /// Block, first, run.
    Zeros(u16, u64, u64),
}

impl Put {
    fn draft(self, draft: &mut Draft) -> Result<(), Full> {
        match self {
            Self::Page(block, page, seed) => {
                draft.page(Address { block, page }, &content(page, seed))
            }
            Self::Zeros(block, first, run) => {
                (first..first + run).try_for_each(|page| draft.zero(Address { block, page }))
            }
        }
    }
}

fn content(page: u64, seed: u8) -> Vec<u8> {
    let mut content = vec![seed; PAGE_SIZE_MIN];
    content[..8].copy_from_slice(&page.to_be_bytes());
    content[PAGE_SIZE_MIN - 1] = seed;
    content
}

fn put() -> impl Strategy<Value = Put> {
    let block = 0u16..2;
    (block, any::<u64>(), 1u64..20, 1u8..=255, 0u8..4).prop_map(|(block, at, run, seed, kind)| {
        let pages = PAGES[usize::from(block)];
        let page = at % pages;
        match kind {
            0 => Put::Zeros(block, page, run.min(pages - page)),
            // Few pages, often.
            1 => Put::Page(block, page % 4, seed),
            _ => Put::Page(block, page, seed),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_page_has_its_newest_content_whichever_way_it_went(
        batches in vec(vec(put(), 1..24), 1..24), checked_before in 0usize..8,
    ) {
        let mut trial = Trial::start(Ram::used());
        let mut model = BTreeMap::new();
        let first: Vec<_> = (0..40).map(|page| Put::Page(0, page, 1)).collect();
        let (early, late) = batches.split_at(checked_before.min(batches.len()));
        for puts in early.iter().chain([&first]).chain(late) {
            trial.puts(puts).unwrap();
            for &put in puts {
                match put {
                    Put::Page(block, page, seed) => {
                        model.insert((block, page), content(page, seed));
                    }
                    Put::Zeros(block, first, run) => {
                        model.extend((first..first + run).map(|page| ((block, page), vec![0; PAGE_SIZE_MIN])));
                    }
                }
            }
        }
        trial.settle();
        prop_assert!(trial.is_placing());
        let blocks = lock(&trial.ram.blocks);
        for ((block, page), content) in model {
            let offset = usize::try_from(page * BYTES).unwrap();
            let found = &blocks[usize::from(block)][offset..][..PAGE_SIZE_MIN];
            prop_assert!(found == content, "block {}, page {}", block, page);
        }
    }
}

#[test]
fn a_block_is_placed_once_its_first_pages_are_found_where_they_are_looked_for() {
    let mut trial = Trial::start(Ram::used());
    // Thirty times the same is not thirty things that agree.
    trial.puts(&[Put::Page(0, 5, 1); 40]).unwrap();
    assert_eq!(trial.told.try_recv().unwrap_err(), TryRecvError::Empty);
    trial.first_pages();
    assert!(trial.is_placing());
    assert!(lock(&trial.ram.writes).is_empty());
    trial
        .puts(&[Put::Page(0, 7, 9), Put::Page(1, 7, 9)])
        .unwrap();
    trial.settle();
    assert_eq!(*lock(&trial.ram.writes), [(7 * BYTES, PAGE_SIZE_MIN)]);
}

#[test]
fn zeros_are_written_where_memory_was_used_and_nowhere_else() {
    let mut trial = Trial::start(Ram::used());
    trial.first_pages();
    let half = PAGES[0] / 2;
    // The last of the used ones, the first of the others, and one that is used by then.
    trial.puts(&[Put::Page(0, half + 3, 9)]).unwrap();
    trial.puts(&[Put::Zeros(0, half - 2, 10)]).unwrap();
    // By now they are zeros.
    trial.puts(&[Put::Zeros(0, half - 2, 10)]).unwrap();
    trial.settle();
    let written = [
        ((half + 3) * BYTES, PAGE_SIZE_MIN),
        ((half - 2) * BYTES, 2 * PAGE_SIZE_MIN),
        ((half + 3) * BYTES, PAGE_SIZE_MIN),
    ];
    assert_eq!(*lock(&trial.ram.writes), written);
}

#[test]
fn memory_that_is_another_than_qemus_is_never_written() {
    let askew = true;
    let mut trial = Trial::start(Ram {
        askew,
        ..Ram::used()
    });
    trial.first_pages();
    match trial.told.try_recv() {
        Ok(Event::LeftToStream { block: 0, why }) => assert!(why.contains("another"), "{why}"),
        other => panic!("{other:?}"),
    }
    trial.puts(&[Put::Page(0, 7, 9)]).unwrap();
    trial.settle();
    assert!(lock(&trial.ram.writes).is_empty());
}

#[test]
fn nothing_is_written_where_qemu_throws_memory_away_or_loads_it_beside_the_guest() {
    let mut advice = vec![8, 0, 3, 0, 16];
    advice.extend_from_slice(&[4096_u64.to_be_bytes(); 2].concat());
    for (command, word) in [(advice, "post-copy"), (vec![8, 0, 8, 0, 0], "x-colo")] {
        let mut trial = Trial::start(Ram::used());
        trial.opaque(&command).unwrap();
        match trial.told.try_recv() {
            Ok(Event::LeftToStream { block: 0, why }) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?}"),
        }
        trial.first_pages();
        trial.puts(&[Put::Page(0, 7, 9)]).unwrap();
        trial.settle();
        assert!(lock(&trial.ram.writes).is_empty());
    }
}

#[test]
fn pages_on_another_channel_end_placing() {
    let mut trial = Trial::start(Ram::used());
    trial.first_pages();
    assert!(trial.is_placing());
    trial
        .place(|draft| {
            draft.opaque(1, b"a packet's head").unwrap();
            Put::Page(0, 7, 9).draft(draft).unwrap();
        })
        .unwrap();
    match trial.told.try_recv() {
        Ok(Event::LeftToStream { block: 0, why }) => assert!(why.contains("channels"), "{why}"),
        other => panic!("{other:?}"),
    }
    trial.puts(&[Put::Page(0, 8, 9)]).unwrap();
    trial.end();
    assert!(lock(&trial.ram.writes).is_empty());
}

#[test]
fn without_a_return_path_everything_goes_through_qemu() {
    let mut trial = Trial::start(Ram::used());
    // Another stream: the first one's beginning has one.
    trial.placer.as_mut().unwrap().watch = Watch::new(page_size());
    trial.placer.as_mut().unwrap().watch.see(&beginning(false));
    trial.first_pages();
    assert!(matches!(
        trial.told.try_recv(),
        Ok(Event::LeftToStream { block: 0, .. })
    ));
}

#[test]
fn pages_that_qemu_itself_must_undo_end_placing_and_come_after_all_before_them() {
    let mut trial = Trial::start(Ram::used());
    trial.first_pages();
    assert!(trial.is_placing());
    trial.puts(&[Put::Page(0, 7, 9)]).unwrap();
    // A section with an xbzrle record: one byte of page 7.
    let mut section = b"\x02\0\0\0\x02".to_vec();
    section.extend_from_slice(&((7 * BYTES) | 0x40).to_be_bytes());
    section.extend_from_slice(b"\x01a\x01\0\x03\x00\x01\xaa");
    trial.opaque(&section).unwrap();
    match trial.told.try_recv() {
        Ok(Event::LeftToStream { block: 0, why }) => assert!(why.contains("xbzrle"), "{why}"),
        other => panic!("{other:?}"),
    }
    let before = lock(&trial.ram.writes).len();
    trial.puts(&[Put::Page(0, 8, 9)]).unwrap();
    trial.settle();
    assert_eq!(lock(&trial.ram.writes).len(), before);
    assert_eq!(before, 1);
}

#[test]
fn what_was_placed_can_be_read_back_and_what_goes_through_qemu_cannot() {
    let mut trial = Trial::start(Ram::used());
    trial.first_pages();
    trial
        .puts(&[Put::Page(0, 7, 9), Put::Page(1, 2, 9)])
        .unwrap();
    let batch = trial.next - 1;
    let placer = trial.placer.as_mut().unwrap();
    let mut found = vec![0; PAGE_SIZE_MIN];
    let at = |block, page| Address { block, page };
    assert_eq!(placer.content(at(0, 7), batch, &mut found), Ok(true));
    assert!(found == content(7, 9));
    assert_eq!(placer.content(at(1, 2), batch, &mut found), Ok(false));
    trial.settle();
}

#[test]
fn memory_that_is_lost_ends_the_session_with_the_reason() {
    let mut trial = Trial::start(Ram {
        lost: true,
        ..Ram::used()
    });
    trial.first_pages();
    assert!(trial.is_placing());
    trial.puts(&[Put::Page(0, 7, 9)]).unwrap();
    match trial.told.blocking_recv() {
        Some(Event::AccessLost(why)) => assert_eq!(why, "QEMU has ended"),
        other => panic!("{other:?}"),
    }
    // What waits for it waits no longer, and nothing of it is acknowledged.
    let refused = trial.puts(&[Put::Page(0, 7, 8)]).unwrap_err();
    assert_eq!(refused, "QEMU has ended");
    assert_eq!(trial.placed.floor(), 2);
    trial.end();
}

#[test]
fn a_batch_is_acknowledged_when_all_of_it_is_in_place() {
    let mut trial = Trial::start(Ram::used());
    trial.first_pages();
    for seed in 2..10 {
        trial
            .puts(&[Put::Page(0, 3, seed), Put::Page(1, 3, seed)])
            .unwrap();
    }
    trial.settle();
    assert_eq!(trial.placed.floor(), trial.next);
}
