//! Tells the operator what happens, without ever making the migration wait for whoever reads it.
//!
//! ```text
//!   commands ── tell ──▶ [queue] ──▶ thread ──▶ face ─┬─ JSON      one event a line
//!               never     bounded               │     ├─ terminal  a bar that moves, lines above it
//!               blocks                          │     └─ plain     stage changes, progress every 5 s, results
//!                                               └▶ sinks: a closed pipe ends them quietly
//! ```
//!
//! A pager that is not scrolled, a terminal that was stopped, or a full pipe blocks the thread alone.

mod face;
mod json;
mod plain;
mod sink;
mod terminal;
mod wording;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

pub use face::{Face, Stdout};

use crate::event::{Event, What};
use face::Show;

/// Events that wait for a reader, at most: a session has a dozen, and one for each round; progress does not add to them.
const WAITING_MAX: usize = 1024;
/// How long the end waits for a reader that does not read: longer than any write takes that is going to succeed.
const LINGER: Duration = Duration::from_secs(2);

/// Tells the operator what happens. Shared by all that have something to tell.
#[derive(Debug)]
pub struct Reporter {
    queue: Arc<Queue>,
}

impl Reporter {
    /// Starts to tell by this face; `verbose` tells rounds and reasons as well.
    ///
    /// # Errors
    /// When this host has no thread left for it.
    pub fn new(face: Face, verbose: bool) -> io::Result<Self> {
        Self::start(move || face.show(verbose), LINGER)
    }

    /// `show` is made in the thread, where it stays.
    fn start(
        show: impl FnOnce() -> Box<dyn Show> + Send + 'static,
        linger: Duration,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(linger));
        let theirs = Arc::clone(&queue);
        thread::Builder::new()
            .name("reporter".into())
            .spawn(move || theirs.serve(&mut *show()))?;
        Ok(Self { queue })
    }

    /// Tells an event, some time soon. Never waits.
    pub fn tell(&self, event: Event) {
        self.queue.push(event);
    }

    /// Tells the last event and waits until all has been told, or for 2 s when nobody reads. It finds room however much waits, and nothing
    /// is told behind it: whoever shares this and has not ended yet tells nobody.
    pub fn finish(&self, last: Event) {
        self.queue.close(Some(last));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.queue.close(None);
    }
}

/// What has still to be told.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    linger: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Events that found no room since the last one that did.
    left_out: u64,
    /// What is told when all else has been.
    last: Option<Event>,
    closing: bool,
    closed: bool,
}

impl Queue {
    fn new(linger: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            linger,
        }
    }

    fn push(&self, event: Event) {
        let mut waiting = self.lock();
        if waiting.closing {
            return;
        }
        let is_progress = |event: &Event| matches!(event.what, What::Progress(_));
        // Of progress only the newest counts.
        if is_progress(&event) && waiting.events.back().is_some_and(is_progress) {
            waiting.events.pop_back();
        }
        if waiting.events.len() < WAITING_MAX {
            waiting.events.push_back(event);
        } else if !is_progress(&event) {
            waiting.left_out += 1;
        }
        self.changed.notify_all();
    }

    /// The thread's part.
    fn serve(&self, show: &mut dyn Show) {
        loop {
            let mut waiting = self.lock();
            let event = match (waiting.events.pop_front(), waiting.left_out) {
                (Some(event), _) => event,
                (None, 1..) => left_out(std::mem::take(&mut waiting.left_out)),
                (None, 0) if waiting.closing => match waiting.last.take() {
                    Some(last) => last,
                    None => break,
                },
                (None, 0) => {
                    // Woken without reason it looks again.
                    let woken = self.changed.wait(waiting);
                    drop(woken.unwrap_or_else(PoisonError::into_inner));
                    continue;
                }
            };
            drop(waiting);
            show.show(&event);
        }
        show.finish();
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Only once: whoever comes second has nothing to add, and no reader to wait for.
    fn close(&self, last: Option<Event>) {
        let mut waiting = self.lock();
        if std::mem::replace(&mut waiting.closing, true) {
            return;
        }
        waiting.last = last;
        self.changed.notify_all();
        let ended = self
            .changed
            .wait_timeout_while(waiting, self.linger, |waiting| !waiting.closed);
        drop(ended);
    }

    /// Whoever panicked while it held the lock left whole events behind.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left_out(events: u64) -> Event {
    Event {
        at: SystemTime::now(),
        session: None,
        what: What::Warning {
            message: format!("{events} events were left out, because nobody read the output"),
        },
    }
}

#[cfg(test)]
mod tests;
