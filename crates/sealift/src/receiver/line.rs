//! Whether the source is connected, and what is done while it is not: it is waited for.
//!
//! ```text
//!        broke                     at the door, proven           its lanes are here
//!   up ─────────▶ down: waiting ───────────────────────▶ down ─────────────────────▶ up
//!    └────────────────────────────────▲───────────────────┘ broke again: waiting
//!      at the door, though nothing was noticed here
//! ```

use std::future::Future;
use std::time::Duration;

use sealift::event::Peer;
use sealift_net::control::{Receiver as Incoming, Sender};
use sealift_seal::{Keyed, Receiver};
use sealift_session::control::{ErrorKind, Failure, Fault, Resume};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::lanes::Gathered;
use crate::ending::failure;

/// The source may notice so much later that a connection broke, and decides for itself that it does not come back: nobody tells this end.
const LONGER: Duration = Duration::from_secs(8);

/// The connections as a whole: where one is gone, all are made anew.
pub(super) struct Line {
    /// For how long the source tries to come back; zero when it does not.
    resume_for: Duration,
    down: Option<Down>,
    gathering: Option<Gathering>,
    attempts: UnboundedSender<Attempt>,
    came: UnboundedReceiver<Attempt>,
    /// The one whose lanes are awaited now.
    attempt: u64,
}

/// What came of which.
type Attempt = (u64, Result<Back, Failure>);

/// A source that is back, with its lanes.
pub(super) struct Back {
    pub(super) sender: Sender,
    pub(super) receiver: Incoming,
    pub(super) keys: Keyed<Receiver>,
    pub(super) gathered: Gathered,
    /// What it has.
    pub(super) theirs: Resume,
    pub(super) peer: Peer,
}

struct Down {
    since: Instant,
    why: String,
}

/// Ends when dropped.
struct Gathering(AbortHandle);

impl Line {
    pub(super) fn new(resume_for: Duration) -> Self {
        let (attempts, came) = unbounded_channel();
        Self {
            resume_for,
            down: None,
            gathering: None,
            attempts,
            came,
            attempt: 0,
        }
    }

    pub(super) const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// It broke. Returns whether the source is waited for.
    pub(super) fn broke(&mut self, why: &Failure) -> bool {
        if self.waits() {
            self.down = Some(Down {
                since: Instant::now(),
                why: why.message.as_str().to_owned(),
            });
        }
        self.waits()
    }

    /// Whether a source whose connections broke is waited for.
    pub(super) const fn waits(&self) -> bool {
        !self.resume_for.is_zero()
    }

    /// Its lanes are awaited, in place of any that were awaited before.
    pub(super) fn gather(
        &mut self,
        lanes: impl Future<Output = Result<Back, Failure>> + Send + 'static,
    ) {
        self.attempt += 1;
        let (attempts, attempt) = (self.attempts.clone(), self.attempt);
        let task = tokio::spawn(async move {
            // Nobody listens when the session has ended.
            let _ = attempts.send((attempt, lanes.await));
        });
        self.gathering = Some(Gathering(task.abort_handle()));
    }

    /// Waits until they are here, or will not come.
    pub(super) async fn back(&mut self) -> Result<Back, Failure> {
        loop {
            match self.came.recv().await {
                Some((attempt, came)) if attempt == self.attempt => return came,
                // The source has come anew since.
                Some(_) => {}
                // This end holds a sender.
                None => std::future::pending().await,
            }
        }
    }

    /// It is up again. Returns for how long it was not.
    pub(super) fn up(&mut self) -> Duration {
        self.gathering = None;
        self.down
            .take()
            .map_or(Duration::ZERO, |down| down.since.elapsed())
    }

    /// The source has not come for so long that it does not try any more.
    pub(super) fn gives_up(&mut self) -> Option<Failure> {
        let longest = self.resume_for + LONGER;
        let down = self.down.take_if(|down| down.since.elapsed() > longest)?;
        let message = format!(
            "{}; the source did not come back within {} s",
            down.why,
            longest.as_secs()
        );
        Some(failure(ErrorKind::Timeout, Fault::Network, &message))
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.0.abort();
    }
}
