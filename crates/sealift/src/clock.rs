//! This host's clocks, as sessions need them.

use std::time::{SystemTime, UNIX_EPOCH};

use sealift_session::handoff::Wait;
use tokio::time::{Duration, Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// Nanoseconds since 1970 on this host's wall clock.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A tick now, and one after each such time; those that were missed are not made up for.
pub(crate) fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// A deadline that the hand-off's machine has armed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    wait: Wait,
    armed: Instant,
    at: Instant,
}

impl Armed {
    /// From now on.
    pub(crate) fn now(wait: Wait) -> Self {
        Self {
            wait,
            armed: Instant::now(),
            at: Instant::now() + patience(wait),
        }
    }

    /// Whether it is for this.
    pub(crate) fn is(&self, wait: Wait) -> bool {
        self.wait == wait
    }

    /// It stood still for so long, or since it was armed, and passes as much later.
    pub(crate) fn later(&mut self, by: Duration) {
        self.at += by.min(self.armed.elapsed());
    }

    /// Waits until it has passed; for ever when none is armed.
    pub(crate) async fn passed(armed: Option<Self>) -> Wait {
        match armed {
            Some(Self { wait, at, .. }) => {
                sleep_until(at).await;
                wait
            }
            None => std::future::pending().await,
        }
    }
}

/// What hangs is ended after so long.
const fn patience(wait: Wait) -> Duration {
    Duration::from_secs(match wait {
        // What QEMU thought would take its downtime limit.
        Wait::Drained => 60,
        // The receiver's QEMU loads device state, and both may read all of memory at 1 GB/s.
        Wait::Prepared => 300,
        // QEMU has everything that it waits for; or the source needs no more than to write its journal.
        Wait::Completed | Wait::Done => 30,
        // The receiver writes its journal and says `cont`; its disks may have to be opened.
        Wait::Active => 60,
        // As `Active`, which is what the source waits for: less, so that it hears why.
        Wait::Continued => 50,
        // A QEMU is ended.
        Wait::Aborted | Wait::Killed => 15,
    })
}
