//! How a handshake ends that does not end in keys: whose fault, and who has to read it.

use alloc::string::{String, ToString as _};
use core::error::Error as _;
use core::fmt::{self, Write as _};

use sealift_pages::LayoutError;
use sealift_seal as seal;

use super::WIRE_VERSION;
use crate::control::{
    ErrorKind, Failure, Fault, Invalid, Message, RefusalKind, Refused, Role, SessionId,
};

/// The handshake has failed: the session ends, and the guest stays where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    here: Role,
    reason: Reason,
}

/// Why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The peer ended it, and says why.
    Told(Failure),
    /// The receiver does not take this guest, and says why.
    Refused(Refused),
    /// The peer sent another message than the one that was due.
    Unexpected {
        /// The kind of message that was due.
        expected: &'static str,
        /// The kind that came.
        found: &'static str,
    },
    /// The peer's message does not go with what was said before.
    Invalid(Invalid),
    /// This host's own message would not.
    Own(Invalid),
    /// The peer says that it is what this end is.
    Role,
    /// The receiver answered for another session.
    Session {
        /// The session that the receiver named.
        found: SessionId,
    },
    /// The source wants to take up a session that this receiver does not know; or the receiver did not say that it takes
    /// up the one it was asked for.
    Resume,
    /// No version of what travels in lanes is known to both.
    Version,
    /// The source wants memory to be read again, which this receiver cannot do.
    VerifyFull,
    /// The digest algorithm that was chosen is one that this host offered and does not have.
    Digest {
        /// Its number.
        found: u8,
    },
    /// The admission's blocks make no layout.
    Layout(LayoutError),
    /// Shares, keys or confirmations.
    Keys(seal::Error),
}

impl Failed {
    pub(super) const fn new(here: Role, reason: Reason) -> Self {
        Self { here, reason }
    }

    /// Another message than the one that was due; if it is the peer's explanation, that.
    pub(super) fn unexpected(here: Role, expected: &'static str, found: Message) -> Self {
        let reason = match found {
            Message::Failure(failure) => Reason::Told(failure),
            message => Reason::Unexpected {
                expected,
                found: message.kind(),
            },
        };
        Self::new(here, reason)
    }

