//! Asks QEMU again and again how its migration stands, as often as the session needs to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sealift_qemu::machine::{Migration, Status};
use sealift_qemu::{Error, Event};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::monitor::Monitor;

/// While the guest runs: often enough to draw, seldom enough not to be felt.
const LEISURELY: Duration = Duration::from_millis(100);
/// While the guest stands still each of these is part of its blackout. QEMU answers in half a millisecond.
const URGENT: Duration = Duration::from_millis(1);

/// What QEMU said.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) migration: Migration,
    pub(crate) status: Status,
    /// What it has reported since the last time.
    pub(crate) events: Vec<Event>,
}

/// The asking, where there is a QEMU that can be asked. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    task: Option<JoinHandle<()>>,
    pause: Arc<Pause>,
}

#[derive(Debug)]
struct Pause {
    micros: AtomicU64,
    changed: Notify,
}

impl Watch {
    /// Starts asking. The answers come out of the other end; that the socket was closed is the last.
    pub(crate) fn start(
        monitor: Option<Monitor>,
    ) -> (Self, mpsc::UnboundedReceiver<Result<Seen, Error>>) {
        let (seen, looks) = mpsc::unbounded_channel();
        let pause = Arc::new(Pause {
            micros: AtomicU64::new(micros(LEISURELY)),
            changed: Notify::new(),
        });
        let theirs = Arc::clone(&pause);
        let task = monitor.map(|monitor| tokio::spawn(ask(monitor, theirs, seen)));
        (Self { task, pause }, looks)
    }

    /// The guest stands still: ask as often as QEMU answers.
    pub(crate) fn hurry(&self) {
        self.pause.micros.store(micros(URGENT), Ordering::Relaxed);
        self.pause.changed.notify_one();
    }
}

async fn ask(
    monitor: Monitor,
    pause: Arc<Pause>,
    seen: mpsc::UnboundedSender<Result<Seen, Error>>,
) {
    loop {
        let look = monitor.ask(|machine| {
            let migration = machine.migration()?;
            let status = machine.status()?;
            let events = machine.qmp().take_events();
            Ok(Seen {
                migration,
                status,
                events,
            })
        });
        match look.await {
            // A main loop that is busy for long is asked again.
            Err(error) if !matches!(error, Error::Closed { .. }) => {}
            look => {
                let last = look.is_err();
                if seen.send(look).is_err() || last {
                    return;
                }
            }
        }
        let wait = Duration::from_micros(pause.micros.load(Ordering::Relaxed));
        // Either way it is time to look again.
        let _ = timeout(wait, pause.changed.notified()).await;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
