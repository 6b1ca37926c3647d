//! What a receiver's hand-off can fail of, in words for a person: what happened, whose fault it is, and what to do.

use alloc::format;

use crate::control::{ErrorKind, Failure, Fault};

/// The source said INTENT although the two memories are not known to be equal.
pub(super) fn source_goes_on() -> Failure {
    Failure::new(
        ErrorKind::Integrity,
        Fault::Source,
        "the source goes on although its memory and this QEMU's differ, or it did not say what it read: the guest \
         is held paused; ask the source where it is to run",
    )
}

/// No Done came.
pub(super) fn silent_source() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Source,
        "the source was silent for too long",
    )
}

/// The guest is here, and the source has not said that it knows.
pub(super) fn unheard(why: &Failure) -> Failure {
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the guest runs here, and the source may not know: do not continue it there. What happened: {why}"
        ),
    )
}

/// What was placed is not what was sent.
pub(super) fn missing() -> Failure {
    Failure::new(
        ErrorKind::Integrity,
        Fault::Source,
        "the receiver's version map or number of batches is another than the source's: a page is missing or stale",
    )
}

/// QEMU is there, and the guest does not run.
pub(super) fn cannot_continue(why: &Failure) -> Failure {
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the guest was handed over, and the receiver's QEMU could not continue it: {why}. The receiver holds it"
        ),
    )
}

/// COMMIT does not get to the disk, and the guest was not let go on.
pub(super) fn slow_journal() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Receiver,
        "the guest was handed over, and the receiver's disk did not take that into its journal in time: the receiver's QEMU \
         holds it, and was not told to run it; look at that disk, and at the source, where the guest is paused",
    )
}

/// QEMU was told that it may run the guest, and says nothing.
pub(super) fn slow_to_continue() -> Failure {
    Failure::new(
        ErrorKind::Timeout,
        Fault::Receiver,
        "the guest was handed over, and the receiver's QEMU did not say in time that it runs: ask it by info status. It may \
         still begin to run there, so continue the guest at the source only when that QEMU has ended",
    )
}

/// QEMU ended before PREPARED.
pub(super) fn ended_before() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Receiver,
        "the receiver's QEMU ended before it had loaded the guest: see its log",
    )
}

/// QEMU ran before PREPARED.
pub(super) fn ran_before() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Receiver,
        "the receiver's QEMU began to run without having been told: start it with -S, or leave it alone",
    )
}

/// The user asked for it.
pub(super) fn cancelled() -> Failure {
    Failure::new(
        ErrorKind::Cancelled,
        Fault::User,
        "the move was cancelled at the receiver",
    )
}

/// QEMU ran before COMMIT.
pub(super) fn ran_unasked() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Receiver,
        "the receiver's QEMU began to run before the source handed the guest over: stop it, and ask the source where the \
         guest is to run",
    )
}

/// QEMU ended before COMMIT.
pub(super) fn ended_prepared() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Receiver,
        "the receiver's QEMU ended before the guest was handed over: it does not run there; see its log",
    )
}

/// PREPARED, and nobody to ask. Without QMP here the guest waits for the stream's end, which nobody but the source lets go of.
pub(super) fn held(why: &Failure, managed: bool) -> Failure {
    let way_out = if managed {
        "only if its QEMU says completed and the guest is paused there, cont runs it here"
    } else {
        "if its QEMU says completed and the guest is paused there, end the QEMU here, and cont runs it there again"
    };
    Failure::new(
        why.kind,
        why.fault,
        &format!(
            "the receiver holds the guest paused and has no word from the source: ask there whether it runs; {way_out}. \
             What happened: {why}"
        ),
    )
}

/// QEMU ended after COMMIT.
pub(super) fn ended_committed() -> Failure {
    Failure::new(
        ErrorKind::Qemu,
        Fault::Receiver,
        "the receiver's QEMU ended when the guest had been handed over and before it was seen to run: it does not run there; \
         the source still has it, paused",
    )
}
