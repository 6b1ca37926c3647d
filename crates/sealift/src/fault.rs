//! Steps at which a test holds this program up, to kill it, its QEMU or its link there. Only in a build for
//! debugging, which is what the tests run; a release has none of it.
//!
//! ```text
//!  SEALIFT_FAULT=before-say-commit:20     stands still for 20 s at this step, or until it is killed;
//!                                         says first, on standard error: fault point before-say-commit
//! ```
//!
//! A step of a journal is `before-journal-…` until it is written and `after-journal-…` once it is on the disk; what is said to the peer
//! is `before-say-…` and `after-say-…`; `shut`, `load`, `continue` and `release` are what QEMU is told.

#[cfg(debug_assertions)]
mod held {
    use std::io::Write as _;
    use std::thread;
    use std::time::Duration;

    /// The step, and for how long.
    const VARIABLE: &str = "SEALIFT_FAULT";

    /// Stands still when this is the step. Only this task does: what was queued before it still goes out.
    pub(crate) fn at(step: &str) {
        let Ok(wanted) = std::env::var(VARIABLE) else {
            return;
        };
        let Some((name, seconds)) = wanted.split_once(':') else {
            return;
        };
        if name != step {
            return;
        }
        let _ = std::io::stderr().write_fmt(format_args!("fault point {step}\n"));
        let time = Duration::from_secs(seconds.parse().unwrap_or(0));
        tokio::task::block_in_place(|| thread::sleep(time));
    }
}

#[cfg(not(debug_assertions))]
mod held {
    /// Nothing.
    #[inline(always)]
    pub(crate) const fn at(_step: &str) {}
}

use sealift_session::control::{Message, StageChange};
use sealift_session::handoff::Step;

pub(crate) use held::at;

/// Before and after a step is written to the journal.
pub(crate) const fn journal(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Intent => ("before-journal-intent", "after-journal-intent"),
        Step::Completed { .. } => ("before-journal-completed", "after-journal-completed"),
        Step::Prepared => ("before-journal-prepared", "after-journal-prepared"),
        Step::Commit { .. } => ("before-journal-commit", "after-journal-commit"),
        Step::Active { .. } => ("before-journal-active", "after-journal-active"),
        Step::Done => ("before-journal-done", "after-journal-done"),
        Step::Aborted => ("before-journal-aborted", "after-journal-aborted"),
    }
}

/// Before and after a step is said to the peer.
pub(crate) const fn say(message: &Message) -> (&'static str, &'static str) {
    let Message::StageChange(change) = message else {
        return ("", "");
    };
    match change {
        StageChange::PreCopy => ("before-say-pre-copy", "after-say-pre-copy"),
        StageChange::StopAndCopy { .. } => ("before-say-stop-and-copy", "after-say-stop-and-copy"),
        StageChange::Drained { .. } => ("before-say-drained", "after-say-drained"),
        StageChange::Prepared { .. } => ("before-say-prepared", "after-say-prepared"),
        StageChange::Intent => ("before-say-intent", "after-say-intent"),
        StageChange::Commit { .. } => ("before-say-commit", "after-say-commit"),
        StageChange::Active { .. } => ("before-say-active", "after-say-active"),
        StageChange::Done => ("before-say-done", "after-say-done"),
        StageChange::Abort(_) => ("before-say-abort", "after-say-abort"),
        StageChange::Aborted => ("before-say-aborted", "after-say-aborted"),
    }
}
