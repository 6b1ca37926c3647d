//! What a source's hand-off can fail of, in words for a person: what happened, whose fault it is, and what to do.

use alloc::format;

use crate::control::{ErrorKind, Failure, Fault};

/// The guest stands still, and its last pages do not come to an end.
pub(super) fn slow_drain() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Network,
        "the guest's last pages were not sent in time: the link has become too slow for it",
    )
}

/// No Prepared came.
pub(super) fn slow_receiver() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Receiver,
        "the receiver took too long to check and load the guest: see its log and its QEMU's",
    )
}

/// No word of the QEMU's came.
pub(super) fn silent_qemu() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Source,
        "the source's QEMU was told that it may complete, and says neither that it has nor that it failed: \
         ask it (query-migrate); the receiver holds the guest paused until it is told",
    )
}

/// QEMU completed before SHUT.
pub(super) fn completed_early() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Source,
        "the source's QEMU completed the migration without having been told that the guest arrived: \
         set its return-path capability",
    )
}

/// QEMU's channel ended before SHUT.
pub(super) fn closed_early() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Source,
        "the source's QEMU closed the channel before the guest had arrived: somebody cancelled the migration, it failed, or \
         that QEMU ended; its log says which",
    )
}

/// The user asked for it.
pub(super) fn cancelled() -> Failure {
    Failure::new(
        ErrorKind::Cancelled,
        Fault::User,
        "the move was cancelled at the source",
    )
}

/// QEMU completed, and the receiver is lost.
pub(super) fn untold(why: &Failure) -> Failure {
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the source's QEMU has completed, and the receiver could not be told: both hold the guest paused; \
         run cont at one of them, and only there. What happened: {why}"
        ),
    )
}

/// The receiver gave the guest back.
pub(super) fn not_taken(why: &Failure) -> Failure {
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the receiver was given the guest and cannot run it; the source holds it paused, and cont runs it on here \
         once it is sure that it does not run there. What happened: {why}"
        ),
    )
}

/// The receiver was lost after COMMIT.
pub(super) fn unheard(why: &Failure) -> Failure {
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the guest was handed over, and the receiver has not said that it runs: look there first; the source holds \
         it paused. What happened: {why}"
        ),
    )
}

/// No Active came.
pub(super) fn slow_to_activate() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Receiver,
        "the guest was handed over, and the receiver has not said in time that it runs: look there first; the source \
         holds it paused",
    )
}

/// QEMU ended.
pub(super) fn gone() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Source,
        "the source's QEMU ended before it said whether the migration had completed: see its log; a receiver that is \
         prepared holds the guest paused, and nothing else has it",
    )
}

/// QEMU ended, and nothing of the guest could run elsewhere.
pub(super) fn gone_early() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Source,
        "the source's QEMU ended, and its guest with it: see its log; nothing of it runs at the destination",
    )
}

/// The receiver has something else.
pub(super) fn differs(what: &str) -> Failure {
    Failure::new(
        ErrorKind::Integrity,
        Fault::Receiver,
        &format!("{what} is another than the source's: the guest was not moved as it was"),
    )
}
