//! The book of what was placed: what is to be acknowledged, how much memory waits, and who waits for what.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sealift_session::control::BatchRanges;
use sealift_session::flight::Arrivals;
use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use crate::lock::lock;

/// Told by whoever places batches; read by whoever acknowledges them.
#[derive(Clone, Debug)]
pub struct Placed {
    book: Arc<Book>,
}

#[derive(Debug)]
struct Book {
    arrivals: Mutex<Owed>,
    /// Bytes that have arrived and are not placed.
    held: AtomicU64,
    /// For who waits until less is held, or something is in place.
    freeing: Mutex<()>,
    freed: Condvar,
    /// The way in was closed: nobody waits any more.
    closed: AtomicBool,
    events: UnboundedSender<Event>,
}

/// The way in was closed: the session has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Closed;

#[derive(Debug)]
struct Owed {
    arrivals: Arrivals,
    /// Somebody was told that there is something to acknowledge, and has not come yet.
    told: bool,
}

impl Placed {
    /// An empty book, whose owner hears of changes.
    #[must_use]
    pub fn new(events: UnboundedSender<Event>) -> Self {
        Self {
            book: Arc::new(Book {
                arrivals: Mutex::new(Owed {
                    arrivals: Arrivals::new(),
                    told: false,
                }),
                held: AtomicU64::new(0),
                freeing: Mutex::new(()),
                freed: Condvar::new(),
                closed: AtomicBool::new(false),
                events,
            }),
        }
    }

    /// A batch that took this much memory is placed.
    pub fn done(&self, number: u64, held: u64) {
        self.free(held);
        let untold = {
            let mut owed = lock(&self.book.arrivals);
            // The ledger lets no number pass twice, so none is placed twice.
            let _ = owed.arrivals.placed(number);
            !std::mem::replace(&mut owed.told, true)
        };
        if untold {
            let _ = self.book.events.send(Event::Placed);
        }
    }

    /// What was placed and is not acknowledged; to be called until there is nothing.
    #[must_use]
    pub fn take_ranges(&self) -> Option<BatchRanges> {
        let mut owed = lock(&self.book.arrivals);
        let ranges = owed.arrivals.take_ranges();
        owed.told = ranges.is_some();
        ranges
    }

    /// What is placed from this number on is acknowledged once more: the source may not have heard it.
    pub fn tell_again(&self, from: u64) {
        lock(&self.book.arrivals).arrivals.tell_again(from);
    }

    /// Every batch with a lower number is placed.
    #[must_use]
    pub fn floor(&self) -> u64 {
        lock(&self.book.arrivals).arrivals.next_in_order()
    }

    /// Bytes that have arrived and are not placed.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.book.held.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, bytes: u64) -> u64 {
        self.book.held.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(super) fn free(&self, bytes: u64) {
        self.book.held.fetch_sub(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// Waits as long as `busy` says, which is asked again whenever something was freed.
    pub(super) fn wait_while(&self, busy: impl Fn() -> bool) {
        let freeing = lock(&self.book.freeing);
        let waited = self.book.freed.wait_while(freeing, |()| busy());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until it is so, which is asked again after each [`Placed::done`] and [`Placed::wake`].
    ///
    /// # Errors
    /// When the way in is closed first.
    pub fn wait_until(&self, ready: impl Fn() -> bool) -> Result<(), Closed> {
        let is_closed = || self.book.closed.load(Ordering::SeqCst);
        let is_ready = std::cell::Cell::new(false);
        self.wait_while(|| {
            is_ready.set(ready());
            !is_ready.get() && !is_closed()
        });
        is_ready.get().then_some(()).ok_or(Closed)
    }

    /// Nobody is to wait any more.
    pub(super) fn close(&self) {
        self.book.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Lets who waits look again.
    pub fn wake(&self) {
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.book.freeing));
        self.book.freed.notify_all();
    }
}
