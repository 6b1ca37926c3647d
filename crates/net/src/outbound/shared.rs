//! What the threads of the way out share: the book, and what wakes whom.
//!
//! ```text
//!   room     a feed waits for the window            an acknowledgement, a larger window
//!   work     a worker waits for something to do     a draft, a page that is dirty, an acknowledgement
//!   taken    the reader of QEMU's stream waits      pages were taken off the dirty map
//! ```

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel as queue;
use sealift_pages::{Address, Draft, ITEM_LEN, Layout, Packing, Store, Tally};
use sealift_precopy::{self as precopy, Engine, Taken, VersionMap};
use sealift_seal::{Keyed, Source, Unsealer};
use sealift_session::control::BatchRanges;
use sealift_session::flight::{CHANNELS_MAX, Cost, Delivered, Flight, Unaccounted};
use tokio::sync::mpsc::UnboundedSender;

use super::effort::Effort;
use super::kept::Kept;
use super::ladder::{Ladder, Way};
use super::sent::PlacedBlocks;
use super::{Broken, Compression, Event, Memory, limit};
use crate::lock::lock;

/// The channel under which pages count that are read directly: one that QEMU does not have, so that neither waits for the other's share of
/// the window.
const DIRECT: u16 = CHANNELS_MAX;
/// Pages of zeros that join a batch of pages that are read: with as many records of them as pages, it still has room for a batch's content.
const ZEROS: u64 = 4096;

pub(super) struct Shared {
    pub(super) layout: Arc<Layout>,
    pub(super) book: Mutex<Book>,
    pub(super) compression: Compression,
    /// How hard what is compressed is. Its lock may be taken while the book's is held.
    pub(super) ladder: Mutex<Ladder>,
    /// What is known of pages that were sent. The book's lock may be taken while this one is held, and never the other way round.
    pub(super) store: Mutex<Store>,
    /// The guest's memory, with direct access.
    pub(super) memory: Option<Arc<dyn Memory>>,
    /// Blocks whose pages the receiver has in its guest's memory.
    pub(super) placed: PlacedBlocks,
    pub(super) room: Condvar,
    pub(super) work: Condvar,
    pub(super) taken: Condvar,
    pub(super) keys: Mutex<Keyed<Source>>,
    /// Not to be locked while the book is.
    pub(super) kept: Mutex<Kept>,
    /// What is sent is kept.
    pub(super) keeps: bool,
    /// Where workers find buffers again.
    pub(super) empties: queue::Sender<Vec<u8>>,
    /// There are no connections: lanes end.
    pub(super) interrupted: AtomicBool,
    pub(super) tally: Mutex<Tally>,
    pub(super) wire: AtomicU64,
    pub(super) limit: Option<limit::Limit>,
    /// Feeds that wait for the window.
    pub(super) waiting: AtomicUsize,
    pub(super) closed: AtomicBool,
    pub(super) start: Instant,
    pub(super) events: UnboundedSender<Event>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What is serial: one owner, one lock.
pub(super) struct Book {
    pub(super) flight: Flight,
    /// All that was acknowledged.
    pub(super) delivered: Delivered,
    pub(super) versions: VersionMap,
    /// Batches that have their numbers and wait for a worker.
    pub(super) jobs: VecDeque<Job>,
    /// Windows that no worker has, the lowest last.
    pub(super) windows: Vec<Packing>,
    /// What is dirty, with direct access.
    pub(super) engine: Option<Engine>,
    /// Bytes of content that make a batch of pages that are read directly.
    pub(super) batch: u64,
    /// The guest's stop is near, or it has stopped: nothing is more urgent.
    pub(super) hurry: bool,
    /// Bytes in a second that the link can carry.
    pub(super) wire_rate: Option<u64>,
    /// Whether batches are compressed.
    pub(super) effort: Effort,
}

/// A batch that has its number.
pub(super) enum Job {
    /// Its contents came with it.
    Draft {
        number: u64,
        draft: Box<Draft>,
        before: Before,
    },
    /// Its pages are to be read.
    Pages {
        number: u64,
        pages: Vec<Taken>,
        before: Before,
    },
}

/// What a worker does next.
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) way: Way,
    /// What it is compressed on, if it is on a window.
    pub(super) window: Option<Packing>,
}

/// What a worker has to tell of a batch.
pub(super) struct Encoded {
    pub(super) number: u64,
    pub(super) tally: Tally,
    /// Its bytes of content, and how long it took, if it was to be compressed and nothing was to go first.
    pub(super) squeezed: Option<(u64, Duration)>,
    /// What it went on, or would have.
    pub(super) window: Option<Packing>,
}

/// For each page of a batch with content, in the order of addresses, the batch with its newest content before this one got its number.
pub(super) type Before = Vec<(Address, Option<u64>)>;

/// A batch that is ready to be sealed: room for the header, the body, room for the tag.
pub(super) struct Body {
    pub(super) number: u64,
    pub(super) buffer: Vec<u8>,
}

