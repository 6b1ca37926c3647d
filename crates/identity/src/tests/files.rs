//! What is said about files that cannot be used, before any connection.

use std::fs;
use std::path::Path;

use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;

use super::{Ca, RECEIVER, write};
use crate::Pki;

const ENCRYPTED: &[u8] = include_bytes!("../../fixtures/encrypted-key.pem");

fn host() -> TempDir {
    Ca::new("CA").host(RECEIVER)
}

/// What a receiver says of its directory.
fn complaint(directory: impl AsRef<Path>) -> String {
    Pki::for_receiver(directory.as_ref())
        .unwrap_err()
        .to_string()
}

fn assert_says(directory: &TempDir, file: &str, part: &str) {
    let error = Pki::for_receiver(directory.path()).unwrap_err();
    assert_eq!(error.file(), directory.path().join(file));
    let text = error.to_string();
    assert!(text.contains(file), "{text}");
    assert!(text.contains(part), "{part:?} is not in: {text}");
}

#[test]
fn a_directory_that_is_not_there() {
    assert!(complaint("/nowhere/at/all").contains("there is no directory /nowhere/at/all"));
}

#[test]
fn files_that_are_not_there() {
    let directory = tempfile::tempdir().unwrap();
    assert_says(
        &directory,
        "ca-cert.pem",
        "is missing, and there is no cacert.pem",
    );
    for file in ["server-cert.pem", "server-key.pem"] {
        let directory = host();
        fs::remove_file(directory.path().join(file)).unwrap();
        assert_says(&directory, file, "is missing: sealift pki issue");
    }
}

#[test]
fn a_source_needs_no_servers_files() {
    let directory = host();
    fs::remove_file(directory.path().join("server-key.pem")).unwrap();
    Pki::for_source(directory.path()).unwrap();
}

#[test]
fn a_file_that_is_a_directory() {
    let directory = host();
    let file = directory.path().join("server-cert.pem");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_says(&directory, "server-cert.pem", "is not a file");
}

#[test]
fn files_that_hold_something_else() {
    let directory = host();
    write(&directory, "server-cert.pem", "hello", 0o644);
    assert_says(
        &directory,
        "server-cert.pem",
        "holds no certificate in PEM form",
    );

    let directory = host();
    let cut = "-----BEGIN CERTIFICATE-----\nMIIB";
    write(&directory, "server-cert.pem", cut, 0o644);
    assert_says(&directory, "server-cert.pem", "is damaged");

    let directory = host();
    let not_der = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    write(&directory, "ca-cert.pem", not_der, 0o644);
    assert_says(&directory, "ca-cert.pem", "not an X.509 certificate");

    let directory = host();
    write(&directory, "server-key.pem", not_der, 0o600);
    assert_says(&directory, "server-key.pem", "holds no private key");

    let directory = host();
    write(&directory, "server-key.pem", ENCRYPTED, 0o600);
    assert_says(&directory, "server-key.pem", "is encrypted");

    let directory = host();
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    write(&directory, "server-key.pem", old, 0o600);
    assert_says(&directory, "server-key.pem", "is encrypted");

    let directory = host();
    write(
        &directory,
        "server-cert.pem",
        vec![b'x'; (4 << 20) + 1],
        0o644,
    );
    assert_says(&directory, "server-cert.pem", "is larger than");
}

#[test]
fn a_key_that_everybody_may_read() {
    let directory = host();
    let key = fs::read(directory.path().join("server-key.pem")).unwrap();
    write(&directory, "server-key.pem", &key, 0o644);
    assert_says(
        &directory,
        "server-key.pem",
        "open to every user of this host (mode 0644)",
    );
    write(&directory, "server-key.pem", &key, 0o640);
    Pki::for_receiver(directory.path()).unwrap();
}

#[test]
fn a_key_of_another_certificate() {
    let directory = host();
    let other = KeyPair::generate().unwrap().serialize_pem();
    write(&directory, "server-key.pem", other, 0o600);
    assert_says(&directory, "server-key.pem", "is not the key of");
}

#[test]
fn certificates_out_of_date() {
    let ca = Ca::new("CA");
    let expired = ca.odd_host(RECEIVER, |params| {
        params.not_after = date_time_ymd(2020, 2, 3);
    });
    assert_says(
        &expired,
        "server-cert.pem",
        "expired on 2020-02-03 00:00 UTC",
    );
    let future = ca.odd_host(RECEIVER, |params| {
        params.not_before = date_time_ymd(2090, 2, 3);
    });
    assert_says(
        &future,
        "server-cert.pem",
        "is not valid before 2090-02-03 00:00 UTC",
    );
    let ca = Ca::with("CA", |params| params.not_after = date_time_ymd(2020, 2, 3));
    assert_says(
        &ca.host(RECEIVER),
        "ca-cert.pem",
        "expired on 2020-02-03 00:00 UTC",
    );
}

#[test]
fn an_expired_ca_beside_its_successor_does_no_harm() {
    let directory = host();
    let mut authorities = fs::read(directory.path().join("ca-cert.pem")).unwrap();
    let old = Ca::with("Old", |params| params.not_after = date_time_ymd(2020, 2, 3));
    authorities.extend(old.pem.as_bytes());
    write(&directory, "ca-cert.pem", authorities, 0o644);
    Pki::for_receiver(directory.path()).unwrap();
}

#[test]
fn a_certificate_that_peers_would_refuse() {
    let ca = Ca::new("CA");
    let client = ca.odd_host(RECEIVER, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_says(
        &client,
        "server-cert.pem",
        "lack serverAuth (tls_www_server",
    );

    let directory = ca.host(RECEIVER);
    Ca::new("Other").trust_in(&directory);
    assert_says(&directory, "server-cert.pem", "is not signed by a CA in");

    let authority = ca.odd_host(RECEIVER, |params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    assert_says(
        &authority,
        "server-cert.pem",
        "would be refused by every peer",
    );

    let revoked = ca.host(RECEIVER);
    ca.revoke_all_in(&revoked, 2090);
    assert_says(&revoked, "server-cert.pem", "has been revoked, as");
}

#[test]
fn a_list_of_revoked_certificates_that_does_not_count() {
    let ca = Ca::new("CA");
    let directory = ca.host(RECEIVER);
    ca.revoke_all_in(&directory, 2020);
    assert_says(&directory, "ca-crl.pem", "is out of date");

    Ca::new("CA").revoke_all_in(&directory, 2090);
    assert_says(&directory, "ca-crl.pem", "is not signed by a CA in");

    write(&directory, "ca-crl.pem", "", 0o644);
    assert_says(
        &directory,
        "ca-crl.pem",
        "holds no list of revoked certificates",
    );
}

#[test]
fn a_list_by_a_ca_that_may_not_sign_lists() {
    // The CA's certificate without the usage, and the same CA's list.
    let mut ca = Ca::with("CA", |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let directory = ca.host(RECEIVER);
    let key = KeyPair::try_from(ca.issuer.key().serialized_der()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "CA");
    ca.issuer = rcgen::Issuer::new(params, key);
    ca.revoke_all_in(&directory, 2090);
    assert_says(&directory, "ca-crl.pem", "its key usages lack cRLSign");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let pki = Pki::for_receiver(host().path()).unwrap();
    let shown = format!("{pki:?}");
    assert!(!shown.contains("key"), "{shown}");
}
