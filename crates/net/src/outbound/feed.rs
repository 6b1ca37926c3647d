//! Where QEMU's channels are fed in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sealift_pages::{Address, Draft, Entry};
use sealift_session::flight::Cost;

use super::shared::{Book, Job, Shared, wait, wait_within};
use super::{Broken, Closed};
use crate::lock::lock;

/// What is waited for may also come with time alone: a tenth of what the dirty map is worth at least.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where one of QEMU's channels is fed in.
#[derive(Clone, Debug)]
pub struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: u16,
}

/// Pages that QEMU handed over without contents: they are read when they are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// The first of them.
    pub first: Address,
    /// How many.
    pub run: u64,
    /// QEMU found nothing but zeros in them.
    pub zero: bool,
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
        let shared = &self.shared;
        let cost = Cost {
            content: draft.memory() as u64,
        };
        let fresh = Draft::new(shared.layout.page_size());
        let number = {
            let mut book = lock(&shared.book);
            let number = loop {
                if shared.is_closed() {
                    return Err(Closed);
                }
                if book.flight.has_room(self.channel)
                    && let Ok(number) = book.flight.allot(self.channel, cost)
                {
                    break number;
                }
                shared.waiting.fetch_add(1, Ordering::Relaxed);
                book = wait(&shared.room, book);
                shared.waiting.fetch_sub(1, Ordering::Relaxed);
            };
            let draft = std::mem::replace(draft, fresh);
            let before = book.before(draft.entries().filter_map(|entry| match entry {
                Entry::Page { at, .. } => Some(at),
                Entry::Zero { .. } | Entry::Opaque { .. } | Entry::Barrier => None,
            }));
            let mut fits = true;
            for (first, run) in draft.addresses() {
                fits &= book.versions.stamp(first, run, number).is_ok();
            }
            if !fits {
                drop(book);
                shared.broken(Broken::Versions(number));
                return Err(Closed);
            }
            book.jobs.push_back(Job::Draft {
                number,
                draft: Box::new(draft),
                before,
            });
            number
        };
        shared.work.notify_one();
        Ok(number)
    }

    /// Takes pages whose contents are to be read.
    ///
    /// # Errors
    /// [`Closed`]; also when the guest does not have them, which is told as [`Broken::Marked`].
    pub fn mark(&self, marks: &[Mark]) -> Result<(), Closed> {
        let shared = &self.shared;
        let mut book = lock(&shared.book);
        if shared.is_closed() {
            return Err(Closed);
        }
        let Some(engine) = &mut book.engine else {
            return Ok(());
        };
        for mark in marks {
            if let Err(no_such_page) = engine.mark(mark.first, mark.run, mark.zero) {
                drop(book);
                shared.broken(Broken::Marked(no_such_page));
                return Err(Closed);
            }
        }
        drop(book);
        shared.work.notify_all();
        Ok(())
    }

    /// QEMU walks through memory anew.
    pub fn round(&self) {
        let now = self.shared.now();
        if let Some(engine) = &mut lock(&self.shared.book).engine {
            engine.round(now);
        }
    }

    /// QEMU should be read on: while many pages are dirty, those that it names again would only be named twice.
    #[must_use]
    pub fn has_appetite(&self) -> bool {
        has_appetite(&mut lock(&self.shared.book), self.shared.now())
    }

    /// Waits until QEMU should be read on.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn wait_for_appetite(&self) -> Result<(), Closed> {
        self.wait_until(has_appetite)
    }

    /// The guest stands still, and QEMU has named all that is dirty: waits until each page has been taken into a batch.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn drain(&self) -> Result<(), Closed> {
        if let Some(engine) = &mut lock(&self.shared.book).engine {
            engine.finish();
        }
        self.shared.work.notify_all();
        self.wait_until(|book, _| {
            let engine = book.engine.as_ref();
            engine.is_none_or(|engine| engine.dirty().pages() == 0)
        })
    }

    /// The destination's QEMU has to load pages itself, from here on and for good, as those that the source's has encoded. The receiver then writes
    /// none into its guest's memory any more, nor reads them there: no batch that gets its number after this names what is only there. To be
    /// called before what makes it so is submitted.
    pub fn pages_are_qemus(&self) {
        self.shared.placed.close();
    }

    fn wait_until(&self, reached: impl Fn(&mut Book, Duration) -> bool) -> Result<(), Closed> {
        let mut book = lock(&self.shared.book);
        loop {
            if self.shared.is_closed() {
                return Err(Closed);
            }
            if reached(&mut book, self.shared.now()) {
                return Ok(());
            }
            book = wait_within(&self.shared.taken, book, LOOK_AGAIN);
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

fn has_appetite(book: &mut Book, now: Duration) -> bool {
    let wire = book.wire_rate;
    let latency = book.flight.latency();
    let round_trip = latency.map_or(Duration::ZERO, |latency| latency.least);
    let engine = book.engine.as_mut();
    engine.is_none_or(|engine| engine.wants_more(now, wire, round_trip))
}
