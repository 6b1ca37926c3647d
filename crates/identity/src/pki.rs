//! This host's identity, read from its files and checked once, and the TLS that follows from it.
//!
//! ```text
//!  directory ─▶ layout ─▶ pem ─▶ read: key belongs to certificate
//!                                  │
//!                                  └─▶ examine (now): CA in date, lists signed and fresh,
//!                                        own certificate in date, right usage, signed by the CA, not revoked
//! ```
//!
//! What a peer would refuse is said here, when the program starts, by file and remedy, instead of by a TLS alert in the night.
//!
//! TLS is 1.3 alone, both ends show a certificate, and every connection is a full handshake: no resumption, no tickets, no early
//! data, so that a certificate that was revoked or has run out gets nobody in again.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use webpki::EndEntityCert;
use zeroize::Zeroize as _;

use crate::Side;
use crate::certificate::Certificate;
use crate::error::{PkiError, Problem};
use crate::layout::{self, Files};
use crate::moment::Moment;
use crate::verifier::ReceiverVerifier;
use crate::{pem, revocation};

/// What both ends say they speak inside TLS. A new number means that older ends are refused in the handshake.
pub const ALPN: &[u8] = b"sealift/1";

/// This host's certificate, its key, and whom it believes.
pub struct Pki {
    side: Side,
    files: Files,
    authorities: Vec<Certificate>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// This host's own certificate; what follows it in the file is in `intermediates`.
    own: Certificate,
    intermediates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pki {
    /// The identity of a source: `client-cert.pem` and its key.
    ///
    /// # Errors
    /// When a file is missing or unfit; the error names it and what to do.
    pub fn for_source(directory: &Path) -> Result<Self, PkiError> {
        Self::read(directory, Side::Source)?.examine(Moment::now())
    }

    /// The identity of a receiver: `server-cert.pem` and its key.
    ///
    /// # Errors
    /// When a file is missing or unfit; the error names it and what to do.
    pub fn for_receiver(directory: &Path) -> Result<Self, PkiError> {
        Self::read(directory, Side::Receiver)?.examine(Moment::now())
    }

    /// For which end it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The file with this host's certificate.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.files.certificate
    }

    /// The file with the CAs that are believed.
    #[must_use]
    pub fn authority_file(&self) -> &Path {
        &self.files.authority
    }

    /// The DER of this host's certificate, without its chain.
    #[must_use]
    pub fn own_certificate(&self) -> &[u8] {
        &self.own.der
    }

