//! A small CA for a handful of hosts: `sealift pki`.
//!
//! ```text
//!  DIR/ca-cert.pem      the CA's certificate: P-256, may sign certificates and lists of revoked ones
//!      ca-key.pem       its key, 0600: keep it off the hosts
//!      ca-crl.pem       what is revoked; each list holds all of the one before
//!      issued/          a copy of each certificate, to revoke it by when its host is gone
//!      NAME/            what host NAME needs, to be copied there as it is:
//!         ca-cert.pem   server-cert.pem  server-key.pem   client-cert.pem  client-key.pem   (ca-crl.pem)
//! ```
//!
//! The lists are the CA's only memory: there is no other record that could disagree with them. The certificates are what QEMU's and
//! libvirt's documentation describe, and serve those as well.

mod error;
mod revoke;
mod show;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, hex};
use crate::durable::{self, PRIVATE, PUBLIC};
use crate::error::{PkiError, Problem};
use crate::layout::QEMU;
use crate::moment::Moment;
use crate::name::parse_address;
use crate::pem;

pub use error::AuthorityError;
pub use revoke::{Revocation, revoke};
pub use show::{Described, KeyState, Trust, show};

/// The CA's key, in the CA's directory.
const KEY: &str = "ca-key.pem";
/// Copies of what was issued.
const ISSUED: &str = "issued";
/// A new certificate is valid from an hour ago: clocks of hosts are not that far apart.
const CLOCKS_APART_SECONDS: i64 = 60 * 60;
/// RFC 5280's bound for a common name, in characters.
const COMMON_NAME_MAX: usize = 64;

/// Makes a CA in `directory`, which is made too. Returns the CA's certificate.
///
/// # Errors
/// When there is a CA already, which is never replaced, or the files cannot be written.
pub fn init(
    directory: &Path,
    common_name: &str,
    days: u32,
    now: Moment,
) -> Result<Certificate, AuthorityError> {
    let (certificate_file, key_file) = (directory.join(QEMU.authority), directory.join(KEY));
    for file in [&certificate_file, &key_file] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(AuthorityError::Exists { file: file.clone() });
        }
    }
    let mut params = validity(days, now)?;
    params.distinguished_name = subject(common_name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = new_key()?;
    let made = params.self_signed(&key).map_err(AuthorityError::Make)?;
    durable::create_private_directory(directory).map_err(AuthorityError::write(directory))?;
    // The key first: a certificate without its key would look like a CA.
    write_new(&key_file, serialized(&key).as_bytes(), PRIVATE)?;
    write_new(&certificate_file, made.pem().as_bytes(), PUBLIC)?;
    read_made(made.der())
}

/// What a host got.
#[derive(Debug)]
pub struct Issued {
    /// The directory to copy to the host.
    pub directory: PathBuf,
    /// The receiver's certificate.
    pub server: Certificate,
    /// The source's certificate.
    pub client: Certificate,
    /// Whether files of an earlier issue were replaced.
    pub replaced: bool,
}

/// What a host is to get.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The host's name, by which others call it and let it in: a DNS name or an address.
    pub name: &'a str,
    /// Further DNS names and addresses.
    pub alternatives: &'a [String],
    /// How long it is valid; never longer than the CA.
    pub days: u32,
    /// Where the files go; `None` for a directory of the host's name in the CA's.
    pub out: Option<&'a Path>,
    /// Whether an earlier issue's files may be replaced.
    pub replace: bool,
}

