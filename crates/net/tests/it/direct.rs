//! A guest whose memory is read directly, while it goes on writing.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sealift_net::outbound::{Broken, Direct, Event, Mark, Memory};
use sealift_pages::{Address, Draft, Entry, PAGE_SIZE_MIN};
use sealift_precopy::Engine;

use crate::ends::{Out, joined_of, next, promptly};
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
    let mut image = vec![0xff; usize::try_from(pages).unwrap() * PAGE_SIZE_MIN];
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
        arriving.acknowledge(&outbound);
        if over {
            break;
        }
        number += 1;
    }
    let (barrier, versions) = source.join().unwrap();
    assert_eq!(barrier, number, "nothing is numbered behind the barrier");
    assert_eq!(arriving.inbound.versions()(), versions);
    assert!(ram.with(|bytes| bytes == image), "memories are equal");
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
