//! The hand-off: at every instant at most one running copy of the guest, and never none that could run.
//!
//! ```text
//!  source                                                          receiver
//!  PreCopy     ── PreCopy ──────────────────────────────────────▶  Expecting ─▶ Receiving
//!  Stopped     ── StopAndCopy ──────────────────────────────────▶  Stopped
//!  Drained     ── Drained: batches, version map ────────────────▶  Checking: all placed, maps equal
//!  │                                                               Loading: QEMU takes the device state
//!  │                                                              (Reading: all of its memory again)
//!  │                                                               Preparing: journal
//!  │           ◀───────────────── Prepared (and Verification) ───  Prepared
//!  Intending: journal
//!  ShutPassed  ── (Verification and) Intent ────────────────────▶  IntentSeen
//!  │ ═══════ the source's QEMU says `completed`: the decision ═══
//!  Completing: journal
//!  Committed   ── Commit: run state ────────────────────────────▶  Committing: journal
//!  │                                                               Continuing: it runs here
//!  │                                                               Activating: journal
//!  Activated: journal  ◀─────────────────────────────── Active ──  Active
//!  Over        ── Done ─────────────────────────────────────────▶  Over
//! ```
//!
//! - **Before SHUT is passed**, whatever fails ends with the guest at the source: Abort, the destination's QEMU dead, Aborted,
//!   and only then the source's channel closed, because of image locks.
//! - **After it, only the QEMU's word counts.** `completed` is followed by Commit, `failed` by Abort; nothing else is, and nobody
//!   can cancel.
//! - **A receiver that said Prepared does not let go** by itself: without a word from the source it holds the guest paused. Only
//!   when its QEMU is dead there is nothing to hold, and it says so.
//! - **Nothing continues before Commit**, and nothing twice.
//!
//! Both machines are pure: events go in, actions come out in the order in which they are to be done. Each event has an outcome in each
//! state, if only to be passed over. There is no time in here: [`Wait`] names what a driver arms a deadline for, and each new one
//! replaces the one before.

pub mod receiver;
pub mod source;

use alloc::format;

use crate::control::{ErrorKind, Failure, Fault, RunState, StageChange};

pub use receiver::ReceiverHandoff;
pub use source::SourceHandoff;

/// What goes into the journal, and is on the disk before what follows it is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Source: it passes SHUT to its QEMU next.
    Intent,
    /// Source: its QEMU says `completed`.
    Completed {
        /// What the guest did when it was stopped.
        run_state: RunState,
    },
    /// Receiver: the guest could run here, and is not let go.
    Prepared,
    /// Receiver: the guest is its own.
    Commit {
        /// What the guest did when it was stopped.
        run_state: RunState,
    },
    /// Receiver: the guest is live.
    Active {
        /// When it was continued, on this host's clock; 0 when it was not running.
        resumed_ns: u64,
    },
    /// Nothing is left to do.
    Done,
    /// No hand-off.
    Aborted,
}

/// What a deadline is armed for. It only ends what hangs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Source: the last pages are sent, the guest standing still.
    Drained,
    /// Source: the receiver checks, loads, perhaps reads, and says Prepared.
    Prepared,
    /// Source: its QEMU completes, now that it was passed SHUT.
    Completed,
    /// Source: the receiver says Active.
    Active,
    /// Source: the receiver says Aborted.
    Aborted,
    /// Receiver: the guest runs here, now that it is its own.
    Continued,
    /// Receiver: its QEMU is dead.
    Killed,
    /// Receiver: the source says Done.
    Done,
}

/// All pages are sent, or placed: as many batches, and a digest over the version map.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Drain {
    /// How many batches.
    pub batches: u64,
    /// The digest.
    pub version_map: [u8; 32],
}

impl core::fmt::Debug for Drain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Whoever guesses pages could check the guess against their digest.
        f.debug_struct("Drain")
            .field("batches", &self.batches)
            .finish_non_exhaustive()
    }
}

/// The peer took a step that it may not take now.
fn out_of_turn(by: Fault, stage: &str, change: &str) -> Failure {
    let end = if by == Fault::Source {
        "source"
    } else {
        "receiver"
    };
    Failure::new(
        ErrorKind::Protocol,
        by,
        &format!(
            "the {end} said {change} while the other end was in {stage}: a fault of the program"
        ),
    )
}

/// A step, as `stage.proto` calls it.
const fn name(change: &StageChange) -> &'static str {
    match change {
        StageChange::PreCopy => "PreCopy",
        StageChange::StopAndCopy { .. } => "StopAndCopy",
        StageChange::Drained { .. } => "Drained",
        StageChange::Prepared { .. } => "Prepared",
        StageChange::Intent => "Intent",
        StageChange::Commit { .. } => "Commit",
        StageChange::Active { .. } => "Active",
        StageChange::Done => "Done",
        StageChange::Abort(_) => "Abort",
        StageChange::Aborted => "Aborted",
    }
}