/// Issues a host's certificates, one for each role, each with its own key.
///
/// # Errors
/// When the CA cannot be used, a name cannot stand in a certificate, or files exist that may not be replaced.
pub fn issue(
    directory: &Path,
    request: &Request<'_>,
    now: Moment,
) -> Result<Issued, AuthorityError> {
    let authority = Authority::open(directory)?;
    authority.check_valid(now)?;
    let names = alternative_names(request)?;
    let out = match request.out {
        Some(out) => out.to_owned(),
        None => directory.join(directory_name(request.name)?),
    };
    if same_directory(&out, directory) {
        return Err(AuthorityError::IntoAuthority { directory: out });
    }
    let replaced = check_replaceable(directory, &out, request.replace)?;

    let server = authority.make(request, &names, ExtendedKeyUsagePurpose::ServerAuth, now)?;
    let client = authority.make(request, &names, ExtendedKeyUsagePurpose::ClientAuth, now)?;
    durable::create_private_directory(&out).map_err(AuthorityError::write(&out))?;
    // A copy first: what is out can be revoked.
    authority.keep_copy(&server)?;
    authority.keep_copy(&client)?;
    for (made, (certificate, key)) in [(&server, QEMU.server), (&client, QEMU.client)] {
        write_over(&out.join(key), made.key_pem.as_bytes(), PRIVATE)?;
        write_over(&out.join(certificate), made.pem.as_bytes(), PUBLIC)?;
    }
    copy_public(directory, &out, QEMU.authority)?;
    if directory.join(QEMU.revoked).exists() {
        copy_public(directory, &out, QEMU.revoked)?;
    }
    Ok(Issued {
        directory: out,
        server: server.certificate,
        client: client.certificate,
        replaced,
    })
}

/// A CA whose key is at hand.
struct Authority {
    directory: PathBuf,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was just made.
struct Made {
    certificate: Certificate,
    pem: String,
    key_pem: Zeroizing<String>,
}

impl Authority {
    fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let file = directory.join(QEMU.authority);
        let certificate = first(pem::certificates(&file)?, &file)?;
        let key_file = directory.join(KEY);
        let key = pem::key(&key_file)?;
        let key =
            KeyPair::try_from(&key).map_err(|_| PkiError::new(&key_file, Problem::UnknownKey))?;
        if !show::is_key_of(
            &certificate,
            &rcgen::PublicKeyData::subject_public_key_info(&key),
        ) {
            let problem = Problem::KeyOfAnother { certificate: file };
            return Err(PkiError::new(&key_file, problem).into());
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate.der, key).map_err(AuthorityError::Make)?;
        Ok(Self {
            directory: directory.to_owned(),
            certificate,
            issuer,
        })
    }

    fn check_valid(&self, now: Moment) -> Result<(), AuthorityError> {
        let file = self.directory.join(QEMU.authority);
        let problem = if self.certificate.not_after < now {
            let at = self.certificate.not_after;
            Problem::Expired { at }
        } else if now < self.certificate.not_before {
            let from = self.certificate.not_before;
            Problem::NotYetValid { from, now }
        } else {
            return Ok(());
        };
        Err(PkiError::new(&file, problem).into())
    }

    fn make(
        &self,
        request: &Request<'_>,
        names: &[SanType],
        usage: ExtendedKeyUsagePurpose,
        now: Moment,
    ) -> Result<Made, AuthorityError> {
        let mut params = validity(request.days, now)?;
        // A certificate that outlives its CA is of no use and looks as if it were.
        let end = date(self.certificate.not_after)?;
        params.not_after = params.not_after.min(end);
        params.distinguished_name = subject(request.name)?;
        params.subject_alt_names = names.to_vec();
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        // With a P-256 key the second has no meaning, but libvirt, and QEMU for long, refuse a certificate without it.
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![usage];
        let key = new_key()?;
        let made = params
            .signed_by(&key, &self.issuer)
            .map_err(AuthorityError::Make)?;
        Ok(Made {
            certificate: read_made(made.der())?,
            pem: made.pem(),
            key_pem: serialized(&key),
        })
    }

    fn keep_copy(&self, made: &Made) -> Result<(), AuthorityError> {
        let issued = self.directory.join(ISSUED);
        durable::create_private_directory(&issued).map_err(AuthorityError::write(&issued))?;
        let name = made.certificate.names.first().map(ToString::to_string);
        let name = directory_name(&name.unwrap_or_default())?;
        let role = if made.certificate.for_servers {
            "server"
        } else {
            "client"
        };
        let file = format!("{name}-{role}-{}.pem", hex(&made.certificate.serial));
        write_new(&issued.join(file), made.pem.as_bytes(), PUBLIC)
    }
}

