//! What can go wrong when a channel is made, and whose fault it is.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use rustix::io::Errno;

use crate::Address;

/// A channel to QEMU could not be made. Each message names the party at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// This host: QEMU does not listen there, or may not be reached.
    Connect {
        /// Where to.
        address: Address,
        /// How long was tried.
        tried: Duration,
        /// What the system said to the last attempt.
        source: io::Error,
    },
    /// This host: the address cannot be listened on.
    Listen {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The user: another process listens there.
    Taken {
        /// Where.
        address: Address,
    },
    /// The user: the path of a socket belongs to something else.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The user: stdin or stdout is a terminal.
    Terminal,
    /// The user: there is no shim that would hand a channel over.
    NoShim,
    /// This host: the system refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ChannelError {
    pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, tried, .. } => write!(
                f,
                "cannot connect to QEMU's migration channel {address}, tried for {tried:.0?}: QEMU must wait there, by \
                 `-incoming {address}` or the QMP command `migrate-incoming`, for one connection at a time"
            ),
            Self::Listen { address, .. } => {
                write!(f, "cannot listen for QEMU's migration at {address}")
            }
            Self::Taken { address } => write!(
                f,
                "another process listens at {address}: end it, or choose another address"
            ),
            Self::NotASocket { path } => write!(
                f,
                "{} exists and is not a socket: remove it, or choose another path",
                path.display()
            ),
            Self::Terminal => f.write_str(
                "stdin or stdout is a terminal, and QEMU's stream was to come over them: name QEMU's socket, or let \
                 QEMU start this program by `exec:`",
            ),
            Self::NoShim => f.write_str(
                "stdin is not the socket over which a channel is handed on: this mode is for this program's own use",
            ),
            Self::System { doing, .. } => write!(f, "this host could not {doing}"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Listen { source, .. }
            | Self::System { source, .. } => Some(source),
            Self::Taken { .. } | Self::NotASocket { .. } | Self::Terminal | Self::NoShim => None,
        }
    }
}
