//! `sealift pki`: what it makes is what the rest takes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::wire::connect;
use crate::authority::{
    AuthorityError, Issued, KeyState, Request, Trust, init, issue, revoke, show,
};
use crate::{Moment, Pki};

fn authority() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    init(directory.path(), "Test CA", 3650, Moment::now()).unwrap();
    directory
}

fn host(directory: &TempDir, name: &str) -> Issued {
    issue_with(directory, name, &[], false).unwrap()
}

fn issue_with(
    directory: &TempDir,
    name: &str,
    alternatives: &[&str],
    replace: bool,
) -> Result<Issued, AuthorityError> {
    let alternatives: Vec<_> = alternatives.iter().map(ToString::to_string).collect();
    let request = Request {
        name,
        alternatives: &alternatives,
        days: 365,
        out: None,
        replace,
    };
    issue(directory.path(), &request, Moment::now())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn hosts_that_got_certificates_know_each_other() {
    let ca = authority();
    let alpha = issue_with(
        &ca,
        "alpha",
        &["alpha.example.org", "192.0.2.7", "2001:db8::7"],
        false,
    )
    .unwrap();
    let beta = host(&ca, "beta");
    let source = Pki::for_source(&beta.directory).unwrap();
    let receiver = Pki::for_receiver(&alpha.directory).unwrap();
    for name in ["alpha", "alpha.example.org", "192.0.2.7", "2001:db8::7"] {
        let outcome = connect(&source, &receiver, name);
        assert_eq!(outcome.source.unwrap().to_string(), "alpha");
        assert_eq!(outcome.receiver.unwrap().names, ["beta"]);
    }
}

#[test]
fn keys_are_for_their_user_alone() {
    let ca = authority();
    let alpha = host(&ca, "alpha");
    assert_eq!(mode(&ca.path().join("ca-key.pem")), 0o600);
    assert_eq!(mode(&alpha.directory.join("server-key.pem")), 0o600);
    assert_eq!(mode(&alpha.directory.join("client-key.pem")), 0o600);
    assert_eq!(mode(&alpha.directory), 0o700);
    assert!(!alpha.directory.join("ca-key.pem").exists());
    let keys = ["server-key.pem", "client-key.pem"]
        .map(|name| fs::read(alpha.directory.join(name)).unwrap());
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_ca_is_never_replaced() {
    let ca = authority();
    let before = fs::read(ca.path().join("ca-key.pem")).unwrap();
    let error = init(ca.path(), "Another", 10, Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Exists { .. }));
    fs::remove_file(ca.path().join("ca-cert.pem")).unwrap();
    init(ca.path(), "Another", 10, Moment::now()).unwrap_err();
    assert_eq!(fs::read(ca.path().join("ca-key.pem")).unwrap(), before);
}

#[test]
fn a_hosts_files_are_replaced_only_when_that_is_said() {
    let ca = authority();
    let first = host(&ca, "alpha");
    assert!(!first.replaced);
    let error = issue_with(&ca, "alpha", &[], false).unwrap_err();
    assert!(matches!(error, AuthorityError::Exists { .. }));
    assert_eq!(
        Pki::for_receiver(&first.directory).unwrap().certificate(),
        &first.server
    );
    let second = issue_with(&ca, "alpha", &[], true).unwrap();
    assert!(second.replaced);
    assert_eq!(
        Pki::for_receiver(&first.directory).unwrap().certificate(),
        &second.server
    );
}

#[test]
fn another_ca_in_the_way_is_left_as_it_is() {
    let (ca, other) = (authority(), authority());
    let out = tempfile::tempdir().unwrap();
    fs::copy(
        other.path().join("ca-cert.pem"),
        out.path().join("ca-cert.pem"),
    )
    .unwrap();
    let request = Request {
        name: "alpha",
        alternatives: &[],
        days: 1,
        out: Some(out.path()),
        replace: false,
    };
    let error = issue(ca.path(), &request, Moment::now()).unwrap_err();
    assert!(error.to_string().contains("ca-cert.pem exists"), "{error}");
    // This CA's own certificate, copied there before, is none in the way.
    fs::copy(
        ca.path().join("ca-cert.pem"),
        out.path().join("ca-cert.pem"),
    )
    .unwrap();
    assert!(!issue(ca.path(), &request, Moment::now()).unwrap().replaced);
}

#[test]
fn the_cas_key_does_not_travel() {
    let ca = authority();
    let request = Request {
        name: "alpha",
        alternatives: &[],
        days: 1,
        out: Some(ca.path()),
        replace: true,
    };
    let error = issue(ca.path(), &request, Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::IntoAuthority { .. }));
}

