//! A guest whose memory is read directly, while it goes on writing.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sealift_net::outbound::{Broken, Direct, Event, Feed, Mark, Memory, Outbound, Pace};
use sealift_pages::{Address, Draft, Entry, PAGE_SIZE_MIN, Resolved};
use sealift_precopy::Engine;

use crate::ends::{Arriving, Out, joined_of, next, promptly};
use crate::guest::{BLOCKS, Chance, noise, page_size};

/// The guest's first block.
#[derive(Debug)]
struct Ram(Mutex<Vec<u8>>);

impl Ram {
    fn with<T>(&self, look: impl FnOnce(&mut [u8]) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory for Ram {
    fn read(&self, pages: &[Address], into: &mut [u8]) -> io::Result<()> {
        for (at, into) in pages.iter().zip(into.chunks_mut(PAGE_SIZE_MIN)) {
            // Page by page: the guest writes in between.
            self.with(|bytes| into.copy_from_slice(page(bytes, at.page)));
        }
        Ok(())
    }
}

fn page(bytes: &mut [u8], page: u64) -> &mut [u8] {
    let at = usize::try_from(page).unwrap() * PAGE_SIZE_MIN;
    &mut bytes[at..at + PAGE_SIZE_MIN]
}

fn direct(memory: Arc<dyn Memory>) -> Direct {
    Direct {
        memory,
        engine: Engine::new(&BLOCKS, page_size()),
    }
}

fn mark(page: u64, zero: bool) -> Mark {
    Mark {
        first: Address { block: 0, page },
        run: 1,
        zero,
    }
}

/// Places what arrives, up to the barrier. Returns the first block as it is then, and the number of that batch.
fn receive(outbound: &Outbound, arriving: &Arriving) -> (Vec<u8>, u64) {
    let mut image = vec![0xff; usize::try_from(BLOCKS[0]).unwrap() * PAGE_SIZE_MIN];
    let mut number = 0;
    loop {
        let batch = arriving.next();
        assert_eq!(batch.number(), number);
        batch.verify().unwrap();
        let mut over = false;
        for entry in batch.entries() {
            match entry {
                Entry::Zero { first, run, .. } => {
                    (first.page..first.page + run).for_each(|at| page(&mut image, at).fill(0));
                }
                Entry::Page { at, content, .. } => {
                    page(&mut image, at.page).copy_from_slice(content);
                }
                Entry::Barrier => over = true,
                Entry::Opaque { .. } => {}
            }
        }
        arriving.done(&batch);
        arriving.acknowledge(outbound);
        if over {
            return (image, number);
        }
        number += 1;
    }
}

#[test]
fn what_arrives_last_is_what_the_guest_wrote_last() {
    let pages = BLOCKS[0];
    let memory = vec![0; usize::try_from(pages).unwrap() * PAGE_SIZE_MIN];
    let ram = Arc::new(Ram(Mutex::new(memory)));
    let how = Out {
        // Narrow, so that pages wait and are written to meanwhile.
        window: 64 << 10,
        workers: 3,
        ..Out::default()
    };
    let (outbound, _told, arriving) = joined_of(2, how, Some(direct(Arc::clone(&ram) as _)));
    let feed = outbound.feed(0);
    let guest = Arc::clone(&ram);
    let source = thread::spawn(move || {
        let mut chance = Chance::new(3);
        // QEMU's bits: set by a write, cleared before the page is named.
        let mut bits: BTreeSet<u64> = (0..pages).collect();
        for _ in 0..200 {
            for _ in 0..chance.below(60) {
                let written = chance.below(pages);
                let content = match chance.below(4) {
                    0 => vec![0; PAGE_SIZE_MIN],
                    _ => noise(chance.next()),
                };
                guest.with(|bytes| page(bytes, written).copy_from_slice(&content));
                bits.insert(written);
            }
            for _ in 0..chance.below(80) {
                let Some(named) = bits.pop_first() else { break };
                let zero = guest.with(|bytes| page(bytes, named).iter().all(|&byte| byte == 0));
                feed.mark(&[mark(named, zero)]).unwrap();
            }
            feed.round();
            feed.wait_for_appetite().unwrap();
        }
        // It stops.
        for named in bits {
            feed.mark(&[mark(named, false)]).unwrap();
        }
        feed.drain().unwrap();
        let mut last = Draft::new(page_size());
        last.barrier().unwrap();
        (feed.submit(&mut last).unwrap(), feed.versions())
    });
    let (image, number) = receive(&outbound, &arriving);
    let (barrier, versions) = source.join().unwrap();
    assert_eq!(barrier, number, "nothing is numbered behind the barrier");
    assert_eq!(arriving.inbound.versions()(), versions);
    assert!(ram.with(|bytes| bytes == image), "memories are equal");
}

/// What a guest's memory looks like to QEMU: bits that a write sets, and a copy of them that QEMU takes anew for each walk.
#[derive(Debug)]
struct Guest {
    ram: Arc<Ram>,
    bits: Mutex<BTreeSet<u64>>,
}

impl Guest {
    /// Everything is to be sent.
    fn new(pages: u64) -> Arc<Self> {
        let memory = vec![0; usize::try_from(pages).unwrap() * PAGE_SIZE_MIN];
        Arc::new(Self {
            ram: Arc::new(Ram(Mutex::new(memory))),
            bits: Mutex::new((0..pages).collect()),
        })
    }

    /// The bit is set before anything is written, as by a fault.
    fn write(&self, number: u64, content: &[u8]) {
        self.ram.with(|bytes| {
            self.bits.lock().unwrap().insert(number);
            page(bytes, number).copy_from_slice(content);
        });
    }

    /// A few words of a page change, a page becomes another's copy, or zeros, or wholly different.
    fn write_anything(&self, chance: &mut Chance) {
        let (at, other) = (chance.below(BLOCKS[0]), chance.below(BLOCKS[0]));
        let mut content = self.ram.with(|bytes| page(bytes, at).to_vec());
        match chance.below(8) {
            0 => content.fill(0),
            1 => content = self.ram.with(|bytes| page(bytes, other).to_vec()),
            2 => content = noise(chance.next()),
            _ => content[..64].copy_from_slice(&chance.bytes(64)),
        }
        self.write(at, &content);
    }
}

/// QEMU's side of a source that begins by the stream and goes over to reading, with a draft that may hold pages of both times.
struct Reader {
    guest: Arc<Guest>,
    feed: Feed,
    draft: Draft,
    marks: Vec<Mark>,
    direct: bool,
}

impl Reader {
    /// One walk: the bits are cleared, and only then memory is looked at. Some pages are named again when the walk is almost over.
    fn walk(&mut self, chance: &mut Chance) {
        let mut named = std::mem::take(&mut *self.guest.bits.lock().unwrap());
        while let Some(number) = named.pop_first() {
            self.page(number);
            if chance.below(8) == 0 {
                let mut bits = self.guest.bits.lock().unwrap();
                let again = (0..6).map_while(|_| bits.pop_first());
                named.extend(again);
            }
            match chance.below(60) {
                0 => self.submit(),
                1 => self.tell_marks(),
                // The block is trusted from here on: contents that wait get their number before its first mark.
                2 if !self.direct => {
                    self.submit();
                    self.direct = true;
                }
                _ => {}
            }
        }
        // A section's end.
        self.submit();
        self.tell_marks();
    }

    fn page(&mut self, number: u64) {
        let at = Address {
            block: 0,
            page: number,
        };
        let content = self.guest.ram.with(|bytes| page(bytes, number).to_vec());
        if self.direct {
            let zero = content.iter().all(|&byte| byte == 0);
            self.marks.push(mark(number, zero));
        } else if self.draft.page(at, &content).is_err() {
            self.submit();
            self.draft.page(at, &content).unwrap();
        }
    }

    fn submit(&mut self) {
        if !self.draft.is_empty() {
            self.feed.submit(&mut self.draft).unwrap();
        }
    }

    fn tell_marks(&mut self) {
        self.feed.mark(&self.marks).unwrap();
        self.marks.clear();
    }
}

/// Moves a guest that several threads write to. Returns whether what arrived is what it had in the end.
fn moves_under_load(seed: u64) {
    let mut chance = Chance::new(seed);
    let guest = Guest::new(BLOCKS[0]);
    let how = Out {
        window: [32 << 10, 128 << 10, 4 << 20][usize::try_from(chance.below(3)).unwrap()],
        workers: usize::try_from(chance.below(6)).unwrap() + 1,
        ..Out::default()
    };
    let lanes = usize::try_from(chance.below(4)).unwrap() + 1;
    let direct = direct(Arc::clone(&guest.ram) as _);
    let (outbound, _told, arriving) = joined_of(lanes, how, Some(direct));
    let (batch, may_wait) = (
        [8, 64, 1024][usize::try_from(chance.below(3)).unwrap()] << 10,
        chance.below(1 << 18),
    );
    outbound.set_pace(Pace {
        batch,
        may_wait,
        hurry: chance.below(2) == 0,
        wire_rate: None,
    });

    let stop = Arc::new(AtomicBool::new(false));
    let processors: Vec<_> = (1..=3)
        .map(|number| {
            let (guest, stop) = (Arc::clone(&guest), Arc::clone(&stop));
            let mut chance = Chance::new(seed ^ number << 32);
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    guest.write_anything(&mut chance);
                    thread::yield_now();
                }
            })
        })
        .collect();
    let mut reader = Reader {
        guest: Arc::clone(&guest),
        feed: outbound.feed(0),
        draft: Draft::new(page_size()),
        marks: Vec::new(),
        direct: false,
    };
    let source = thread::spawn(move || {
        for _ in 0..chance.below(6) {
            reader.walk(&mut chance);
            reader.feed.round();
            if reader.direct {
                reader.feed.wait_for_appetite().unwrap();
            }
        }
        stop.store(true, Ordering::SeqCst);
        for processor in processors {
            processor.join().unwrap();
        }
        reader.walk(&mut chance);
        reader.feed.drain().unwrap();
        reader.draft.barrier().unwrap();
        (
            reader.feed.submit(&mut reader.draft).unwrap(),
            reader.feed.versions(),
        )
    });
    let (image, number) = receive(&outbound, &arriving);
    let (barrier, versions) = source.join().unwrap();
    assert_eq!(barrier, number, "nothing is numbered behind the barrier");
    assert_eq!(arriving.inbound.versions()(), versions);
    guest.ram.with(|bytes| {
        let stale = |&number: &u64| {
            page(bytes, number)
                != &image[usize::try_from(number).unwrap() * PAGE_SIZE_MIN..][..PAGE_SIZE_MIN]
        };
        let stale: Vec<_> = (0..BLOCKS[0]).filter(stale).collect();
        assert!(
            stale.is_empty(),
            "seed {seed}: pages {stale:?} are not the guest's"
        );
    });
}

