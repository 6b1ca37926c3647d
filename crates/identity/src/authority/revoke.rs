//! Taking certificates back.
//!
//! A new list holds every entry of the one before. It is valid as long as the CA: it reaches the hosts by being copied, and a list
//! that ran out would stop every migration on a day when nobody had revoked anything.

use std::path::{Path, PathBuf};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::{Authority, AuthorityError, date, first, write_over};
use crate::durable::PUBLIC;
use crate::error::{PkiError, Problem};
use crate::layout::QEMU;
use crate::moment::Moment;
use crate::pem;
use crate::revocation::{List, Revoked, signed};

/// What a revocation did.
#[derive(Debug)]
pub struct Revocation {
    /// The list, to be copied to every host.
    pub list: PathBuf,
    /// How many certificates it has.
    pub total: usize,
    /// How many of them are new.
    pub new: usize,
}

/// Revokes the certificates in `files`, each the first of its file.
///
/// # Errors
/// When one of them is not of this CA, or the list that is there is not; then nothing is written.
pub fn revoke(
    directory: &Path,
    files: &[PathBuf],
    now: Moment,
) -> Result<Revocation, AuthorityError> {
    let authority = Authority::open(directory)?;
    authority.check_valid(now)?;
    let list_file = directory.join(QEMU.revoked);
    let (mut entries, number) = accumulated(&authority, &list_file)?;
    let before = entries.len();
    for file in files {
        let certificate = first(pem::certificates(file)?, file)?;
        if certificate.der == authority.certificate.der {
            return Err(AuthorityError::Own { file: file.clone() });
        }
        if !certificate.is_signed_by(&authority.certificate) {
            return Err(AuthorityError::NotOurs {
                file: file.clone(),
                issuer: certificate.issuer,
            });
        }
        let serial = certificate.serial;
        if !entries.iter().any(|entry| entry.serial == serial) {
            entries.push(Revoked { serial, at: now });
        }
    }
    let total = entries.len();
    write_list(&authority, &list_file, &entries, number, now)?;
    Ok(Revocation {
        list: list_file,
        total,
        new: total - before,
    })
}

/// What earlier lists hold, and the number of the next one.
fn accumulated(authority: &Authority, file: &Path) -> Result<(Vec<Revoked>, u64), AuthorityError> {
    let of = |problem| PkiError::new(file, problem);
    let mut entries = Vec::new();
    let mut number = 0;
    for der in pem::revocation_lists(file)? {
        // An entry of a list that somebody else put there would get this CA's signature.
        if !signed(&der, &authority.certificate) {
            let authority = authority.directory.join(QEMU.authority);
            return Err(of(Problem::ForeignList { authority }).into());
        }
        let list = List::from_der(&der).map_err(|_| of(Problem::NotPem))?;
        number = number.max(list.number.unwrap_or(0));
        for entry in list.entries {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
    }
    Ok((entries, number.saturating_add(1)))
}

fn write_list(
    authority: &Authority,
    file: &Path,
    entries: &[Revoked],
    number: u64,
    now: Moment,
) -> Result<(), AuthorityError> {
    let mut revoked_certs = Vec::with_capacity(entries.len());
    for entry in entries {
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: date(entry.at)?,
            reason_code: None,
            invalidity_date: None,
        });
    }
    let params = CertificateRevocationListParams {
        this_update: date(now)?,
        next_update: date(authority.certificate.not_after)?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params
        .signed_by(&authority.issuer)
        .and_then(|list| list.pem())
        .map_err(|error| match error {
            rcgen::Error::IssuerNotCrlSigner => PkiError::new(file, Problem::NotAListSigner).into(),
            error => AuthorityError::Make(error),
        })?;
    write_over(file, list.as_bytes(), PUBLIC)
}