#[test]
fn names_that_nobody_could_call_are_refused() {
    let ca = authority();
    for name in ["", "../alpha", "a b", "alpha/beta", "-", "ä"] {
        let error = issue_with(&ca, name, &[], false).unwrap_err();
        assert!(
            matches!(error, AuthorityError::BadName { .. }),
            "{name:?}: {error}"
        );
    }
    let error = issue_with(&ca, "alpha", &["a b"], false).unwrap_err();
    assert!(error.to_string().contains("\"a b\""), "{error}");
    assert!(!ca.path().join("alpha").exists());
}

#[test]
fn a_certificate_does_not_outlive_its_ca() {
    let ca = tempfile::tempdir().unwrap();
    let authority = init(ca.path(), "Short", 10, Moment::now()).unwrap();
    assert_eq!(host(&ca, "alpha").server.not_after, authority.not_after);
    let error = init(&ca.path().join("none"), "None", 0, Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::BadDays { .. }));
    let error = init(&ca.path().join("none"), "None", u32::MAX, Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::BadDays { .. }));
}

#[test]
fn an_expired_ca_issues_nothing() {
    let ca = tempfile::tempdir().unwrap();
    init(ca.path(), "Old", 10, Moment::from_seconds(1_000_000_000)).unwrap();
    let error = issue_with(&ca, "alpha", &[], false).unwrap_err();
    assert!(
        error.to_string().contains("ca-cert.pem expired on"),
        "{error}"
    );
}

#[test]
fn a_key_that_is_not_the_cas_signs_nothing() {
    let (ca, other) = (authority(), authority());
    fs::copy(
        other.path().join("ca-key.pem"),
        ca.path().join("ca-key.pem"),
    )
    .unwrap();
    let error = issue_with(&ca, "alpha", &[], false).unwrap_err();
    assert!(error.to_string().contains("is not the key of"), "{error}");
}

#[test]
fn a_list_of_revoked_certificates_accumulates() {
    let ca = authority();
    let (alpha, beta) = (host(&ca, "alpha"), host(&ca, "beta"));
    let file = |host: &Issued, name| vec![host.directory.join(name)];
    let first = revoke(ca.path(), &file(&alpha, "server-cert.pem"), Moment::now()).unwrap();
    assert_eq!((first.new, first.total), (1, 1));
    let second = revoke(ca.path(), &file(&beta, "client-cert.pem"), Moment::now()).unwrap();
    assert_eq!((second.new, second.total), (1, 2));
    let again = revoke(ca.path(), &file(&alpha, "server-cert.pem"), Moment::now()).unwrap();
    assert_eq!((again.new, again.total), (0, 2));

    // A new host gets the list with its files, and believes it.
    let gamma = host(&ca, "gamma");
    let gamma_source = Pki::for_source(&gamma.directory).unwrap();
    let gamma_receiver = Pki::for_receiver(&gamma.directory).unwrap();
    let alpha = Pki::for_receiver(&alpha.directory).unwrap();
    let beta_source = Pki::for_source(&beta.directory).unwrap();
    let beta_receiver = Pki::for_receiver(&beta.directory).unwrap();
    let refusal = connect(&gamma_source, &alpha, "alpha").source.unwrap_err();
    assert!(refusal.to_string().contains("revoked"), "{refusal}");
    let refusal = connect(&beta_source, &gamma_receiver, "gamma")
        .receiver
        .unwrap_err();
    assert!(refusal.to_string().contains("revoked"), "{refusal}");
    connect(&gamma_source, &beta_receiver, "beta")
        .source
        .unwrap();
}

