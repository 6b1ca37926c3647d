//! Verifying a receiver's certificate: webpki's rules, and one of `GnuTLS`'s.
//!
//! QEMU and libvirt verify with `GnuTLS`, which looks at the common name of a certificate that has no DNS name and no address among
//! its alternative names. libvirt's documentation made such certificates for years, and they shall work untouched. Everything
//! else (chain, validity, usage, revocation, the handshake's signature) is webpki's and unchanged, and comes first: the name is the
//! last thing that webpki looks at.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::Certificate;
use crate::name::Name;

#[derive(Debug)]
pub(crate) struct ReceiverVerifier {
    pub(crate) webpki: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ReceiverVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => has_common_name(end_entity, server_name),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Takes a certificate whose only name is the common name `wanted`; otherwise names those that it has.
fn has_common_name(
    der: &CertificateDer<'_>,
    wanted: &ServerName<'_>,
) -> Result<ServerCertVerified, Error> {
    let certificate = Certificate::from_der(der)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match &certificate.names[..] {
        [name @ Name::Common(_)] if name.is(&wanted.to_str()) => {
            Ok(ServerCertVerified::assertion())
        }
        names => Err(Error::InvalidCertificate(
            CertificateError::NotValidForNameContext {
                expected: wanted.to_owned(),
                presented: names.iter().map(ToString::to_string).collect(),
            },
        )),
    }
}
