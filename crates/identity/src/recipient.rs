//! A host as the one for whom a file is sealed: the public key in its certificate, and the private one in its own files.
//!
//! ```text
//!  server-cert.pem, anywhere ─▶ Recipient: a P-256 point          server-key.pem ─▶ the scalar, wiped by whoever takes it
//! ```
//!
//! Only P-256 keys can be agreed with: RSA's and Ed25519's sign, and that is all.

use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{
    Any, FromDer as _, Integer, OctetString, Oid, Sequence, Tagged as _, oid,
};
use x509_parser::public_key::PublicKey;

use crate::certificate::{Certificate, parse};
use crate::error::{PkiError, Problem};
use crate::moment::Moment;
use crate::pem;
use crate::pki::Pki;

/// SEC 1's uncompressed point of P-256.
const POINT: usize = 65;
/// A scalar of P-256.
const SCALAR: usize = 32;

/// The host that is to open what is sealed.
#[derive(Clone, Debug)]
pub struct Recipient {
    certificate: Certificate,
    key: [u8; POINT],
}

impl Recipient {
    /// The host whose certificate is in `file`. The certificate is believed because somebody named the file: who signed it is not looked
    /// at.
    ///
    /// # Errors
    /// When there is none, it has run out, or its key is none that can be sealed for.
    pub fn from_file(file: &Path) -> Result<Self, PkiError> {
        let certificate = pem::certificates(file)?.into_iter().next().ok_or_else(|| {
            let wanted = "certificate";
            PkiError::new(file, Problem::Nothing { wanted })
        })?;
        if certificate.not_after < Moment::now() {
            let at = certificate.not_after;
            return Err(PkiError::new(file, Problem::Expired { at }));
        }
        match point(&certificate) {
            Some(key) => Ok(Self { certificate, key }),
            None => Err(PkiError::new(file, Problem::NotForSealing)),
        }
    }

    /// What the certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The public key, as SEC 1's uncompressed point.
    #[must_use]
    pub const fn key(&self) -> &[u8; POINT] {
        &self.key
    }
}

impl Pki {
    /// Writes this host's private scalar to `out`, which the caller wipes.
    ///
    /// # Errors
    /// When its key is not P-256's: then nothing can have been sealed for it.
    pub fn scalar(&self, out: &mut [u8; SCALAR]) -> Result<(), PkiError> {
        let scalar = point(self.certificate()).and_then(|_| scalar(self.private_key_der()));
        let refused = || PkiError::new(self.certificate_file(), Problem::NotForSealing);
        out.copy_from_slice(scalar.ok_or_else(refused)?);
        Ok(())
    }
}

/// The point of a P-256 key; nothing for one of another kind.
fn point(certificate: &Certificate) -> Option<[u8; POINT]> {
    let parsed = parse(&certificate.der).ok()?;
    let key = parsed.public_key();
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    if key.algorithm.algorithm != EC || curve != P256 {
        return None;
    }
    match key.parsed().ok()? {
        PublicKey::EC(point) => point.data().try_into().ok(),
        _ => None,
    }
}

/// id-ecPublicKey and prime256v1, RFC 5480.
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);

/// The scalar in a key that belongs to a certificate with a point of P-256; in place, no copy is made.
fn scalar<'a>(key: &'a PrivateKeyDer<'_>) -> Option<&'a [u8]> {
    let scalar = match key {
        // RFC 5915.
        PrivateKeyDer::Sec1(key) => in_ec_private_key(key.secret_sec1_der()),
        // RFC 5208: version, algorithm, and the former as an octet string.
        PrivateKeyDer::Pkcs8(key) => {
            let (_, any) = Any::from_der(key.secret_pkcs8_der()).ok()?;
            any.header.assert_tag(Sequence::TAG).ok()?;
            let (rest, _) = Integer::from_der(any.data).ok()?;
            let (rest, _) = Any::from_der(rest).ok()?;
            let (_, key) = Any::from_der(rest).ok()?;
            key.header.assert_tag(OctetString::TAG).ok()?;
            in_ec_private_key(key.data)
        }
        _ => None,
    }?;
    (scalar.len() == SCALAR).then_some(scalar)
}

fn in_ec_private_key(der: &[u8]) -> Option<&[u8]> {
    let (_, any) = Any::from_der(der).ok()?;
    any.header.assert_tag(Sequence::TAG).ok()?;
    let (rest, _) = Integer::from_der(any.data).ok()?;
    let (_, scalar) = Any::from_der(rest).ok()?;
    scalar.header.assert_tag(OctetString::TAG).ok()?;
    Some(scalar.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ca, RECEIVER, receiver, write};

    #[test]
    fn the_scalar_belongs_to_the_point() {
        let host = Ca::new("ca").host(RECEIVER);
        let recipient = Recipient::from_file(&host.path().join("server-cert.pem")).unwrap();
        assert_eq!(recipient.key()[0], 4);
        let mut scalar = [0; SCALAR];
        receiver(&host).scalar(&mut scalar).unwrap();
        // rcgen writes PKCS #8, which ring takes only when its public key is that of the scalar.
        let rng = ring::rand::SystemRandom::new();
        let pair = ring::signature::EcdsaKeyPair::from_private_key_and_public_key(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &scalar,
            recipient.key(),
            &rng,
        );
        assert!(pair.is_ok());
    }

    #[test]
    fn a_key_is_taken_in_either_form() {
        // RFC 5915: version 1, and the scalar.
        let sec1 = [&[0x30, 37, 2, 1, 1, 4, 32][..], &[7; SCALAR]].concat();
        assert_eq!(in_ec_private_key(&sec1), Some(&[7; SCALAR][..]));
        let key = PrivateKeyDer::Sec1(sec1.clone().into());
        assert_eq!(scalar(&key), Some(&[7; SCALAR][..]));
        for length in 0..sec1.len() {
            assert_eq!(in_ec_private_key(&sec1[..length]), None);
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let made = rcgen::CertificateParams::new([RECEIVER.to_owned()]).unwrap();
        let pem = made.self_signed(&key).unwrap().pem();
        write(&directory, "server-cert.pem", pem, 0o644);
        let error = Recipient::from_file(&directory.path().join("server-cert.pem")).unwrap_err();
        assert!(matches!(error.problem(), Problem::NotForSealing));
        assert!(error.to_string().contains("P-256"), "{error}");
    }
}
