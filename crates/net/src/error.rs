//! What goes wrong with connections.

use std::time::Duration;
use std::{fmt, io};

use sealift_session::control::FrameError;

/// What a connection can fail with.
#[derive(Debug)]
pub enum Error {
    /// A name has no address.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody answered.
    Connect {
        /// Host and port.
        target: String,
        /// What the last address said.
        source: io::Error,
    },
    /// This host cannot listen there.
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// TLS failed: somebody is not who they should be, or does not speak it.
    Tls(rustls::Error),
    /// The control channel broke.
    Lost(io::Error),
    /// The peer closed the control channel.
    Closed,
    /// The peer was silent for so long.
    Silent(Duration),
    /// The peer takes nothing any more.
    Stuck,
    /// The peer sent something that is not of the protocol.
    Frame(FrameError),
    /// A thread could not be started.
    Thread(io::Error),
    /// What was sent could not be opened again, to be sealed anew.
    Resealing(sealift_seal::Error),
}

impl Error {
    /// An error of a TLS stream: TLS's own, or the connection's.
    pub(crate) fn of_stream(error: io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Lost(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, .. } => write!(f, "the name {host} cannot be resolved"),
            Self::Connect { target, .. } => write!(f, "cannot connect to {target}"),
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Tls(_) => f.write_str("the peer was not authenticated"),
            Self::Lost(_) => f.write_str("the control channel broke"),
            Self::Closed => f.write_str("the peer closed the control channel"),
            Self::Silent(waited) => {
                write!(f, "the peer said nothing for {} s", waited.as_secs())
            }
            Self::Stuck => f.write_str("the peer has stopped reading the control channel"),
            Self::Frame(_) => f.write_str("the peer broke the protocol"),
            Self::Thread(_) => f.write_str("a thread cannot be started"),
            Self::Resealing(_) => f.write_str("what was sent cannot be sent again"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::Listen { source, .. }
            | Self::Lost(source)
            | Self::Thread(source) => Some(source),
            Self::Tls(error) => Some(error),
            Self::Frame(error) => Some(error),
            Self::Resealing(error) => Some(error),
            Self::Closed | Self::Silent(_) | Self::Stuck => None,
        }
    }
}
