//! Whether there are connections to the receiver, and what is done while there are none.
//!
//! ```text
//!        broke                          back
//!   up ─────────▶ down: coming back ───────────▶ up
//!                  └── the time is over, or the receiver will not have it ─▶ lost
//! ```

use std::sync::Arc;
use std::time::Duration;

use sealift_session::control::{ErrorKind, Failure, Fault};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::way_back::{Back, Has, WayBack};
use crate::ending::failure;

/// One that breaks sooner than this after it was made anew has not been back.
const BACK_FOR_GOOD: Duration = Duration::from_secs(2);

/// The connections as a whole: where one is gone, all are made anew.
pub(super) struct Line {
    /// None where a broken connection ends the session.
    way: Option<Arc<WayBack>>,
    max_blackout: Duration,
    down: Option<Down>,
    /// Since when it breaks again and again: what comes back for a moment is not back.
    troubled: Option<Instant>,
    /// When it was made anew last.
    up_since: Instant,
    attempts: UnboundedSender<Result<Back, Failure>>,
    came: UnboundedReceiver<Result<Back, Failure>>,
}

struct Down {
    since: Instant,
    why: String,
    coming_back: AbortHandle,
}

impl Line {
    pub(super) fn new(way: Option<WayBack>, max_blackout: Duration) -> Self {
        let (attempts, came) = unbounded_channel();
        Self {
            way: way.map(Arc::new),
            max_blackout,
            down: None,
            troubled: None,
            up_since: Instant::now(),
            attempts,
            came,
        }
    }

    pub(super) const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// It broke: this end comes back, if it can.
    pub(super) fn broke(&mut self, why: &Failure, has: Has) -> bool {
        let Some(way) = &self.way else {
            return false;
        };
        let (way, attempts) = (Arc::clone(way), self.attempts.clone());
        let since = Instant::now();
        let was_back = since.duration_since(self.up_since) >= BACK_FOR_GOOD;
        let before = self.troubled.filter(|_| !was_back);
        let at_once = before.is_none();
        let began = *self.troubled.insert(before.unwrap_or(since));
        let until = began + way.order.resume_for;
        let coming_back = tokio::spawn(async move {
            // Nobody listens when the session has ended.
            let _ = attempts.send(way.take(has, at_once, until).await);
        });
        self.down = Some(Down {
            since,
            why: why.message.as_str().to_owned(),
            coming_back: coming_back.abort_handle(),
        });
        true
    }

    /// It is back, or never will be; waits for that.
    pub(super) async fn back(&mut self) -> Result<Back, Failure> {
        match self.came.recv().await {
            Some(came) => came,
            // This end holds a sender.
            None => std::future::pending().await,
        }
    }

    /// It is up again. Returns for how long it was not.
    pub(super) fn up(&mut self) -> Duration {
        self.up_since = Instant::now();
        self.down
            .take()
            .map_or(Duration::ZERO, |down| down.since.elapsed())
    }

    /// It will not come back.
    pub(super) fn lost(&mut self, last: &Failure) -> Failure {
        let Some(down) = self.down.take() else {
            return last.clone();
        };
        let after = down.since.elapsed().as_secs_f64();
        let message = format!(
            "{}; this end could not come back within {after:.1} s: {}",
            down.why,
            last.message.as_str()
        );
        failure(last.kind, last.fault, &message)
    }

    /// The guest stands still since then: whether it has waited for long enough for a connection.
    pub(super) fn gives_up(&mut self, stopped: std::time::Instant) -> Option<Failure> {
        let waits = |down: &Down| stopped.elapsed().min(down.since.elapsed());
        let standstill = waits(self.down.as_ref()?);
        if standstill <= self.max_blackout {
            return None;
        }
        let down = self.down.take()?;
        let message = format!(
            "{}; the guest stood still and waited for {:.1} s, and --max-blackout allows {:.1} s",
            down.why,
            standstill.as_secs_f64(),
            self.max_blackout.as_secs_f64()
        );
        Some(failure(ErrorKind::Timeout, Fault::Network, &message))
    }
}

/// Nobody comes back to a session that is over.
impl Drop for Down {
    fn drop(&mut self) {
        self.coming_back.abort();
    }
}
