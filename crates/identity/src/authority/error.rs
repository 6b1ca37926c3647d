//! What can go wrong when certificates are made. The fault is the user's or this host's.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::error::PkiError;
use crate::name::printable;

/// Why nothing was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file of the CA, or one to show, cannot be used.
    File(PkiError),
    /// There is such a file, and nobody said that it may be replaced.
    Exists {
        /// Which.
        file: PathBuf,
    },
    /// The system did not write it.
    Write {
        /// Which file or directory.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A host's files would go into the CA's own directory.
    IntoAuthority {
        /// Which.
        directory: PathBuf,
    },
    /// Neither a DNS name nor an address.
    BadName {
        /// What was given.
        name: String,
    },
    /// Cannot be a common name.
    BadCommonName {
        /// What was given.
        name: String,
    },
    /// Not a length of time that a certificate can have.
    BadDays {
        /// What was given.
        days: u32,
    },
    /// This host's clock says something that no certificate can.
    Clock,
    /// The certificate to revoke is not this CA's.
    NotOurs {
        /// Its file.
        file: PathBuf,
        /// Whom it names as its issuer.
        issuer: String,
    },
    /// The certificate to revoke is the CA's own.
    Own {
        /// Its file.
        file: PathBuf,
    },
    /// There is nothing to show.
    NothingToShow {
        /// The directory.
        directory: PathBuf,
    },
    /// Making or signing failed.
    Make(rcgen::Error),
}

impl AuthorityError {
    pub(super) fn write(file: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let file = file.to_owned();
        |source| Self::Write { file, source }
    }
}

impl From<PkiError> for AuthorityError {
    fn from(error: PkiError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Exists { file } => write!(
                f,
                "{} exists and was left as it is: name another directory, or say that it may be replaced where that is possible",
                file.display()
            ),
            Self::Write { file, .. } => write!(f, "{} cannot be written", file.display()),
            Self::IntoAuthority { directory } => write!(
                f,
                "{} is the CA's own directory: its key must not travel to a host; name another one",
                directory.display()
            ),
            Self::BadName { name } => write!(
                f,
                "\"{}\" is neither a DNS name nor an IP address, and nobody could call a host by it",
                printable(name)
            ),
            Self::BadCommonName { name } => write!(
                f,
                "\"{}\" cannot be a common name: 1 to 64 characters, none of them a control character",
                printable(name)
            ),
            Self::BadDays { days } => write!(
                f,
                "{days} days is no validity: at least 1, and the end before the year 10000"
            ),
            Self::Clock => f.write_str("this host's clock is beyond the year 9999: set it"),
            Self::NotOurs { file, issuer } => write!(
                f,
                "{} is not signed by this CA, but by {issuer}: only that one can revoke it",
                file.display()
            ),
            Self::Own { file } => write!(
                f,
                "{} is the CA's own certificate, which no list can revoke: remove it from the hosts instead",
                file.display()
            ),
            Self::NothingToShow { directory } => write!(
                f,
                "{} holds no certificate under a name that QEMU or libvirt gives it: name the file",
                directory.display()
            ),
            Self::Make(error) => write!(f, "the certificate cannot be made: {error}"),
        }
    }
}

impl std::error::Error for AuthorityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is this one's: what lies behind it is next.
            Self::File(error) => error.source(),
            Self::Write { source, .. } => Some(source),
            _ => None,
        }
    }
}
