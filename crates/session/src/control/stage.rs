//! Where the session stands, and the hand-off: `stage.proto`, whose head draws the order.

use super::enumeration::enumeration;
use super::failure::Failure;
use super::invalid::{Invalid, array, present};
use super::wire;
use super::wire::stage_change::Change;

/// A step that one end has taken.
#[derive(Clone, Eq, PartialEq)]
pub enum StageChange {
    /// Source: pages begin.
    PreCopy,
    /// Source: the guest has stopped.
    StopAndCopy {
        /// When, on the source's clock.
        stopped_ns: u64,
    },
    /// Source: every page has been sent.
    Drained {
        /// The number of batches.
        batches: u64,
        /// The digest over its version map.
        version_map: [u8; 32],
    },
    /// Receiver: the guest could run here.
    Prepared {
        /// The number of batches.
        batches: u64,
        /// The digest over its version map.
        version_map: [u8; 32],
    },
    /// Source: its QEMU may complete from here on.
    Intent,
    /// Source: its QEMU has completed.
    Commit {
        /// What the guest did when it was stopped.
        run_state: RunState,
    },
    /// Receiver: the guest is live.
    Active {
        /// When it was continued, on the receiver's clock; 0 when it was not running.
        resumed_ns: u64,
    },
    /// Source: nothing is left to do.
    Done,
    /// Either end: no hand-off.
    Abort(Failure),
    /// The answer to that.
    Aborted,
}

enumeration! {
    /// What a guest did when it was stopped for the move.
    RunState = wire::RunState {
        /// It ran, and shall again.
        Running,
        /// Somebody had paused it.
        Paused,
        /// It slept.
        Suspended,
    }
}

/// What an end read when it read the guest's memory again.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Verification {
    /// The digest over it.
    pub digest: [u8; 32],
    /// How many bytes it read.
    pub bytes: u64,
    /// In how many ranges.
    pub ranges: u32,
}

impl TryFrom<wire::Verification> for Verification {
    type Error = Invalid;

    fn try_from(wire: wire::Verification) -> Result<Self, Invalid> {
        Ok(Self {
            digest: array("Verification.digest", &wire.digest)?,
            bytes: wire.bytes,
            ranges: wire.ranges,
        })
    }
}

impl From<Verification> for wire::Verification {
    fn from(verification: Verification) -> Self {
        Self {
            digest: verification.digest.to_vec(),
            bytes: verification.bytes,
            ranges: verification.ranges,
        }
    }
}

impl TryFrom<wire::StageChange> for StageChange {
    type Error = Invalid;

    fn try_from(wire: wire::StageChange) -> Result<Self, Invalid> {
        Ok(match present("StageChange.change", wire.change)? {
            Change::PreCopy(wire::PreCopy {}) => Self::PreCopy,
            Change::StopAndCopy(step) => Self::StopAndCopy {
                stopped_ns: step.stopped_ns,
            },
            Change::Drained(step) => Self::Drained {
                batches: step.batches,
                version_map: array("Drained.version_map", &step.version_map)?,
            },
            Change::Prepared(step) => Self::Prepared {
                batches: step.batches,
                version_map: array("Prepared.version_map", &step.version_map)?,
            },
            Change::Intent(wire::Intent {}) => Self::Intent,
            Change::Commit(step) => Self::Commit {
                run_state: RunState::from_wire("Commit.run_state", step.run_state)?,
            },
            Change::Active(step) => Self::Active {
                resumed_ns: step.resumed_ns,
            },
            Change::Done(wire::Done {}) => Self::Done,
            Change::Abort(step) => Self::Abort(present("Abort.error", step.error)?.try_into()?),
            Change::Aborted(wire::Aborted {}) => Self::Aborted,
        })
    }
}

impl From<StageChange> for wire::StageChange {
    fn from(change: StageChange) -> Self {
        let change = match change {
            StageChange::PreCopy => Change::PreCopy(wire::PreCopy {}),
            StageChange::StopAndCopy { stopped_ns } => {
                Change::StopAndCopy(wire::StopAndCopy { stopped_ns })
            }
            StageChange::Drained {
                batches,
                version_map,
            } => Change::Drained(wire::Drained {
                batches,
                version_map: version_map.to_vec(),
            }),
            StageChange::Prepared {
                batches,
                version_map,
            } => Change::Prepared(wire::Prepared {
                batches,
                version_map: version_map.to_vec(),
            }),
            StageChange::Intent => Change::Intent(wire::Intent {}),
            StageChange::Commit { run_state } => Change::Commit(wire::Commit {
                run_state: run_state.to_wire(),
            }),
            StageChange::Active { resumed_ns } => Change::Active(wire::Active { resumed_ns }),
            StageChange::Done => Change::Done(wire::Done {}),
            StageChange::Abort(failure) => Change::Abort(wire::Abort {
                error: Some(failure.into()),
            }),
            StageChange::Aborted => Change::Aborted(wire::Aborted {}),
        };
        Self {
            change: Some(change),
        }
    }
}
