//! The source's half of the hand-off: the end that decides, by what its QEMU says.
//!
//! ```text
//!  PreCopy ─▶ Stopped ─▶ Drained ─▶ Intending ─▶ ShutPassed ─▶ Completing ─▶ Committed ─▶ Activated ─▶ Over: moved
//!     └─────────┴──────────┴───────────┴────────────┤QemuFailed                  │
//!                          ▼                        │          └──── lost ───────┴──▶ Over: in doubt
//!                       Aborting ◀──────────────────┘
//!                          └── Aborted, lost, or too late ─▶ Over: still at the source
//! ```

mod failures;
mod machine;

use super::{Drain, Step, Wait};
use crate::control::{Failure, Message, RunState, StageChange, Verification};

pub use machine::SourceHandoff;

/// How a source's hand-off is to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// The receiver controls its QEMU by QMP.
    pub managed: bool,
    /// Both memories are read again and compared.
    pub verify: bool,
    /// The source's QEMU is left as it is in the end, instead of being ended.
    pub keep: bool,
    /// How this end knows that its QEMU has completed.
    pub completion: Completion,
}

/// How this end knows that its QEMU has completed the migration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completion {
    /// QMP says so; that the channel is closed says nothing.
    ByQmp,
    /// There is no QMP: after SHUT was passed, the channel's close says so.
    ByClose,
}

/// What happens to a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// QEMU has stopped the guest, or the guest was stopped already and the last pages come.
    GuestStopped {
        /// When, on this host's wall clock.
        at_ns: u64,
    },
    /// Every page has been sent.
    Drained(Drain),
    /// This end has read its QEMU's memory again.
    MemoryRead(Verification),
    /// The receiver took a step.
    Peer(StageChange),
    /// The receiver has read its QEMU's memory again.
    PeerVerification(Verification),
    /// A step is in the journal.
    Journaled(Step),
    /// A step could not be written.
    JournalFailed(Step, Failure),
    /// QEMU says `completed`.
    QemuCompleted {
        /// What the guest did before it was stopped for the move.
        run_state: RunState,
    },
    /// QEMU says that the migration failed, or was cancelled.
    QemuFailed(Failure),
    /// QEMU has closed its channel.
    QemuClosed {
        /// What the guest did before it was stopped for the move, by QEMU's stream.
        run_state: RunState,
    },
    /// QEMU is no more.
    QemuGone,
    /// Something of this host's is broken that the move cannot do without.
    Failed(Failure),
    /// The user wants it to end.
    Cancel,
    /// The control channel is gone, for good, or the peer has ended it with an Error.
    Lost(Failure),
    /// A deadline has passed.
    Deadline(Wait),
}

/// What a source's driver has to do, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Say this on the control channel; when that is gone there is nobody to say it to.
    Send(Message),
    /// Write this to the journal, and come back with [`Event::Journaled`] once it is on the disk.
    Journal(Step),
    /// Give QEMU its SHUT on the return path: it may complete.
    PassShut,
    /// Read QEMU's memory again, for [`Event::MemoryRead`].
    ReadMemory,
    /// Make QEMU give up the migration: by QMP, and by closing its channel. The guest runs on; one whose QEMU turns out to have
    /// completed just before is continued, for the receiver is never told Commit.
    CancelQemu,
    /// End QEMU: the guest is at the receiver.
    EndQemu,
    /// Leave QEMU as it is, and warn: continuing it would run the guest a second time.
    KeepQemu,
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
    /// The guest is at the receiver.
    Moved {
        /// The receiver controlled its QEMU; otherwise the stream's end did.
        managed: bool,
        /// When it was continued there, on the receiver's clock; 0 when it was not running.
        resumed_ns: u64,
    },
    /// The guest is here, whole.
    StillAtSource {
        /// Why it did not move.
        why: Failure,
        /// QEMU was heard to have completed the migration on its own, and holds the guest stopped: `cont` runs it on. It cannot
        /// run at the receiver, which is never told Commit.
        stopped: bool,
    },
    /// It is not known to this end where the guest is to run. Both ends hold it, and neither lets it run by itself.
    InDoubt {
        /// What happened, and what to do.
        why: Failure,
    },
    /// QEMU ended here, with the guest, before the receiver had all of it.
    Gone {
        /// What happened.
        why: Failure,
    },
}

/// Where a source stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the picture of the module names and orders them"
)]
pub enum Stage {
    PreCopy,
    Stopped,
    Drained,
    Intending,
    ShutPassed,
    Completing,
    Committed,
    Activated,
    Aborting,
    Over,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreCopy => "PreCopy",
            Self::Stopped => "Stopped",
            Self::Drained => "Drained",
            Self::Intending => "Intending",
            Self::ShutPassed => "ShutPassed",
            Self::Completing => "Completing",
            Self::Committed => "Committed",
            Self::Activated => "Activated",
            Self::Aborting => "Aborting",
            Self::Over => "Over",
        }
    }
}