#[test]
fn a_block_that_goes_over_from_the_stream_to_reading_arrives_as_it_was_last() {
    for seed in 0..24 {
        moves_under_load(seed);
    }
}

#[test]
fn pages_that_are_read_count_for_the_memory_that_they_take_at_the_receiver() {
    let ram = Guest::new(BLOCKS[0]);
    for number in (0..16).chain(100..116) {
        ram.write(number, &noise(number));
    }
    let memory = direct(Arc::clone(&ram.ram) as _);
    let (outbound, _told, arriving) = joined_of(1, Out::default(), Some(memory));
    // Pages with content, runs of zeros, and zeros each for itself: these are next to nothing on the wire, and many to remember.
    let isolated = (0..3000).map(|number| Mark {
        first: Address {
            block: 1,
            page: 10 * number,
        },
        run: 1,
        zero: true,
    });
    let mut marks: Vec<_> = isolated.collect();
    marks.extend((0..16).chain(100..116).map(|number| mark(number, false)));
    marks.push(Mark {
        run: 50,
        ..mark(30, true)
    });
    outbound.feed(0).mark(&marks).unwrap();
    let mut batches = Vec::new();
    let pages = |batches: &[Arc<Resolved>]| {
        let entries = batches.iter().flat_map(|batch| batch.entries());
        let pages = entries.map(|entry| match entry {
            Entry::Zero { run, .. } => run,
            Entry::Page { .. } => 1,
            Entry::Opaque { .. } | Entry::Barrier => 0,
        });
        pages.sum::<u64>()
    };
    while pages(&batches) < 3000 + 32 + 50 {
        batches.push(arriving.next());
    }
    let held: u64 = batches.iter().map(|batch| batch.memory() as u64).sum();
    assert!(held > 3000 * 16);
    assert_eq!(outbound.standing().in_flight.content, held);
}

/// A guest whose QEMU has died.
#[derive(Debug)]
struct Gone;

impl Memory for Gone {
    fn read(&self, _: &[Address], _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("its QEMU has ended"))
    }
}

#[test]
fn memory_that_cannot_be_read_any_more_ends_the_session() {
    let (outbound, mut told, _arriving) =
        joined_of(1, Out::default(), Some(direct(Arc::new(Gone))));
    let feed = outbound.feed(0);
    feed.mark(&[mark(5, false)]).unwrap();
    match next(&mut told) {
        Event::Broken(Broken::Memory(error)) => {
            assert_eq!(error.to_string(), "its QEMU has ended");
        }
        other => panic!("{other:?}"),
    }
    promptly("draining a closed way", move || feed.drain()).unwrap_err();
}

#[test]
fn a_page_that_the_guest_does_not_have_ends_the_session() {
    let (outbound, mut told, _arriving) =
        joined_of(1, Out::default(), Some(direct(Arc::new(Gone))));
    outbound
        .feed(0)
        .mark(&[mark(BLOCKS[0], false)])
        .unwrap_err();
    assert!(matches!(next(&mut told), Event::Broken(Broken::Marked(_))));
}
