//! The receiver's half of the hand-off: the end that makes ready, holds, and continues when it is told.
//!
//! ```text
//!  Expecting ─▶ Receiving ─▶ Stopped ─▶ Checking ─▶ Loading ─▶ (Reading) ─▶ Preparing
//!     └────────────┴────────────┴──────────┴───────────┴───────────┴───────────┤    │ journaled
//!                                    Aborting: QEMU dies first ◀───────────────┘    ▼
//!                                       │        ▲ ◀── the source says Abort ─── Prepared ─▶ IntentSeen
//!                                       ▼        │                                 └────┬────┘      │ Commit
//!                                 Over: aborted                                         ▼ lost      ▼
//!                                                                            Over: in doubt    Committing
//!                                             Over: moved ◀─ Active ◀─ Activating ◀─ Continuing ◀──┘
//! ```
//!
//! Without QMP at this end (`managed` is false) the stream's end is held back instead: QEMU has loaded the guest and still waits.
//! It starts by itself when it gets that byte.

mod failures;
mod machine;

use super::{Drain, Step, Wait};
use crate::control::{Failure, Message, RunState, StageChange, Verification};

pub use machine::ReceiverHandoff;

/// How a receiver's hand-off is to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// This end controls its QEMU by QMP.
    pub managed: bool,
    /// Both memories are read again and compared; only where it is managed.
    pub verify: bool,
}

/// What happens to a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The source took a step.
    Peer(StageChange),
    /// The source has read its QEMU's memory again.
    PeerVerification(Verification),
    /// All batches that the source counted are placed and verified.
    RamPlaced(Drain),
    /// By QMP: QEMU has loaded all of the guest, has ended the return path without an error, says `completed`, and does not run.
    QemuLoaded,
    /// Without QMP: QEMU was given all but the stream's end.
    HeldEnd,
    /// This end has read its QEMU's memory again.
    MemoryRead(Verification),
    /// A step is in the journal.
    Journaled(Step),
    /// A step could not be written.
    JournalFailed(Step, Failure),
    /// QEMU says that it failed.
    QemuFailed(Failure),
    /// The guest runs: QMP says so, or QEMU has taken the stream's end and ended its return path without an error.
    QemuContinued {
        /// When, on this host's wall clock.
        at_ns: u64,
    },
    /// QEMU is confirmed dead, or never had anything of the guest.
    QemuGone,
    /// Something of this host's is broken that the move cannot do without, or a batch is not what was sent.
    Failed(Failure),
    /// The user wants it to end.
    Cancel,
    /// The control channel is gone, for good, or the peer has ended it with an Error.
    Lost(Failure),
    /// A deadline has passed.
    Deadline(Wait),
}

/// What a receiver's driver has to do, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Say this on the control channel; when that is gone there is nobody to say it to.
    Send(Message),
    /// Write this to the journal, and come back with [`Event::Journaled`] once it is on the disk.
    Journal(Step),
    /// Place and verify all batches below this number, for [`Event::RamPlaced`]. Nothing that follows them is used yet.
    Place {
        /// How many batches there are.
        batches: u64,
    },
    /// Memory is whole: QEMU may have what follows it. Without QMP, but for the stream's end.
    Load,
    /// Read QEMU's memory again, for [`Event::MemoryRead`].
    ReadMemory,
    /// Continue the guest, by QMP, and announce it to the network. One that slept goes on sleeping.
    Continue,
    /// Give QEMU the stream's end: it starts by itself, in the state that the stream says.
    ReleaseEnd,
    /// End QEMU for certain, for [`Event::QemuGone`].
    KillQemu,
    /// Arm a deadline, in place of any other.
    Arm(Wait),
    /// Tell the user that it is too late to cancel.
    RefuseCancel,
    /// Tell the user; it goes on.
    Warn(Failure),
    /// It is over. No action follows.
    Finish(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The guest is here.
    Moved {
        /// By QMP; otherwise the stream's end decided.
        managed: bool,
        /// What it did when it was stopped, and does again.
        run_state: RunState,
        /// When it was continued, on this host's clock; 0 when it was not running.
        resumed_ns: u64,
    },
    /// The guest is not here.
    Aborted {
        /// Why.
        why: Failure,
        /// This end's QEMU is confirmed dead. Otherwise somebody has to look: it may hold the guest's images.
        confirmed: bool,
    },
    /// This end's QEMU holds the guest, and whether it is to run here only the source knows.
    InDoubt {
        /// What happened, and what to do.
        why: Failure,
    },
}

/// Where a receiver stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the picture of the module names and orders them"
)]
pub enum Stage {
    Expecting,
    Receiving,
    Stopped,
    Checking,
    Loading,
    Reading,
    Preparing,
    Prepared,
    IntentSeen,
    Committing,
    Continuing,
    Activating,
    Active,
    Aborting,
    Over,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expecting => "Expecting",
            Self::Receiving => "Receiving",
            Self::Stopped => "Stopped",
            Self::Checking => "Checking",
            Self::Loading => "Loading",
            Self::Reading => "Reading",
            Self::Preparing => "Preparing",
            Self::Prepared => "Prepared",
            Self::IntentSeen => "IntentSeen",
            Self::Committing => "Committing",
            Self::Continuing => "Continuing",
            Self::Activating => "Activating",
            Self::Active => "Active",
            Self::Aborting => "Aborting",
            Self::Over => "Over",
        }
    }
}