#[test]
fn a_host_that_is_gone_is_revoked_by_the_copies() {
    let ca = authority();
    let alpha = host(&ca, "alpha");
    fs::remove_dir_all(&alpha.directory).unwrap();
    let copies: Vec<PathBuf> = fs::read_dir(ca.path().join("issued"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(copies.len(), 2);
    assert_eq!(revoke(ca.path(), &copies, Moment::now()).unwrap().new, 2);
}

#[test]
fn only_a_cas_own_certificates_are_revoked() {
    let (ca, other) = (authority(), authority());
    let theirs = host(&other, "alpha").directory.join("server-cert.pem");
    let error = revoke(ca.path(), &[theirs], Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::NotOurs { .. }));
    let error = revoke(ca.path(), &[ca.path().join("ca-cert.pem")], Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Own { .. }));
    assert!(!ca.path().join("ca-crl.pem").exists());
}

#[test]
fn a_foreign_list_is_not_signed_anew() {
    let (ca, other) = (authority(), authority());
    let alpha = host(&ca, "alpha").directory.join("server-cert.pem");
    let theirs = host(&other, "beta").directory.join("server-cert.pem");
    revoke(other.path(), &[theirs], Moment::now()).unwrap();
    fs::copy(
        other.path().join("ca-crl.pem"),
        ca.path().join("ca-crl.pem"),
    )
    .unwrap();
    let error = revoke(ca.path(), &[alpha], Moment::now()).unwrap_err();
    assert!(
        error.to_string().contains("is not signed by a CA in"),
        "{error}"
    );
}

#[test]
fn a_directory_is_shown() {
    let ca = authority();
    let alpha = host(&ca, "alpha");
    let shown = show(&alpha.directory, Moment::now()).unwrap();
    let [authority, server, client] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert!(authority.authority);
    assert_eq!(authority.key, KeyState::Missing);
    assert_eq!(server.names, ["alpha"]);
    assert_eq!((server.for_receivers, server.for_sources), (true, false));
    assert_eq!((client.for_receivers, client.for_sources), (false, true));
    assert_eq!(
        (&server.key, server.trust),
        (&KeyState::Matches, Trust::Signed)
    );
    assert_eq!((server.revoked, server.in_date), (None, true));
    // A second may have passed since.
    assert!((364..=365).contains(&server.days_left));
    // A CA's directory shows its key too.
    assert_eq!(
        show(ca.path(), Moment::now()).unwrap()[0].key,
        KeyState::Matches
    );
}

#[test]
fn a_file_is_shown_with_what_is_beside_it() {
    let ca = authority();
    let (alpha, beta) = (host(&ca, "alpha"), host(&ca, "beta"));
    let file = alpha.directory.join("server-cert.pem");
    revoke(ca.path(), std::slice::from_ref(&file), Moment::now()).unwrap();
    fs::copy(
        ca.path().join("ca-crl.pem"),
        alpha.directory.join("ca-crl.pem"),
    )
    .unwrap();
    fs::copy(
        beta.directory.join("server-key.pem"),
        alpha.directory.join("server-key.pem"),
    )
    .unwrap();
    let shown = show(&file, Moment::now()).unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].revoked, Some(true));
    assert_eq!(shown[0].key, KeyState::Differs);
    let copy = fs::read_dir(ca.path().join("issued"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let shown = show(&copy, Moment::now()).unwrap();
    assert_eq!(
        (shown[0].trust, &shown[0].key),
        (Trust::NoAuthority, &KeyState::Missing)
    );
}

#[test]
fn an_empty_directory_has_nothing_to_show() {
    let error = show(tempfile::tempdir().unwrap().path(), Moment::now()).unwrap_err();
    assert!(matches!(error, AuthorityError::NothingToShow { .. }));
}
