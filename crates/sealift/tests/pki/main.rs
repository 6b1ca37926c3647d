//! `sealift pki` as its users meet it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn pki(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealift"))
        .arg("pki")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = pki(directory, arguments);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(directory: &Path, arguments: &[&str]) -> String {
    let output = pki(directory, arguments);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_ca_issues_shows_and_revokes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    assert!(done(directory, &["init", "ca"]).contains("CN=sealift CA"));
    let text = done(
        directory,
        &["issue", "ca", "alpha", "--san", "192.0.2.7", "--days", "30"],
    );
    assert!(
        text.contains("Copy ca/alpha to the host as it is"),
        "{text}"
    );
    assert!(text.contains("names        alpha, 192.0.2.7"), "{text}");
    assert!(text.contains("30 days left"), "{text}");

    let text = done(directory, &["show", "--json", "ca/alpha"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    let server = &shown["certificates"][1];
    assert_eq!(server["file"], "ca/alpha/server-cert.pem");
    assert_eq!(server["trust"], "signed");
    assert_eq!(server["key"]["state"], "matches");
    assert_eq!(server["revoked"], Value::Null);

    let text = done(
        directory,
        &["revoke", "--json", "ca", "ca/alpha/server-cert.pem"],
    );
    let revoked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&revoked["new"], &revoked["total"]), (&1.into(), &1.into()));
    fs::copy(
        directory.join("ca/ca-crl.pem"),
        directory.join("ca/alpha/ca-crl.pem"),
    )
    .unwrap();
    let text = done(directory, &["show", "ca/alpha/server-cert.pem"]);
    assert!(text.contains("revoked      YES"), "{text}");
}

#[test]
fn nothing_is_overwritten_without_being_said() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    done(directory, &["init", "ca"]);
    assert!(refused(directory, &["init", "ca"]).contains("ca/ca-cert.pem exists"));
    done(directory, &["issue", "ca", "alpha", "--out", "alpha"]);
    let again = ["issue", "ca", "alpha", "--out", "alpha"];
    assert!(refused(directory, &again).contains("alpha/server-cert.pem exists"));
    let text = done(
        directory,
        &["issue", "ca", "alpha", "--out", "alpha", "--replace"],
    );
    assert!(
        text.contains("Replaced the certificates in alpha"),
        "{text}"
    );
}

#[test]
fn a_failure_names_the_file_and_what_the_system_said() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let complaint = refused(directory, &["issue", "nowhere", "alpha"]);
    assert!(
        complaint.contains("nowhere/ca-cert.pem is missing"),
        "{complaint}"
    );
    fs::write(directory.join("file"), "").unwrap();
    let complaint = refused(directory, &["init", "file/ca"]);
    assert!(
        complaint.contains("file/ca cannot be written: "),
        "{complaint}"
    );
}

#[test]
fn keys_are_for_their_user_alone() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    done(directory, &["init", "ca"]);
    done(directory, &["issue", "ca", "alpha"]);
    for key in [
        "ca/ca-key.pem",
        "ca/alpha/server-key.pem",
        "ca/alpha/client-key.pem",
    ] {
        let mode = fs::metadata(directory.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}
