//! What can go wrong on a control socket, and whose fault it is.

use std::time::Duration;
use std::{fmt, io};

use crate::Address;

/// A failure while talking QMP. Each message names the party at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// This host: nothing listens there, or it may not be reached.
    Connect {
        /// Where to.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else holds the monitor, or QEMU is stuck.
    NoGreeting {
        /// Where.
        address: Address,
        /// How long was waited.
        waited: Duration,
    },
    /// The peer speaks something else than QMP.
    NotQmp {
        /// Where.
        address: Address,
        /// What came instead.
        found: String,
    },
    /// QEMU closed the socket, most likely because it ended.
    Closed {
        /// The command that was under way, if one was.
        command: Option<String>,
    },
    /// QEMU did not answer a command in time.
    NoAnswer {
        /// The command.
        command: String,
        /// How long was waited.
        waited: Duration,
    },
    /// An event did not come in time.
    NoEvent {
        /// The events that would have done.
        awaited: Vec<String>,
        /// How long was waited.
        waited: Duration,
    },
    /// QEMU refused or failed a command.
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class, such as `GenericError` or `CommandNotFound`.
        class: String,
        /// QEMU's own words.
        description: String,
    },
    /// The user: a descriptor was to go over a TCP socket.
    CannotPass {
        /// The descriptor's name.
        name: String,
    },
    /// QEMU sent a line longer than any that it is known to send.
    LineTooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// QEMU sent a line that is not a QMP message.
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
    /// The socket failed.
    Socket {
        /// The command that was under way, if one was.
        command: Option<String>,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, .. } => {
                write!(f, "cannot connect to QEMU's control socket {address}")
            }
            Self::NoGreeting { address, waited } => write!(
                f,
                "no greeting from {address} within {waited:?}: a QMP socket takes one client at a time, \
                 and another one (libvirt, a second sealift) seems to hold it"
            ),
            Self::NotQmp { address, found } => {
                write!(
                    f,
                    "{address} is not a QMP socket: instead of a greeting came `{found}`"
                )
            }
            Self::Closed { command } => {
                write!(
                    f,
                    "QEMU closed its control socket{}; did the process end?",
                    during(command.as_deref())
                )
            }
            Self::NoAnswer { command, waited } => {
                write!(
                    f,
                    "QEMU did not answer the command `{command}` within {waited:?}"
                )
            }
            Self::NoEvent { awaited, waited } => {
                write!(
                    f,
                    "QEMU sent no event {} within {waited:?}",
                    awaited.join(" or ")
                )
            }
            Self::Refused {
                command,
                class,
                description,
            } => {
                write!(
                    f,
                    "QEMU refused the command `{command}`: {description} ({class})"
                )
            }
            Self::CannotPass { name } => {
                write!(
                    f,
                    "the descriptor `{name}` cannot be passed to QEMU over TCP: give QEMU a control socket of the form \
                     unix:PATH"
                )
            }
            Self::LineTooLong { limit } => {
                write!(
                    f,
                    "QEMU's control socket sent a line of more than {limit} bytes"
                )
            }
            Self::Malformed { problem } => {
                write!(f, "QEMU's control socket sent no QMP message: {problem}")
            }
            Self::Socket { command, .. } => {
                write!(
                    f,
                    "QEMU's control socket failed{}",
                    during(command.as_deref())
                )
            }
        }
    }
}

fn during(command: Option<&str>) -> String {
    command
        .map(|command| format!(" during the command `{command}`"))
        .unwrap_or_default()
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Socket { source, .. } => Some(source),
            _ => None,
        }
    }
}