impl Shared {
    /// Waits for something to do; none when the way out is closed.
    pub(super) fn next_task(&self) -> Option<Task> {
        let mut book = lock(&self.book);
        loop {
            if self.is_closed() {
                return None;
            }
            if let Some(job) = book.jobs.pop_front() {
                return Some(self.task(job, &mut book));
            }
            match book.take(&self.layout, self.now()) {
                Ok(Some(job)) => {
                    let task = self.task(job, &mut book);
                    drop(book);
                    self.taken.notify_all();
                    return Some(task);
                }
                Ok(None) => {
                    match self.has_too_much_under_way(&book) {
                        true => book.effort.found_no_room(),
                        false => book.effort.found_no_pages(self.now()),
                    }
                    book = wait(&self.work, book);
                }
                Err(broken) => {
                    drop(book);
                    self.broken(broken);
                    return None;
                }
            }
        }
    }

    fn task(&self, job: Job, book: &mut Book) -> Task {
        let way = match self.compression {
            Compression::Level(level) => Way {
                level: Some(level),
                far: false,
                compare: None,
                gives_way: false,
            },
            Compression::Adaptive => {
                let mut ladder = lock(&self.ladder);
                if ladder.is_full() {
                    // Workers give way then, and are slow of their own will: that compressing takes time says nothing.
                    book.effort.found_no_room();
                }
                match self.effort(book, &job) {
                    true => ladder.next(),
                    false => Way::AS_IT_IS,
                }
            }
        };
        let way = Way {
            gives_way: way.gives_way && !book.hurry,
            ..way
        };
        let window = if way.far { book.windows.pop() } else { None };
        Task { job, way, window }
    }

    /// There are pages, and no room for them in the window.
    fn has_too_much_under_way(&self, book: &Book) -> bool {
        let ready = book.engine.as_ref();
        let ready = ready.is_some_and(|engine| engine.has_work(self.now()));
        self.waiting.load(Ordering::Relaxed) > 0 || ready && !book.flight.has_room(DIRECT)
    }

    /// Whether a batch is to be compressed.
    fn effort(&self, book: &mut Book, job: &Job) -> bool {
        let (number, content) = match job {
            Job::Draft { number, draft, .. } => (*number, draft.content_len() as u64),
            Job::Pages { number, pages, .. } => {
                let read = pages.iter().filter(|taken| !taken.zero);
                let read: u64 = read.map(|taken| taken.run).sum();
                (*number, read * self.layout.page_size().bytes() as u64)
            }
        };
        book.effort.choose(number, content, self.now())
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(limit) = &self.limit {
            limit.end();
        }
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.book));
        self.room.notify_all();
        self.work.notify_all();
        self.taken.notify_all();
    }

    /// A worker has encoded a batch.
    pub(super) fn encoded(&self, encoded: Encoded) {
        let Encoded {
            number,
            tally,
            squeezed,
            window,
        } = encoded;
        let mut book = lock(&self.book);
        if let Some(window) = window {
            book.give_back(window);
        }
        if let Some((content, took)) = squeezed {
            book.effort.made(content, took);
        }
        // It passes over batches whose pages were not read directly.
        if let Some(engine) = &mut book.engine {
            engine.encoded(number, made(&tally));
        }
    }

    pub(super) fn sent(&self, number: u64, wire: u64) {
        let now = self.now();
        let mut book = lock(&self.book);
        if book.flight.sent(number, wire, now).is_err() {
            // The lane got the number from the flight itself: it goes once more.
            book.flight.sent_again(number, now);
        }
    }

    /// A batch has gone, as it is here. It may be acknowledged already.
    pub(super) fn keep(&self, number: u64, sealed: Vec<u8>) {
        if !self.keeps {
            return self.reuse(sealed);
        }
        lock(&self.kept).keep(number, sealed);
        if !lock(&self.book).flight.is_under_way(number) {
            self.let_go(number..number + 1);
        }
    }

    /// An epoch has ended: its key is of use for as long as what it sealed is kept.
    pub(super) fn ended(&self, keys: Unsealer) {
        if self.keeps {
            lock(&self.kept).ended(keys);
        }
    }

    /// These are acknowledged.
    fn let_go(&self, numbers: Range<u64>) {
        for number in numbers {
            let kept = lock(&self.kept).let_go(number);
            if let Some(buffer) = kept {
                self.reuse(buffer);
            }
        }
    }

    fn reuse(&self, buffer: Vec<u8>) {
        // Enough lie ready when the queue is full.
        let _ = self.empties.try_send(buffer);
    }

    pub(super) fn acknowledge(&self, ranges: &BatchRanges) -> Result<Delivered, Unaccounted> {
        let now = self.now();
        let (delivered, known) = {
            let mut book = lock(&self.book);
            let known = ranges.as_slice().iter();
            let known: Vec<_> = known.map(|range| book.flight.known(range)).collect();
            let delivered = book.flight.acknowledge(ranges, now)?;
            for batch in known.iter().cloned().flatten() {
                book.effort.acknowledged(batch, now);
                if let Some(engine) = &mut book.engine {
                    engine.acknowledged(batch);
                }
            }
            let all = &mut book.delivered;
            all.batches += delivered.batches;
            all.content = all.content.saturating_add(delivered.content);
            all.wire = all.wire.saturating_add(delivered.wire);
            (delivered, known)
        };
        if self.keeps {
            for numbers in known {
                self.let_go(numbers);
            }
        }
        self.there_is_room();
        Ok(delivered)
    }

    /// The window has room again, or may have.
    pub(super) fn there_is_room(&self) {
        self.room.notify_all();
        if self.memory.is_some() {
            self.work.notify_all();
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody drives the session any more: then nobody needs to know.
        let _ = self.events.send(event);
    }

    /// Whoever finds the first thing wrong says so; what others find is what came of it.
    pub(super) fn broken(&self, why: Broken) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.tell(Event::Broken(why));
        }
        self.close();
    }
}

