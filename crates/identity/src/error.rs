//! What can be wrong with the certificate files of this host.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::moment::Moment;

/// A file of this host's identity that cannot be used. The fault is this host's: whoever set the files up can mend it.
#[derive(Debug)]
pub struct PkiError {
    file: PathBuf,
    problem: Problem,
}

/// What is wrong with the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The directory does not exist.
    NoDirectory,
    /// The directory has no CA certificate under any name that is known.
    NoAuthority,
    /// The file does not exist.
    Missing,
    /// The system does not let us read it.
    Unreadable(io::Error),
    /// It is a directory or a device.
    NotAFile,
    /// It is larger than any file of its kind.
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// Something in it is not PEM as it should be.
    NotPem,
    /// It holds no PEM section of the kind that is needed.
    Nothing {
        /// The kind, such as `certificate`.
        wanted: &'static str,
    },
    /// The key is encrypted.
    Encrypted,
    /// Everybody on this host can read or write the key.
    Exposed {
        /// The file's permissions.
        mode: u32,
    },
    /// A certificate in it is not X.509.
    NotACertificate,
    /// The key is of a kind that sealift does not use.
    UnknownKey,
    /// The key is another certificate's.
    KeyOfAnother {
        /// The certificate that it should belong to.
        certificate: PathBuf,
    },
    /// The certificate's key is of a kind that nothing can be sealed for.
    NotForSealing,
    /// The certificate has expired.
    Expired {
        /// When.
        at: Moment,
    },
    /// The certificate is not valid yet.
    NotYetValid {
        /// From when it is.
        from: Moment,
        /// What this host's clock says.
        now: Moment,
    },
    /// The certificate may not be used for this.
    WrongUsage {
        /// The extended usage that is needed, as X.509 calls it.
        needed: &'static str,
        /// The same as certtool's templates call it.
        template: &'static str,
    },
    /// None of the CAs has signed the certificate.
    UnknownIssuer {
        /// Whom the certificate names as its issuer.
        issuer: String,
        /// The file with the CAs.
        authority: PathBuf,
    },
    /// The CA has revoked the certificate.
    Revoked {
        /// The list that says so.
        by: PathBuf,
    },
    /// The certificate has something else against it.
    Refused {
        /// What the verifier says.
        why: String,
    },
    /// The list of revoked certificates is not signed by a CA that may.
    ForeignList {
        /// The file with the CAs.
        authority: PathBuf,
    },
    /// The CA that signed the list of revoked certificates is not allowed to sign such lists.
    NotAListSigner,
    /// The list of revoked certificates has become too old.
    StaleList {
        /// The next one was due then.
        due: Moment,
    },
    /// TLS could not be set up with what the files hold.
    Tls {
        /// What the TLS library says.
        why: String,
    },
}

impl PkiError {
    pub(crate) fn new(file: &Path, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            problem,
        }
    }

    /// Which file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.problem {
            Problem::NoDirectory => write!(
                f,
                "there is no directory {file}: name the one that holds this host's certificates, or make one with sealift pki"
            ),
            Problem::NoAuthority => write!(
                f,
                "{file} is missing, and there is no cacert.pem or CA/cacert.pem in its place: name a directory in QEMU's or \
                 libvirt's layout, or make one with sealift pki"
            ),
            Problem::Missing => write!(
                f,
                "{file} is missing: sealift pki issue makes it, or put there what the CA gave to this host"
            ),
            Problem::Unreadable(_) => write!(
                f,
                "{file} cannot be read: the user that runs sealift needs to be able to"
            ),
            Problem::NotAFile => write!(f, "{file} is not a file"),
            Problem::TooLarge { limit } => write!(
                f,
                "{file} is larger than {limit} bytes: this is no file of its kind"
            ),
            Problem::NotPem => write!(
                f,
                "{file} is damaged: a section between -----BEGIN and -----END is cut off or not base64; copy the file anew"
            ),
            Problem::Nothing { wanted } => write!(
                f,
                "{file} holds no {wanted} in PEM form (-----BEGIN …): convert it, or put the right file there"
            ),
            Problem::Encrypted => write!(
                f,
                "{file} is encrypted, and nobody is there to type its password: decrypt it once (openssl pkey -in OLD -out NEW)"
            ),
            Problem::Exposed { mode } => write!(
                f,
                "{file} is open to every user of this host (mode {:04o}), so it proves nothing: chmod o= {file}, and have it issued \
                 anew if anybody untrusted has been here",
                mode & 0o7777
            ),
            Problem::NotACertificate => write!(
                f,
                "{file} holds something that is not an X.509 certificate: copy the file anew"
            ),
            Problem::UnknownKey => write!(
                f,
                "{file} holds a key of a kind that sealift does not use: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519"
            ),
            Problem::KeyOfAnother { certificate } => write!(
                f,
                "{file} is not the key of {}: put the two that belong together there",
                certificate.display()
            ),
            Problem::NotForSealing => write!(
                f,
                "{file} has a key of another kind than P-256, and nothing can be sealed for that: have the host's certificate issued \
                 with a P-256 key, as sealift pki issue does"
            ),
            Problem::Expired { at } => {
                write!(f, "{file} expired on {at}: have it issued anew")
            }
            Problem::NotYetValid { from, now } => write!(
                f,
                "{file} is not valid before {from}, and this host's clock says {now}: set the clock, or wait"
            ),
            Problem::WrongUsage { needed, template } => write!(
                f,
                "{file} may not be used here: its extended key usages lack {needed} ({template} in certtool's templates); have it \
                 issued with it"
            ),
            Problem::UnknownIssuer { issuer, authority } => write!(
                f,
                "{file} is not signed by a CA in {}, but by {issuer}: both hosts need certificates of one CA",
                authority.display()
            ),
            Problem::Revoked { by } => write!(
                f,
                "{file} has been revoked, as {} says: have a new one issued",
                by.display()
            ),
            Problem::Refused { why } => {
                write!(
                    f,
                    "{file} would be refused by every peer ({why}): have it issued anew"
                )
            }
            Problem::ForeignList { authority } => write!(
                f,
                "{file} is not signed by a CA in {}: copy the CA's own list, or remove the file to do without",
                authority.display()
            ),
            Problem::NotAListSigner => write!(
                f,
                "{file} is signed by a CA whose certificate does not allow it to (its key usages lack cRLSign): renew the CA's \
                 certificate with it, or remove the file to do without"
            ),
            Problem::StaleList { due } => write!(
                f,
                "{file} is out of date: the next list was due on {due}; copy the CA's newest list"
            ),
            Problem::Tls { why } => write!(f, "{file} cannot be used for TLS: {why}"),
        }
    }
}

impl std::error::Error for PkiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}
