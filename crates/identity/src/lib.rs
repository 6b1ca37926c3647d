//! Who an end is, whom it lets in, and what it wrote down about a hand-off.
//!
//! ```text
//!  ca-cert.pem ─┐                       ┌─▶ client_config ─▶ TLS 1.3 ─┐
//!  ca-crl.pem  ─┼─▶ Pki (checked once) ─┤                             ├─▶ peer_of ─▶ Peer ─▶ AllowList
//!  *-cert.pem  ─┤                       └─▶ server_config ─▶ TLS 1.3 ─┘      │
//!  *-key.pem   ─┘                                                            └─ or explain: whose fault, what to do
//!
//!  authority: makes the files above (`sealift pki`)        journal: one small file per session and side
//! ```
//!
//! A certificate says who an end is. Whether that end may bring a guest here, the allow-list says: a CA that signs every
//! libvirt client is not an authorisation.

mod allow_list;
pub mod authority;
mod certificate;
mod durable;
mod error;
pub mod journal;
mod layout;
mod moment;
mod name;
mod peer;
mod pem;
mod pki;
mod reason;
mod recipient;
mod revocation;
mod verifier;

#[cfg(test)]
mod tests;

pub use allow_list::{AllowList, NotAllowed};
pub use certificate::{Certificate, Malformed};
pub use error::{PkiError, Problem};
pub use moment::Moment;
pub use name::Name;
pub use peer::{NoPeer, Peer, peer_of};
pub use pki::{ALPN, Pki};
pub use reason::{Fault, Kind, Reason, explain, explain_io};
pub use recipient::Recipient;

use std::fmt;

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The guest runs here when the session starts. The TLS client.
    Source,
    /// The guest is to run here. The TLS server.
    Receiver,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Receiver,
            Self::Receiver => Self::Source,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Receiver => "receiver",
        })
    }
}
