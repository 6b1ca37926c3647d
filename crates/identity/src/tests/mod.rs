//! Certificates made for the purpose, and two ends of TLS with nothing between them but bytes.

mod allow_list;
mod authority;
mod existing;
mod files;
mod handshake;
mod old_tls;
mod wire;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use crate::{Pki, Side};

pub(super) const SOURCE: &str = "beta.example.org";
pub(super) const RECEIVER: &str = "alpha.example.org";

/// A CA that signs what no sane one would.
pub(super) struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    pub(super) name: &'static str,
}

impl Ca {
    pub(super) fn new(name: &'static str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &'static str, change: impl Fn(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
            name,
        }
    }

    /// A directory with a host's files for both sides.
    pub(super) fn host(&self, name: &str) -> TempDir {
        self.odd_host(name, |_| {})
    }

    /// As [`Ca::host`], with certificates that `change` has spoilt.
    pub(super) fn odd_host(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        self.trust_in(&directory);
        for (side, usage) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            params.serial_number = Some(SerialNumber::from(7));
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let made = params.signed_by(&key, &self.issuer).unwrap();
            write(&directory, &format!("{side}-cert.pem"), made.pem(), 0o644);
            write(
                &directory,
                &format!("{side}-key.pem"),
                key.serialize_pem(),
                0o600,
            );
        }
        directory
    }

    /// Makes this the CA that the directory believes.
    pub(super) fn trust_in(&self, directory: &TempDir) {
        write(directory, "ca-cert.pem", &self.pem, 0o644);
    }

    /// Puts a list there by which every certificate of this CA is revoked: all have one number.
    pub(super) fn revoke_all_in(&self, directory: &TempDir, next_year: i32) {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(next_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(7),
                revocation_time: date_time_ymd(2001, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        write(directory, "ca-crl.pem", &pem, 0o644);
    }
}

pub(super) fn write(directory: impl AsRef<Path>, name: &str, text: impl AsRef<[u8]>, mode: u32) {
    let path = directory.as_ref().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An end that does not look at its own files first: one whose certificate ran out while it ran, or an intruder.
pub(super) fn careless(directory: &TempDir, side: Side) -> Pki {
    Pki::read(directory.path(), side).unwrap()
}

pub(super) fn source(directory: &TempDir) -> Pki {
    Pki::for_source(directory.path()).unwrap()
}

pub(super) fn receiver(directory: &TempDir) -> Pki {
    Pki::for_receiver(directory.path()).unwrap()
}
