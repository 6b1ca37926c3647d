//! A certificate, as far as sealift and people need to know it.
//!
//! ```text
//!  DER ─▶ subject, issuer, serial
//!         names: DNS names and addresses of the alternative names, or else the common name
//!         validity
//!         may be shown by a server? by a client?
//!         a CA's?
//! ```
//!
//! Whether it may be believed is not decided here: `rustls` and `webpki` verify chains.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::moment::Moment;
use crate::name::{Name, printable};

/// What a certificate says about its holder. Nothing in it has been verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    /// Whom it is for, such as `CN=alpha.example.org`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its number among its issuer's certificates, as it stands in the file.
    pub serial: Vec<u8>,
    /// The DNS names and addresses among its alternative names; without any, the common name.
    pub names: Vec<Name>,
    /// It is not valid before this.
    pub not_before: Moment,
    /// It is not valid after this.
    pub not_after: Moment,
    /// A server may show it: its extended usages have serverAuth, or there are none.
    pub for_servers: bool,
    /// A client may show it: its extended usages have clientAuth, or there are none.
    pub for_clients: bool,
    /// It is a CA's.
    pub authority: bool,
}

/// The bytes are not a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an X.509 certificate")
    }
}

impl std::error::Error for Malformed {}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When `der` is not an X.509 certificate, or something follows it.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let parsed = parse(der)?;
        let common_name = parsed
            .subject()
            .iter_common_name()
            .find_map(|attribute| attribute.as_str().ok());
        let mut names = alternative_names(&parsed)?;
        if names.is_empty() {
            names.extend(common_name.map(|name| Name::Common(name.to_owned())));
        }
        let usage = parsed.extended_key_usage().map_err(|_| Malformed)?;
        let may = |wanted: fn(&x509_parser::extensions::ExtendedKeyUsage<'_>) -> bool| {
            usage.as_ref().is_none_or(|usage| wanted(usage.value))
        };
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            serial: parsed.raw_serial().to_vec(),
            names,
            not_before: Moment::from_seconds(parsed.validity().not_before.timestamp()),
            not_after: Moment::from_seconds(parsed.validity().not_after.timestamp()),
            for_servers: may(|usage| usage.server_auth),
            for_clients: may(|usage| usage.client_auth),
            authority: parsed.is_ca(),
        })
    }

    /// The SHA-256 of the certificate.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The same, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&self.digest())
    }

    /// Whether `signer`'s key made this certificate's signature, and `signer` is the issuer that it names.
    #[must_use]
    pub fn is_signed_by(&self, signer: &Self) -> bool {
        let (Ok(this), Ok(signer)) = (parse(&self.der), parse(&signer.der)) else {
            return false;
        };
        this.issuer().as_raw() == signer.subject().as_raw()
            && this.verify_signature(Some(signer.public_key())).is_ok()
    }

    /// Whether one of the names is `wanted`.
    #[must_use]
    pub fn is_for(&self, wanted: &str) -> bool {
        self.names.iter().any(|name| name.is(wanted))
    }

    pub(crate) fn is_valid_at(&self, now: Moment) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Malformed> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(Malformed),
    }
}

fn alternative_names(parsed: &X509Certificate<'_>) -> Result<Vec<Name>, Malformed> {
    let Some(extension) = parsed.subject_alternative_name().map_err(|_| Malformed)? else {
        return Ok(Vec::new());
    };
    let names = extension.value.general_names.iter();
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(Name::Ip),
            _ => None,
        })
        .collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        Some(IpAddr::from(four))
    } else {
        let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
        Some(IpAddr::from(sixteen).to_canonical())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    const CLIENT: &[u8] = include_bytes!("../fixtures/client-cert.pem");

    fn client() -> Vec<u8> {
        CertificateDer::from_pem_slice(CLIENT).unwrap().to_vec()
    }

    #[test]
    fn a_certificate_without_alternative_names_has_its_common_name() {
        let certificate = Certificate::from_der(&client()).unwrap();
        assert_eq!(
            certificate.names,
            [Name::Common("beta.example.org".to_owned())]
        );
        assert_eq!(
            (certificate.for_servers, certificate.for_clients),
            (false, true)
        );
        assert!(!certificate.authority);
    }

    #[test]
    fn what_follows_a_certificate_is_not_passed_over() {
        let mut der = client();
        der.push(0);
        assert_eq!(Certificate::from_der(&der), Err(Malformed));
    }

    proptest! {
        #[test]
        fn a_spoilt_certificate_is_read_or_refused(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            length in any::<prop::sample::Index>(),
        ) {
            let mut der = client();
            for (at, byte) in changes {
                let at = at.index(der.len());
                der[at] = byte;
            }
            let _ = Certificate::from_der(&der[..length.index(der.len())]);
            if let Ok(certificate) = Certificate::from_der(&der) {
                let shown = format!("{}{}{}", certificate.subject, certificate.issuer, crate::name::listed(&certificate.names));
                prop_assert!(!shown.contains(char::is_control));
            }
        }
    }
}
