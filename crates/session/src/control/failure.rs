//! What went wrong and whose fault it is: `error.proto`. The Rust type is not called `Error`, because to receive one is
//! not to fail at receiving.

use core::fmt;

use super::bounded::Text;
use super::enumeration::enumeration;
use super::invalid::Invalid;
use super::wire;

/// Something went wrong at the peer, or the peer says so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What kind; decides the exit code.
    pub kind: ErrorKind,
    /// Whose fault.
    pub fault: Fault,
    /// What happened, in words, and what to do.
    pub message: Text<1024>,
}

impl Failure {
    /// A failure in words of this program's own, cut to what the channel carries.
    #[must_use]
    pub fn new(kind: ErrorKind, fault: Fault, message: &str) -> Self {
        Self {
            kind,
            fault,
            message: Text::explaining(message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_str())
    }
}

enumeration! {
    /// What kind of failure.
    ErrorKind = wire::ErrorKind {
        /// Malformed, or not allowed now.
        Protocol,
        /// Nothing in common.
        Incompatible,
        /// Somebody is not who they say, or may not.
        Identity,
        /// A batch was not what was sent.
        Integrity,
        /// QEMU failed.
        Qemu,
        /// The host has too little of something.
        Resources,
        /// Too long silent.
        Timeout,
        /// The guest writes too fast.
        Convergence,
        /// Somebody asked for it.
        Cancelled,
        /// A bug.
        Internal,
    }
}

enumeration! {
    /// Whose fault a failure is.
    Fault = wire::Fault {
        /// The source's host.
        Source,
        /// The receiver's host.
        Receiver,
        /// What lies between.
        Network,
        /// The guest.
        Guest,
        /// Whoever gave the order.
        User,
    }
}

impl TryFrom<wire::Error> for Failure {
    type Error = Invalid;

    fn try_from(wire: wire::Error) -> Result<Self, Invalid> {
        Ok(Self {
            kind: ErrorKind::from_wire("Error.kind", wire.kind)?,
            fault: Fault::from_wire("Error.fault", wire.fault)?,
            message: Text::new("Error.message", wire.message)?,
        })
    }
}

impl From<Failure> for wire::Error {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.to_wire(),
            fault: failure.fault.to_wire(),
            message: failure.message.into_string(),
        }
    }
}
