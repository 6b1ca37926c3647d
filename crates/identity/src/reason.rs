//! Why a TLS handshake failed, in a sentence: whose fault, and what to do.
//!
//! ```text
//!              source                              receiver
//!                 │──────── ClientHello ───────────────▶│
//!                 │◀─ ServerHello … Certificate, Fin ───│
//!  finds fault ◀──┤                                     │
//!       with it   │──────── alert: one byte ───────────▶│──▶ "the source refused this host's certificate …"
//!                 │                                     │
//!                 │──── Certificate, Finished ─────────▶│
//!   believes that │                                     ├──▶ finds fault with it
//!       all is well, and reads                          │
//!   "the receiver │◀──────── alert: one byte ───────────│
//!    refused …" ◀─┤
//! ```
//!
//! The end that finds the fault knows it exactly; the other one gets an alert of one byte, which means several things, and looks at
//! its own files for the likeliest.

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, Error, ExtendedKeyPurpose, PeerIncompatible};

use crate::Side;
use crate::moment::Moment;
use crate::name::{listed, printable};
use crate::pki::Pki;

/// Why no authenticated connection came about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason {
    /// Who has to do something.
    pub fault: Fault,
    /// What it is about.
    pub kind: Kind,
    text: String,
}

/// Who has to do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// This host: its files, its clock.
    ThisHost,
    /// The other end.
    Peer,
    /// What lies between.
    Network,
}

/// What a failure is about: programs that start sealift want to tell these apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One end does not believe the other's identity.
    Identity,
    /// The ends do not speak the same protocol.
    Protocol,
    /// The connection broke.
    Connection,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Reason {}

/// What a TLS failure at `pki`'s side means. `peer` is the address that was dialled or that called, for the text.
///
/// A source must call this for failures of its first reads as well: by TLS 1.3 a refusal of its certificate comes after the
/// handshake is over for it.
#[must_use]
pub fn explain(error: &Error, pki: &Pki, peer: &str) -> Reason {
    explain_at(error, pki, peer, Moment::now())
}

/// As [`explain`], for the errors of a socket with TLS over it.
#[must_use]
pub fn explain_io(error: &io::Error, pki: &Pki, peer: &str) -> Reason {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(inner) = inner {
        return explain(inner, pki, peer);
    }
    let them = pki.side().other();
    let peer = printable(peer);
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => format!(
            "the connection with {peer} was closed before both ends knew each other: the {them} gave up or turned it away (its \
             log says why), or a firewall cut it"
        ),
        _ => format!("the connection with {peer} broke before both ends knew each other: {error}"),
    };
    Reason {
        fault: Fault::Network,
        kind: Kind::Connection,
        text,
    }
}

pub(crate) fn explain_at(error: &Error, pki: &Pki, peer: &str, now: Moment) -> Reason {
    let ends = Ends {
        pki,
        them: pki.side().other(),
        peer: printable(peer),
        now,
    };
    let (fault, kind, text) = match error {
        Error::InvalidCertificate(error) => {
            let (fault, text) = ends.refused_theirs(error);
            (fault, Kind::Identity, text)
        }
        Error::NoCertificatesPresented => (Fault::Peer, Kind::Identity, ends.nothing_shown()),
        Error::InvalidCertRevocationList(error) => (
            Fault::ThisHost,
            Kind::Identity,
            format!(
                "this host's list of revoked certificates cannot be used ({error:?}): copy the CA's newest one"
            ),
        ),
        Error::AlertReceived(alert) => ends.alerted(*alert),
        Error::PeerIncompatible(incompatible) => {
            (Fault::Peer, Kind::Protocol, ends.incompatible(incompatible))
        }
        Error::NoApplicationProtocol => (Fault::Peer, Kind::Protocol, ends.not_sealift()),
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => (
            Fault::Peer,
            Kind::Protocol,
            format!(
                "what {} sends is not TLS as it should be: something else than sealift talks there",
                ends.peer
            ),
        ),
        Error::DecryptError | Error::PeerSentOversizedRecord => (
            Fault::Network,
            Kind::Connection,
            format!(
                "bytes from {} were changed on their way, or put in between: somebody or something interferes",
                ends.peer
            ),
        ),
        Error::PeerMisbehaved(what) => (
            Fault::Peer,
            Kind::Protocol,
            format!(
                "the {} at {} breaks the rules of TLS ({what:?})",
                ends.them, ends.peer
            ),
        ),
        error => (
            Fault::ThisHost,
            Kind::Connection,
            format!("TLS with {} failed on this host: {error}", ends.peer),
        ),
    };
    Reason { fault, kind, text }
}

