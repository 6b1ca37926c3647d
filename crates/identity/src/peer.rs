//! The other end, once TLS has proven who it is.

use std::fmt;

use rustls::{CommonState, ProtocolVersion};

use crate::certificate::{Certificate, Malformed};
use crate::moment::Moment;
use crate::pki::ALPN;

/// Whom a certificate names. Only as true as the handshake that showed it: see [`peer_of`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// DNS names and addresses; without any, the common name. As text for people, without control characters.
    pub names: Vec<String>,
    /// The certificate's subject.
    pub subject: String,
    /// The certificate in DER, without its chain.
    pub certificate: Vec<u8>,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// When the certificate ends.
    pub not_after: Moment,
    parsed: Certificate,
}

impl Peer {
    /// Reads whom a certificate names.
    ///
    /// # Errors
    /// When `der` is not a certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let parsed = Certificate::from_der(der)?;
        Ok(Self {
            names: parsed.names.iter().map(ToString::to_string).collect(),
            subject: parsed.subject.clone(),
            certificate: der.to_vec(),
            fingerprint: parsed.fingerprint(),
            not_after: parsed.not_after,
            parsed,
        })
    }

    /// Whether one of its names is `wanted`.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        self.parsed.is_for(wanted)
    }
}

/// The first name; without any, the subject; without that, the fingerprint.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.first() {
            Some(name) => f.write_str(name),
            None if !self.subject.is_empty() => f.write_str(&self.subject),
            None => write!(f, "SHA-256 {}", self.fingerprint),
        }
    }
}

/// The peer of a connection whose handshake is over. Looks again at what the configurations demand, because a peer that leaves out
/// ALPN is let through by TLS, and a connection that was made with another configuration would be.
///
/// # Errors
/// When the connection is not one on which a session may start.
pub fn peer_of(connection: &CommonState) -> Result<Peer, NoPeer> {
    if connection.is_handshaking() {
        return Err(NoPeer::Unfinished);
    }
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(NoPeer::OldTls);
    }
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(NoPeer::NotSealift);
    }
    let certificates = connection.peer_certificates().unwrap_or_default();
    let own = certificates.first().ok_or(NoPeer::Anonymous)?;
    Peer::from_der(own).map_err(NoPeer::Certificate)
}

/// Why a connection has no peer to talk to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NoPeer {
    /// The handshake is not over: a fault of this program.
    Unfinished,
    /// Older than TLS 1.3.
    OldTls,
    /// The peer did not agree to speak sealift's protocol.
    NotSealift,
    /// The peer showed no certificate.
    Anonymous,
    /// The peer's certificate cannot be read.
    Certificate(Malformed),
}

impl fmt::Display for NoPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfinished => "the TLS handshake is not over (a fault of this sealift)",
            Self::OldTls => "the peer speaks a TLS older than 1.3: upgrade it",
            Self::NotSealift => {
                "the peer speaks TLS but not sealift's protocol: something else listens or calls there"
            }
            Self::Anonymous => "the peer showed no certificate",
            Self::Certificate(_) => "the peer's certificate cannot be read: have it issued anew",
        })
    }
}

impl std::error::Error for NoPeer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Certificate(error) => Some(error),
            _ => None,
        }
    }
}