    /// The end that found it.
    #[must_use]
    pub const fn here(&self) -> Role {
        self.here
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What kind of failure; decides the exit code.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match &self.reason {
            Reason::Told(failure) => failure.kind,
            Reason::Refused(refused) => match refused.kind {
                RefusalKind::NotAllowed => ErrorKind::Identity,
                RefusalKind::Memory | RefusalKind::Busy => ErrorKind::Resources,
                RefusalKind::Destination | RefusalKind::Duplicate | RefusalKind::Resume => {
                    ErrorKind::Incompatible
                }
            },
            Reason::Unexpected { .. } | Reason::Invalid(_) | Reason::Session { .. } => {
                ErrorKind::Protocol
            }
            Reason::Role | Reason::Resume | Reason::Version | Reason::VerifyFull => {
                ErrorKind::Incompatible
            }
            Reason::Own(_) | Reason::Digest { .. } | Reason::Layout(_) => ErrorKind::Internal,
            Reason::Keys(error) => match error {
                seal::Error::NoCommonSuite
                | seal::Error::UnknownSuite { .. }
                | seal::Error::SuiteNotOffered { .. } => ErrorKind::Incompatible,
                seal::Error::Confirmation => ErrorKind::Identity,
                seal::Error::ShareLength { .. }
                | seal::Error::LowOrderShare
                | seal::Error::PointForm { .. }
                | seal::Error::PointOffCurve
                | seal::Error::UnreducedKey => ErrorKind::Protocol,
                _ => ErrorKind::Internal,
            },
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match &self.reason {
            Reason::Told(failure) => failure.fault,
            Reason::Refused(refused) => match refused.kind {
                RefusalKind::NotAllowed | RefusalKind::Duplicate | RefusalKind::Resume => {
                    Fault::Source
                }
                RefusalKind::Memory | RefusalKind::Busy | RefusalKind::Destination => {
                    Fault::Receiver
                }
            },
            Reason::Unexpected { .. }
            | Reason::Invalid(_)
            | Reason::Role
            | Reason::Session { .. }
            | Reason::Version => self.of_peer(),
            // It had it, and the source knows.
            Reason::Resume => Fault::Receiver,
            // Whoever ordered it can leave it out.
            Reason::VerifyFull => Fault::User,
            Reason::Own(_) | Reason::Digest { .. } | Reason::Layout(_) => self.of_this_host(),
            Reason::Keys(error) => match error.fault() {
                seal::Fault::ThisHost => self.of_this_host(),
                seal::Fault::Peer => self.of_peer(),
                seal::Fault::Link => Fault::Network,
            },
        }
    }

    /// What the peer has to be told before the connection is closed; nothing when it was the peer who told.
    #[must_use]
    pub fn to_tell(&self) -> Option<Failure> {
        if matches!(self.reason, Reason::Told(_) | Reason::Refused(_)) {
            return None;
        }
        let mut message = self.to_string();
        if let Some(source) = self.source() {
            // A String takes whatever is written.
            let _ = write!(message, ": {source}");
        }
        Some(Failure::new(self.kind(), self.fault(), &message))
    }

    const fn of_this_host(&self) -> Fault {
        match self.here {
            Role::Source => Fault::Source,
            Role::Receiver => Fault::Receiver,
        }
    }

    const fn of_peer(&self) -> Fault {
        match self.here {
            Role::Source => Fault::Receiver,
            Role::Receiver => Fault::Source,
        }
    }
}

/// Reads alike at both ends: it names them instead of "this host" and "the peer".
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (here, peer) = match self.here {
            Role::Source => ("source", "receiver"),
            Role::Receiver => ("receiver", "source"),
        };
        match &self.reason {
            Reason::Told(failure) => write!(f, "the {peer} ended the session: {failure}"),
            Reason::Refused(refused) => write!(
                f,
                "the receiver does not take the guest: {}",
                refused.explanation.as_str()
            ),
            Reason::Unexpected { expected, found } => {
                write!(f, "the {peer} sent {found}, expected {expected}")
            }
            Reason::Invalid(invalid) => {
                write!(f, "the {peer}'s {} is not allowed", message_of(invalid))
            }
            Reason::Own(invalid) => {
                write!(
                    f,
                    "the {here}'s own {} would not be allowed",
                    message_of(invalid)
                )
            }
            Reason::Role => write!(
                f,
                "both ends say that they are the {here}: one of them has to be the {peer}"
            ),
            Reason::Session { found } => {
                write!(
                    f,
                    "the receiver answered for session {}, which is another one",
                    hex(&found.0)
                )
            }
            Reason::Resume => f.write_str(
                "the source asked to take up a session that the receiver does not have any more: begin a new one",
            ),
            Reason::Version => write!(
                f,
                "the {here} knows version {WIRE_VERSION} of the lanes' format and the {peer} does not: \
                 use versions of the program that have one in common"
            ),
            Reason::VerifyFull => f.write_str(
                "the source asked that all memory is read again, for which the receiver needs QMP: \
                 give the receiver its QEMU's control socket, or do not ask for it",
            ),
            Reason::Digest { found } => write!(
                f,
                "the {here} took digest algorithm {found}, which it does not have"
            ),
            Reason::Layout(_) => write!(f, "the {here} cannot lay out the guest's memory"),
            Reason::Keys(_) => write!(f, "the {here} could not agree on keys with the {peer}"),
        }
    }
}

impl core::error::Error for Failed {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.reason {
            Reason::Invalid(invalid) | Reason::Own(invalid) => Some(invalid),
            Reason::Layout(error) => Some(error),
            Reason::Keys(error) => Some(error),
            _ => None,
        }
    }
}

/// The message of a field, without the field.
fn message_of(invalid: &Invalid) -> &'static str {
    invalid
        .field
        .split_once('.')
        .map_or(invalid.field, |(message, _)| message)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