struct Ends<'a> {
    pki: &'a Pki,
    them: Side,
    peer: String,
    now: Moment,
}

impl Ends<'_> {
    /// What this end found wrong with the peer's certificate.
    fn refused_theirs(&self, error: &CertificateError) -> (Fault, String) {
        let Self {
            them, peer, now, ..
        } = self;
        let the = format!("the certificate of the {them} at {peer}");
        let theirs = usual_file(*them);
        match error {
            CertificateError::Expired => (
                Fault::Peer,
                format!("{the} has expired; by this host's clock it is {now}: renew its {theirs}"),
            ),
            CertificateError::ExpiredContext { time, not_after } => {
                let (now, end) = (Moment::from_unix(*time), Moment::from_unix(*not_after));
                (
                    Fault::Peer,
                    format!(
                        "{the} expired on {end}; by this host's clock it is {now}: renew its {theirs}"
                    ),
                )
            }
            CertificateError::NotValidYet => (
                Fault::Peer,
                format!(
                    "{the} is not valid yet; by this host's clock it is {now}: check both clocks"
                ),
            ),
            CertificateError::NotValidYetContext { time, not_before } => {
                let (now, start) = (Moment::from_unix(*time), Moment::from_unix(*not_before));
                (
                    Fault::Peer,
                    format!(
                        "{the} is not valid before {start}; by this host's clock it is {now}: check both clocks"
                    ),
                )
            }
            CertificateError::Revoked => (
                Fault::Peer,
                format!("{the} has been revoked by its CA: it needs a new {theirs}"),
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                Fault::Peer,
                format!(
                    "{the} is not signed by a CA that this host knows ({}): both hosts need certificates of one CA",
                    self.pki.authority_file().display()
                ),
            ),
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => (
                Fault::Peer,
                format!(
                    "{the} is for {}, not for {}: call it by a name that it has, or have {theirs} issued with this one",
                    listed(presented),
                    expected.to_str()
                ),
            ),
            CertificateError::NotValidForName => (
                Fault::Peer,
                format!(
                    "{the} is not for this name: call it by a name that it has, or have {theirs} issued with this one"
                ),
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                let (usage, template) = match (error, them) {
                    (
                        CertificateError::InvalidPurposeContext {
                            required: ExtendedKeyPurpose::ServerAuth,
                            ..
                        },
                        _,
                    )
                    | (_, Side::Receiver) => ("serverAuth", "tls_www_server"),
                    _ => ("clientAuth", "tls_www_client"),
                };
                (
                    Fault::Peer,
                    format!(
                        "{the} may not be shown by a {them}: its extended key usages lack {usage} ({template} in certtool's \
                         templates); have {theirs} issued with it"
                    ),
                )
            }
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => (
                Fault::ThisHost,
                "this host's list of revoked certificates is out of date: copy the CA's newest one"
                    .to_owned(),
            ),
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
                Fault::Peer,
                format!(
                    "{the} is signed in a way that is too weak or too new (taken are RSA from 2048 bits, ECDSA on P-256 and P-384 \
                     and Ed25519, with SHA-256 or longer): have {theirs} issued anew"
                ),
            ),
            error => (
                Fault::Peer,
                format!("{the} is refused ({error}): have {theirs} issued anew"),
            ),
        }
    }

    fn nothing_shown(&self) -> String {
        let Self { them, peer, .. } = self;
        format!(
            "the {them} at {peer} showed no certificate: it needs a {}, signed by a CA that this host knows",
            usual_file(*them)
        )
    }

    fn not_sealift(&self) -> String {
        format!(
            "{} speaks TLS, but not this version of sealift's protocol: upgrade the older end, or something else talks there",
            self.peer
        )
    }

    fn incompatible(&self, incompatible: &PeerIncompatible) -> String {
        let Self { them, peer, .. } = self;
        match incompatible {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => format!(
                "the {them} at {peer} speaks only a TLS older than 1.3, which sealift does not: upgrade it"
            ),
            other => format!(
                "the {them} at {peer} has no way of speaking TLS in common with this host ({other:?}): upgrade it"
            ),
        }
    }

    /// What the peer's alert says about this end.
    fn alerted(&self, alert: AlertDescription) -> (Fault, Kind, String) {
        let Self {
            pki,
            them,
            peer,
            now,
        } = self;
        let refused = format!("the {them} at {peer} refused this host's certificate");
        let own = pki.certificate();
        let file = pki.certificate_file().display();
        match alert {
            AlertDescription::CertificateExpired if !own.is_valid_at(*now) => (
                Fault::ThisHost,
                Kind::Identity,
                format!(
                    "{refused} as expired or not yet valid: it is valid from {} to {}; renew {file}",
                    own.not_before, own.not_after
                ),
            ),
            AlertDescription::CertificateExpired => (
                Fault::Peer,
                Kind::Identity,
                format!(
                    "{refused} as expired or not yet valid, though it is valid from {} to {} and it is {now} by this host's clock: \
                     compare the clocks of both hosts",
                    own.not_before, own.not_after
                ),
            ),
            AlertDescription::CertificateRevoked => (
                Fault::ThisHost,
                Kind::Identity,
                format!("{refused} as revoked by its CA: have a new {file} issued"),
            ),
            AlertDescription::UnknownCA => (
                Fault::ThisHost,
                Kind::Identity,
                format!(
                    "{refused}: it knows no CA {}, which signed {file} (or its list of revoked certificates is out of date); both \
                     hosts need certificates of one CA",
                    own.issuer
                ),
            ),
            AlertDescription::BadCertificate if pki.side() == Side::Receiver => (
                Fault::ThisHost,
                Kind::Identity,
                format!(
                    "{refused}, most likely because it called this host by a name that {file} does not have: it is for {}; call it \
                     by one of these, or have it issued with the name",
                    listed(&own.names)
                ),
            ),
            AlertDescription::BadCertificate => (
                Fault::ThisHost,
                Kind::Identity,
                format!("{refused} as one that it cannot read: have {file} issued anew"),
            ),
            AlertDescription::UnsupportedCertificate => {
                let usage = match pki.side() {
                    Side::Source => "clientAuth (tls_www_client in certtool's templates)",
                    Side::Receiver => "serverAuth (tls_www_server in certtool's templates)",
                };
                (
                    Fault::ThisHost,
                    Kind::Identity,
                    format!(
                        "{refused} because of its usage: a {} needs {usage} among the extended key usages; have {file} issued with it",
                        pki.side()
                    ),
                )
            }
            AlertDescription::CertificateUnknown => (
                Fault::ThisHost,
                Kind::Identity,
                format!("{refused} without saying why; its log does"),
            ),
            AlertDescription::NoCertificate | AlertDescription::CertificateRequired => (
                Fault::ThisHost,
                Kind::Identity,
                format!(
                    "the {them} at {peer} got no certificate from this host, and takes nobody without"
                ),
            ),
            AlertDescription::AccessDenied => (
                Fault::Peer,
                Kind::Identity,
                format!(
                    "the {them} at {peer} believes that this host is {}, and does not let it in: its operator can (--allow NAME)",
                    listed(&own.names)
                ),
            ),
            AlertDescription::DecryptError => (
                Fault::ThisHost,
                Kind::Identity,
                format!(
                    "{refused} because of a signature that it cannot verify: {file} and the CA's certificate must be of one CA, and \
                     signed with SHA-256 or longer"
                ),
            ),
            AlertDescription::ProtocolVersion | AlertDescription::InappropriateFallback => (
                Fault::Peer,
                Kind::Protocol,
                format!(
                    "the {them} at {peer} speaks only a TLS older than 1.3, which sealift does not: upgrade it"
                ),
            ),
            AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::IllegalParameter
            | AlertDescription::MissingExtension
            | AlertDescription::UnsupportedExtension => (
                Fault::Peer,
                Kind::Protocol,
                format!(
                    "the {them} at {peer} has no way of speaking TLS in common with this host (alert {alert:?}): upgrade it"
                ),
            ),
            AlertDescription::NoApplicationProtocol => {
                (Fault::Peer, Kind::Protocol, self.not_sealift())
            }
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => (
                Fault::Peer,
                Kind::Connection,
                format!("the {them} at {peer} ended the connection"),
            ),
            AlertDescription::BadRecordMac
            | AlertDescription::DecryptionFailed
            | AlertDescription::RecordOverflow => (
                Fault::Network,
                Kind::Connection,
                format!(
                    "bytes to {peer} were changed on their way: somebody or something interferes"
                ),
            ),
            other => (
                Fault::Peer,
                Kind::Protocol,
                format!(
                    "the {them} at {peer} ended the handshake (alert {other:?}); its log says why"
                ),
            ),
        }
    }
}

/// What the file with `side`'s certificate is called in QEMU's layout.
const fn usual_file(side: Side) -> &'static str {
    match side {
        Side::Source => "client-cert.pem",
        Side::Receiver => "server-cert.pem",
    }
}
