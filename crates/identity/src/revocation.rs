//! What the CA has revoked: lists that are checked before they are believed.

use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::certificate::{Certificate, Malformed, parse};
use crate::error::{PkiError, Problem};
use crate::layout::Files;
use crate::moment::Moment;

/// One entry of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Revoked {
    pub(crate) serial: Vec<u8>,
    pub(crate) at: Moment,
}

/// What a list says.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// Issuer's name, as it stands in the list.
    issuer: Vec<u8>,
    pub(crate) next_update: Option<Moment>,
    /// Counts an issuer's lists. `None` when the list has no number or one too large for any CA that counts.
    pub(crate) number: Option<u64>,
    pub(crate) entries: Vec<Revoked>,
}

impl List {
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let parsed = parse_list(der)?;
        Ok(Self {
            issuer: parsed.issuer().as_raw().to_vec(),
            next_update: parsed
                .next_update()
                .map(|time| Moment::from_seconds(time.timestamp())),
            number: parsed.crl_number().and_then(|number| {
                let bytes = number.to_bytes_be();
                let mut wide = [0; 8];
                wide.get_mut(8_usize.checked_sub(bytes.len())?..)?
                    .copy_from_slice(&bytes);
                Some(u64::from_be_bytes(wide))
            }),
            entries: parsed
                .iter_revoked_certificates()
                .map(|entry| Revoked {
                    serial: entry.raw_serial().to_vec(),
                    at: Moment::from_seconds(entry.revocation_date.timestamp()),
                })
                .collect(),
        })
    }

    /// Whether this list names `certificate`.
    pub(crate) fn has(&self, certificate: &Certificate) -> bool {
        let same_issuer = parse(&certificate.der)
            .is_ok_and(|certificate| certificate.issuer().as_raw() == self.issuer);
        let serial = significant(&certificate.serial);
        same_issuer
            && self
                .entries
                .iter()
                .any(|entry| significant(&entry.serial) == serial)
    }
}

/// An integer's bytes without the zeros in front, which writers of DER put there as they like.
fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

fn parse_list(der: &[u8]) -> Result<CertificateRevocationList<'_>, Malformed> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(Malformed),
    }
}

/// Checks that each list is signed by one of `authorities` which may, and has not become too old.
///
/// The verifier would pass over a list of another CA's in silence, and certificates that the reader of the directory thinks are
/// revoked would be let in.
pub(crate) fn check(
    files: &Files,
    lists: &[CertificateRevocationListDer<'static>],
    authorities: &[Certificate],
    now: Moment,
) -> Result<Vec<List>, PkiError> {
    let of = |problem| PkiError::new(&files.revoked, problem);
    lists
        .iter()
        .map(|der| {
            let list = List::from_der(der).map_err(|_| of(Problem::NotPem))?;
            let signers: Vec<_> = authorities
                .iter()
                .filter(|authority| signed(der, authority))
                .collect();
            if signers.is_empty() {
                return Err(of(Problem::ForeignList {
                    authority: files.authority.clone(),
                }));
            }
            if !signers.iter().any(|signer| may_sign_lists(signer)) {
                return Err(of(Problem::NotAListSigner));
            }
            match list.next_update {
                Some(due) if due < now => Err(of(Problem::StaleList { due })),
                _ => Ok(list),
            }
        })
        .collect()
}

/// Whether `authority` made this list's signature.
pub(crate) fn signed(list: &[u8], authority: &Certificate) -> bool {
    let (Ok(list), Ok(authority)) = (parse_list(list), parse(&authority.der)) else {
        return false;
    };
    list.issuer().as_raw() == authority.subject().as_raw()
        && list.verify_signature(authority.public_key()).is_ok()
}

fn may_sign_lists(authority: &Certificate) -> bool {
    parse(&authority.der).is_ok_and(|authority| {
        authority
            .key_usage()
            .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    })
}