    /// What this host's certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.own
    }

    /// The private key, for what only its holder may open. It must not be logged or copied to where it is not wiped.
    #[must_use]
    pub const fn private_key_der(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// TLS for a source that connects.
    ///
    /// # Errors
    /// When the TLS library does not take what the files hold.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, PkiError> {
        let provider = provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider.clone())
            .with_crls(self.lists.iter().cloned())
            .allow_unknown_revocation_status()
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| tls(&self.files.authority, &error))?;
        let verifier = Arc::new(ReceiverVerifier { webpki: verifier });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| tls(&self.files.certificate, &error))?
            // Not dangerous: webpki's verifier with GnuTLS's view of common names.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain(), self.key.clone_key())
            .map_err(|error| tls(&self.files.certificate, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }

    /// TLS for a receiver that accepts.
    ///
    /// # Errors
    /// When the TLS library does not take what the files hold.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider.clone())
            .with_crls(self.lists.iter().cloned())
            .allow_unknown_revocation_status()
            .enforce_revocation_expiration()
            // A source has one certificate and need not be told which CAs would do; strangers need not know.
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| tls(&self.files.authority, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| tls(&self.files.certificate, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain(), self.key.clone_key())
            .map_err(|error| tls(&self.files.certificate, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// Reads the files, and nothing that depends on the time.
    pub(crate) fn read(directory: &Path, side: Side) -> Result<Self, PkiError> {
        let files = layout::find(directory, side)?;
        let authorities = pem::certificates(&files.authority)?;
        let lists = pem::revocation_lists(&files.revoked)?;
        let mut chain = pem::certificates(&files.certificate)?.into_iter();
        let own = chain.next().ok_or_else(|| {
            let wanted = "certificate";
            PkiError::new(&files.certificate, Problem::Nothing { wanted })
        })?;
        let intermediates = chain.map(|certificate| certificate.der).collect();
        let key = pem::key(&files.key)?;
        let pki = Self {
            side,
            files,
            authorities,
            lists,
            own,
            intermediates,
            key,
        };
        pki.check_key()?;
        Ok(pki)
    }

    /// Checks what a peer would, as far as this host's own files show it.
    pub(crate) fn examine(mut self, now: Moment) -> Result<Self, PkiError> {
        self.keep_valid_authorities(now)?;
        let lists = revocation::check(&self.files, &self.lists, &self.authorities, now)?;
        let of = |problem| PkiError::new(&self.files.certificate, problem);
        if self.own.not_after < now {
            let at = self.own.not_after;
            return Err(of(Problem::Expired { at }));
        }
        if now < self.own.not_before {
            let from = self.own.not_before;
            return Err(of(Problem::NotYetValid { from, now }));
        }
        let (allowed, needed, template) = match self.side {
            Side::Source => (self.own.for_clients, "clientAuth", "tls_www_client"),
            Side::Receiver => (self.own.for_servers, "serverAuth", "tls_www_server"),
        };
        if !allowed {
            return Err(of(Problem::WrongUsage { needed, template }));
        }
        self.check_chain(now)?;
        if lists.iter().any(|list| list.has(&self.own)) {
            let by = self.files.revoked.clone();
            return Err(of(Problem::Revoked { by }));
        }
        Ok(self)
    }

    fn check_key(&self) -> Result<(), PkiError> {
        let key = ring::sign::any_supported_type(&self.key)
            .map_err(|_| PkiError::new(&self.files.key, Problem::UnknownKey))?;
        let matched = CertifiedKey::new(self.chain(), key).keys_match();
        matched.map_err(|_| {
            let certificate = self.files.certificate.clone();
            PkiError::new(&self.files.key, Problem::KeyOfAnother { certificate })
        })
    }

    /// webpki takes a trust anchor whatever its validity; `GnuTLS`, and so QEMU, does not. While a CA's certificate is replaced the
    /// file holds the old one and the new one: the one that is valid counts.
    fn keep_valid_authorities(&mut self, now: Moment) -> Result<(), PkiError> {
        let (valid, invalid): (Vec<_>, Vec<_>) = std::mem::take(&mut self.authorities)
            .into_iter()
            .partition(|authority| authority.is_valid_at(now));
        self.authorities = valid;
        match invalid.first() {
            Some(authority) if self.authorities.is_empty() => {
                let problem = if authority.not_after < now {
                    Problem::Expired {
                        at: authority.not_after,
                    }
                } else {
                    Problem::NotYetValid {
                        from: authority.not_before,
                        now,
                    }
                };
                Err(PkiError::new(&self.files.authority, problem))
            }
            _ => Ok(()),
        }
    }

    fn check_chain(&self, now: Moment) -> Result<(), PkiError> {
        let of = |problem| PkiError::new(&self.files.certificate, problem);
        let refused = |error: webpki::Error| match error {
            webpki::Error::UnknownIssuer => of(Problem::UnknownIssuer {
                issuer: self.own.issuer.clone(),
                authority: self.files.authority.clone(),
            }),
            error => of(Problem::Refused {
                why: error.to_string(),
            }),
        };
        let usage = match self.side {
            Side::Source => webpki::KeyUsage::client_auth(),
            Side::Receiver => webpki::KeyUsage::server_auth(),
        };
        let own = EndEntityCert::try_from(&self.own.der).map_err(refused)?;
        own.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.roots()?.roots,
            &self.intermediates,
            now.to_unix(),
            usage,
            None,
            None,
        )
        .map(|_| ())
        .map_err(refused)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, PkiError> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots
                .add(authority.der.clone())
                .map_err(|error| tls(&self.files.authority, &error))?;
        }
        Ok(Arc::new(roots))
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let own = std::iter::once(&self.own.der);
        own.chain(&self.intermediates).cloned().collect()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki")
            .field("side", &self.side)
            .field("certificate", &self.files.certificate)
            .field("names", &self.own.names)
            .finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn tls(file: &Path, error: &impl fmt::Display) -> PkiError {
    let why = error.to_string();
    PkiError::new(file, Problem::Tls { why })
}
