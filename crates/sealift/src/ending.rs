//! Endings for what other crates fail with, told where the fault is known.

use std::error::Error;

pub(crate) use sealift::outcome::whole;
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift_session::control::{ErrorKind, Failure, Fault as Blame, Role, Text};
use sealift_session::handshake::Failed;

/// Certificate files that cannot be used.
pub(crate) fn of_pki(error: &sealift_identity::PkiError) -> Ending {
    Ending::because(Kind::Authentication, error).fault(Fault::ThisHost)
}

/// QEMU's control socket, before a guest was touched.
pub(crate) fn of_qemu(error: &sealift_qemu::Error) -> Ending {
    Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
}

/// The peer says why it ended the session: as the source tells it.
pub(crate) fn told(failure: &Failure) -> Ending {
    Ending::failed(Role::Source, failure, Teller::Peer)
}

/// This end found something wrong while agreeing.
pub(crate) fn found(failed: &Failed) -> Ending {
    let kind = match failed.kind() {
        ErrorKind::Identity => Kind::Authentication,
        _ => Kind::StillAtSource,
    };
    Ending::because(kind, failed).fault(Fault::seen_by(failed.here(), failed.fault()))
}

/// What the peer is told about a failure. Its message is cut to what the control channel carries.
pub(crate) fn failure(kind: ErrorKind, fault: Blame, message: &str) -> Failure {
    Failure {
        kind,
        fault,
        message: Text::explaining(message),
    }
}

/// The same, of an error and all its sources.
pub(crate) fn failure_of(kind: ErrorKind, fault: Blame, error: &(dyn Error + 'static)) -> Failure {
    failure(kind, fault, &whole(error))
}
