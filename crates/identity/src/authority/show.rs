//! What certificates say, for people who set hosts up or look for what is wrong with them.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::AuthorityError;
use crate::certificate::{Certificate, hex, parse};
use crate::error::Problem;
use crate::layout::{self, Names, QEMU};
use crate::moment::Moment;
use crate::pem;
use crate::revocation::{List, signed};

/// A certificate, and how it stands to the other files of its directory.
#[derive(Debug, Serialize)]
pub struct Described {
    /// Its file. In JSON, which has no other bytes, a name that is not UTF-8 has replacement characters.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// Whom it is for.
    pub subject: String,
    /// DNS names and addresses; without any, the common name.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// It is a CA's.
    pub authority: bool,
    /// A receiver may show it.
    pub for_receivers: bool,
    /// A source may show it.
    pub for_sources: bool,
    /// Its first moment, in seconds since 1970.
    pub not_before: i64,
    /// Its last moment, in seconds since 1970.
    pub not_after: i64,
    /// Whole days left; negative when it has expired.
    pub days_left: i64,
    /// Whether it has begun and not ended.
    pub in_date: bool,
    /// How the key beside it stands to it.
    pub key: KeyState,
    /// How the CA beside it stands to it.
    pub trust: Trust,
    /// Whether the list of revoked certificates beside it has it; `None` without a list of its CA.
    pub revoked: Option<bool>,
}

fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A key beside a certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum KeyState {
    /// It belongs to it.
    Matches,
    /// It belongs to another one.
    Differs,
    /// There is none.
    Missing,
    /// It cannot be used.
    Unusable {
        /// Why.
        why: String,
    },
}

/// Whether the CA beside a certificate signed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// It did.
    Signed,
    /// It did not.
    NotSigned,
    /// There is no CA beside it.
    NoAuthority,
}

/// Describes a certificate file, or all certificates of a directory in QEMU's or libvirt's layout.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn show(path: &Path, now: Moment) -> Result<Vec<Described>, AuthorityError> {
    if !path.is_dir() {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        return Ok(Surroundings::of(directory)?.describe(path, key_beside(path), now)?);
    }
    let surroundings = Surroundings::of(path)?;
    let names = surroundings.names;
    let mut described = Vec::new();
    for (certificate, key) in [(names.authority, super::KEY), names.server, names.client] {
        match surroundings.describe(&path.join(certificate), Some(path.join(key)), now) {
            Err(error) if matches!(error.problem(), Problem::Missing) => {}
            found => described.extend(found?),
        }
    }
    if described.is_empty() {
        let directory = path.to_owned();
        return Err(AuthorityError::NothingToShow { directory });
    }
    Ok(described)
}

/// What lies beside a certificate.
struct Surroundings {
    names: &'static Names,
    authorities: Vec<Certificate>,
    lists: Vec<List>,
}

impl Surroundings {
    fn of(directory: &Path) -> Result<Self, AuthorityError> {
        let names = match layout::names_in(directory) {
            Ok(names) => names,
            Err(error) if matches!(error.problem(), Problem::NoAuthority) => &QEMU,
            Err(error) => return Err(error.into()),
        };
        let authorities = match pem::certificates(&directory.join(names.authority)) {
            Ok(authorities) => authorities,
            Err(error) if matches!(error.problem(), Problem::Missing) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let lists = pem::revocation_lists(&directory.join(names.revoked))?
            .iter()
            .filter(|list| authorities.iter().any(|authority| signed(list, authority)))
            .filter_map(|list| List::from_der(list).ok())
            .collect();
        Ok(Self {
            names,
            authorities,
            lists,
        })
    }

    /// The certificates in `file`; the key is the first one's.
    fn describe(
        &self,
        file: &Path,
        key: Option<PathBuf>,
        now: Moment,
    ) -> Result<Vec<Described>, crate::PkiError> {
        let certificates = pem::certificates(file)?;
        let mut key = key;
        Ok(certificates
            .iter()
            .map(|certificate| self.describe_one(file, certificate, key.take().as_deref(), now))
            .collect())
    }

    fn describe_one(
        &self,
        file: &Path,
        certificate: &Certificate,
        key: Option<&Path>,
        now: Moment,
    ) -> Described {
        let signers = |authority: &Certificate| certificate.is_signed_by(authority);
        Described {
            file: file.to_owned(),
            subject: certificate.subject.clone(),
            names: certificate.names.iter().map(ToString::to_string).collect(),
            issuer: certificate.issuer.clone(),
            serial: hex(&certificate.serial),
            fingerprint: certificate.fingerprint(),
            authority: certificate.authority,
            for_receivers: certificate.for_servers && !certificate.authority,
            for_sources: certificate.for_clients && !certificate.authority,
            not_before: certificate.not_before.seconds(),
            not_after: certificate.not_after.seconds(),
            days_left: certificate.not_after.days_since(now),
            in_date: certificate.is_valid_at(now),
            key: key.map_or(KeyState::Missing, |key| key_state(certificate, key)),
            trust: if self.authorities.is_empty() {
                Trust::NoAuthority
            } else if self.authorities.iter().any(signers) {
                Trust::Signed
            } else {
                Trust::NotSigned
            },
            revoked: (!self.lists.is_empty())
                .then(|| self.lists.iter().any(|list| list.has(certificate))),
        }
    }
}

/// `server-key.pem` for `server-cert.pem`, and libvirt's `serverkey.pem` for `servercert.pem`.
fn key_beside(certificate: &Path) -> Option<PathBuf> {
    let name = certificate.file_name()?.to_str()?;
    let start = name.strip_suffix("cert.pem")?;
    Some(certificate.with_file_name(format!("{start}key.pem")))
}

fn key_state(certificate: &Certificate, file: &Path) -> KeyState {
    let key = match pem::key(file) {
        Ok(key) => key,
        Err(error) if matches!(error.problem(), Problem::Missing) => return KeyState::Missing,
        Err(error) => {
            let why = error.to_string();
            return KeyState::Unusable { why };
        }
    };
    let public = rustls::crypto::ring::sign::any_supported_type(&key)
        .ok()
        .and_then(|key| key.public_key().map(|public| public.to_vec()));
    match public {
        Some(public) if is_key_of(certificate, &public) => KeyState::Matches,
        Some(_) => KeyState::Differs,
        None => KeyState::Unusable {
            why: crate::PkiError::new(file, Problem::UnknownKey).to_string(),
        },
    }
}

/// Whether `public`, a `SubjectPublicKeyInfo`, is what `certificate` vouches for.
pub(super) fn is_key_of(certificate: &Certificate, public: &[u8]) -> bool {
    parse(&certificate.der).is_ok_and(|certificate| certificate.public_key().raw == public)
}
