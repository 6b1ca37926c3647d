//! The certificates of both hosts, in QEMU's layout: QEMU's own TLS and sealift read the same folder.
//!
//! ```text
//!   ca-cert.pem
//!   server-cert.pem, server-key.pem     the destination: its name and both its addresses
//!   client-cert.pem, client-key.pem     the source
//! ```

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sealift_lab::{Context as _, Error};
use tempfile::TempDir;

/// A folder with everything that either end needs; P-256 throughout. It is gone when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// For a source and a destination at these addresses.
    pub fn new(source: &[IpAddr], destination: &[IpAddr]) -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("sealift-pki-")
            .tempdir()
            .context("cannot make a directory for certificates")?;
        let folder = directory.path();
        let key = key()?;
        let params = authority();
        let certificate = params.self_signed(&key).context("signing the CA")?;
        write(folder, "ca-cert.pem", &certificate.pem())?;
        let issuer = Issuer::new(params, key);
        for (role, name, addresses, purpose) in [
            (
                "server",
                "host-b",
                destination,
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            (
                "client",
                "host-a",
                source,
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
        ] {
            let key = self::key()?;
            let certificate = host(name, addresses, purpose)?
                .signed_by(&key, &issuer)
                .context(format!("signing {name}"))?;
            write(folder, &format!("{role}-cert.pem"), &certificate.pem())?;
            write(folder, &format!("{role}-key.pem"), &key.serialize_pem())?;
        }
        Ok(Self { directory })
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn key() -> Result<KeyPair, Error> {
    KeyPair::generate().context("making a key")
}

fn write(directory: &Path, name: &str, pem: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        // A key that others may read is refused by careful programs.
        .mode(0o600)
        .open(directory.join(name))
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .context(format!("cannot write {name}"))
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "sealift bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params);
    params
}

fn host(
    name: &str,
    addresses: &[IpAddr],
    purpose: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, Error> {
    let mut names = vec![name.to_owned()];
    names.extend(addresses.iter().map(IpAddr::to_string));
    let mut params = CertificateParams::new(names).context(format!("the names of {name}"))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    // QEMU 10.0 refuses a certificate that is not also for encipherment of keys, whatever its key can do.
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    valid(&mut params);
    Ok(params)
}

fn valid(params: &mut CertificateParams) {
    // They live as long as a bench: the years need only be far apart.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2070, 1, 1);
}
