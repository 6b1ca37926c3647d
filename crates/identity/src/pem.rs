//! Reading PEM files: certificates, keys, lists of revoked certificates.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::error::{PkiError, Problem};

/// The longest file that is read. A list of revoked certificates has some 40 bytes (54 as base64) for each: this is room for
/// 70,000 of them, and for 2,000 CAs.
const FILE_MAX: u64 = 4 << 20;

/// The certificates in `file`, at least one, in order.
pub(crate) fn certificates(file: &Path) -> Result<Vec<Certificate>, PkiError> {
    let (bytes, _) = read(file)?;
    certificates_in(file, &bytes)
}

pub(crate) fn certificates_in(file: &Path, bytes: &[u8]) -> Result<Vec<Certificate>, PkiError> {
    sections::<CertificateDer<'static>>(file, bytes, "certificate")?
        .iter()
        .map(|der| {
            Certificate::from_der(der).map_err(|_| PkiError::new(file, Problem::NotACertificate))
        })
        .collect()
}

/// The lists of revoked certificates in `file`; none when there is no such file.
pub(crate) fn revocation_lists(
    file: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, PkiError> {
    match read(file) {
        Ok((bytes, _)) => sections(file, &bytes, "list of revoked certificates (X509 CRL)"),
        Err(error) if matches!(error.problem(), Problem::Missing) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The private key in `file`, unless everybody can have it.
///
/// A group may read it: libvirt's and QEMU's groups do.
pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let (bytes, mode) = read(file)?;
    if mode & 0o007 != 0 {
        return Err(PkiError::new(file, Problem::Exposed { mode }));
    }
    let found = PrivateKeyDer::from_pem_slice(&bytes);
    found.map_err(|error| {
        let problem = match error {
            rustls_pki_types::pem::Error::NoItemsFound if is_encrypted(&bytes) => {
                Problem::Encrypted
            }
            rustls_pki_types::pem::Error::NoItemsFound => Problem::Nothing {
                wanted: "private key",
            },
            // PKCS#1 and SEC1 keys are encrypted inside an ordinary section, whose headers are not base64.
            _ if is_encrypted(&bytes) => Problem::Encrypted,
            _ => Problem::NotPem,
        };
        PkiError::new(file, problem)
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    [
        &b"BEGIN ENCRYPTED PRIVATE KEY"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| pem.windows(mark.len()).any(|window| window == *mark))
}

fn sections<T: PemObject>(
    file: &Path,
    bytes: &[u8],
    wanted: &'static str,
) -> Result<Vec<T>, PkiError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    let found = found.map_err(|_| PkiError::new(file, Problem::NotPem))?;
    if found.is_empty() {
        return Err(PkiError::new(file, Problem::Nothing { wanted }));
    }
    Ok(found)
}

/// The file's bytes and its permissions, both of the same open file. The bytes are wiped when dropped: they may be a key.
pub(crate) fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), PkiError> {
    let unreadable = |error: io::Error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => Problem::Missing,
            _ => Problem::Unreadable(error),
        };
        PkiError::new(path, problem)
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PkiError::new(path, Problem::NotAFile));
    }
    let too_large = || PkiError::new(path, Problem::TooLarge { limit: FILE_MAX });
    let length = usize::try_from(metadata.len().min(FILE_MAX)).map_err(|_| too_large())?;
    // Room for all of it at once: a vector that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(too_large());
    }
    Ok((bytes, metadata.permissions().mode()))
}