/// The names of a certificate, the host's own first.
fn alternative_names(request: &Request<'_>) -> Result<Vec<SanType>, AuthorityError> {
    let mut names = Vec::new();
    for name in std::iter::once(request.name).chain(request.alternatives.iter().map(String::as_str))
    {
        let name = alternative_name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn alternative_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Some(address) = parse_address(name) {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || AuthorityError::BadName { name: name.into() };
    let bare = name.strip_suffix('.').unwrap_or(name);
    // A peer is looked up by this name: what is not a host's name would never be found.
    rustls_pki_types::DnsName::try_from(bare).map_err(|_| bad())?;
    let name = bare.to_ascii_lowercase().try_into().map_err(|_| bad())?;
    Ok(SanType::DnsName(name))
}

/// A host's directory is called as the host. An IPv6 address has no brackets there.
fn directory_name(name: &str) -> Result<String, AuthorityError> {
    match alternative_name(name)? {
        SanType::IpAddress(address) => Ok(IpAddr::to_string(&address)),
        SanType::DnsName(name) => Ok(name.as_str().to_owned()),
        _ => Err(AuthorityError::BadName { name: name.into() }),
    }
}

fn subject(common_name: &str) -> Result<DistinguishedName, AuthorityError> {
    let length = common_name.chars().count();
    if !(1..=COMMON_NAME_MAX).contains(&length) || common_name.contains(char::is_control) {
        let name = common_name.into();
        return Err(AuthorityError::BadCommonName { name });
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    Ok(subject)
}

fn validity(days: u32, now: Moment) -> Result<CertificateParams, AuthorityError> {
    if days == 0 {
        return Err(AuthorityError::BadDays { days });
    }
    let mut params = CertificateParams::default();
    params.not_before = date(Moment::from_seconds(now.seconds() - CLOCKS_APART_SECONDS))?;
    params.not_after = date(now.plus_days(days)).map_err(|_| AuthorityError::BadDays { days })?;
    Ok(params)
}

fn date(moment: Moment) -> Result<OffsetDateTime, AuthorityError> {
    moment.to_date().ok_or(AuthorityError::Clock)
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Make)
}

fn serialized(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

fn read_made(der: &[u8]) -> Result<Certificate, AuthorityError> {
    Certificate::from_der(der)
        .map_err(|_| AuthorityError::Make(rcgen::Error::CouldNotParseCertificate))
}

fn first(certificates: Vec<Certificate>, file: &Path) -> Result<Certificate, PkiError> {
    let wanted = "certificate";
    certificates
        .into_iter()
        .next()
        .ok_or_else(|| PkiError::new(file, Problem::Nothing { wanted }))
}

fn same_directory(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Whether there is something to replace in `out`, if that is allowed. The files of the CA at `directory` itself are none.
fn check_replaceable(directory: &Path, out: &Path, replace: bool) -> Result<bool, AuthorityError> {
    let exists = |name: &&str| fs::symlink_metadata(out.join(name)).is_ok();
    let differs = |name: &&str| {
        let read = |directory: &Path| pem::read(&directory.join(name)).map(|(bytes, _)| bytes);
        let same = match (read(out), read(directory)) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            _ => false,
        };
        exists(name) && !same
    };
    let own = [QEMU.server.0, QEMU.server.1, QEMU.client.0, QEMU.client.1];
    let of_authority = [QEMU.authority, QEMU.revoked];
    let existing = own
        .into_iter()
        .find(exists)
        .or_else(|| of_authority.into_iter().find(differs));
    match existing {
        Some(name) if !replace => Err(AuthorityError::Exists {
            file: out.join(name),
        }),
        existing => Ok(existing.is_some()),
    }
}

fn copy_public(from: &Path, to: &Path, name: &str) -> Result<(), AuthorityError> {
    let (bytes, _) = pem::read(&from.join(name))?;
    write_over(&to.join(name), &bytes, PUBLIC)
}

fn write_new(file: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    durable::create(file, bytes, mode).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists { file: file.into() },
        _ => AuthorityError::write(file)(error),
    })
}

fn write_over(file: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    durable::replace(file, bytes, mode).map_err(AuthorityError::write(file))
}