impl Book {
    /// A worker has no more use of a window.
    fn give_back(&mut self, window: Packing) {
        let higher = |other: &Packing| other.window() > window.window();
        let place = self.windows.partition_point(higher);
        self.windows.insert(place, window);
    }

    /// Takes what is to be sent next off the dirty map, and gives it its number: both, before anything of it is read.
    fn take(&mut self, layout: &Layout, now: Duration) -> Result<Option<Job>, Broken> {
        let Some(engine) = &mut self.engine else {
            return Ok(None);
        };
        if !engine.has_work(now) || !self.flight.has_room(DIRECT) {
            return Ok(None);
        }
        let page_bytes = layout.page_size().bytes() as u64;
        let number = self.flight.next();
        let mut pages = Vec::new();
        let content = self.batch / page_bytes;
        if engine.take(now, number, content, ZEROS, &mut pages) == 0 {
            return Ok(None);
        }
        // Where what is read turns out to be zeros, it is less.
        let takes = pages.iter().map(|taken| match taken.zero {
            true => ITEM_LEN,
            false => taken.run * (page_bytes + ITEM_LEN),
        });
        let cost = Cost {
            content: takes.sum(),
        };
        // There was room for it.
        let allotted = self.flight.allot(DIRECT, cost);
        debug_assert_eq!(allotted, Ok(number));
        let read = pages.iter().filter(|taken| !taken.zero);
        let read = read.flat_map(|taken| {
            let Address { block, page } = taken.first;
            (page..page.saturating_add(taken.run)).map(move |page| Address { block, page })
        });
        let before = self.before(read);
        for taken in &pages {
            let stamped = self.versions.stamp(taken.first, taken.run, number);
            stamped.map_err(|_| Broken::Versions(number))?;
        }
        Ok(Some(Job::Pages {
            number,
            pages,
            before,
        }))
    }

    /// To be asked before a batch is stamped.
    pub(super) fn before(&self, pages: impl Iterator<Item = Address>) -> Before {
        let newest = pages.map(|page| (page, self.versions.newest(page)));
        let mut before: Before = newest.collect();
        before.sort_unstable();
        before
    }
}

/// What the pages of a batch came to on the wire.
fn made(tally: &Tally) -> precopy::Encoded {
    // The records of a group share what it was compressed to.
    let (raw, packed) = (tally.group_raw_bytes, tally.group_bytes);
    let on_wire = |bytes: u64| match raw {
        0 => bytes,
        raw => bytes.saturating_mul(packed) / raw,
    };
    // A page that is named costs next to nothing, and mostly has not changed: it says nothing about what changes cost.
    let (literal, delta) = (tally.literal, tally.delta);
    // What looks like noise is left out of the group, and stays as long as it is.
    let records = [tally.zero, tally.literal, tally.same_as, tally.delta];
    let records: u64 = records.iter().map(|share| share.bytes).sum();
    let noise = records.saturating_sub(raw).min(literal.bytes);
    precopy::Encoded {
        literal_pages: literal.pages,
        literal_bytes: noise.saturating_add(on_wire(literal.bytes - noise)),
        delta_pages: delta.pages,
        delta_bytes: on_wire(delta.bytes),
    }
}

/// Waits for a signal.
pub(super) fn wait<'a>(signal: &Condvar, book: MutexGuard<'a, Book>) -> MutexGuard<'a, Book> {
    signal.wait(book).unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a signal, or until it is time to look again.
pub(super) fn wait_within<'a>(
    signal: &Condvar,
    book: MutexGuard<'a, Book>,
    time: Duration,
) -> MutexGuard<'a, Book> {
    let waited = signal.wait_timeout(book, time);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use sealift_pages::Share;

    use super::*;

    #[test]
    fn noise_outside_of_a_group_costs_what_it_is() {
        let share = |pages, bytes| Share { pages, bytes };
        // 100 pages in a group that became a quarter, a tenth of it deltas; 50 of noise behind it.
        let tally = Tally {
            literal: share(140, 140_000),
            delta: share(10, 10_000),
            group_raw_bytes: 100_000,
            group_bytes: 25_000,
            ..Tally::default()
        };
        let made = made(&tally);
        assert_eq!(made.literal_bytes, 50_000 + 90_000 / 4);
        assert_eq!(made.delta_bytes, 10_000 / 4);
    }
}
