//! Files that must not be opened: what is said, and that nothing comes out.

use std::fs;

use sealift_lab::guest::Launch;
use sealift_lab::qemu::{self, Machine};

use crate::host::Host;

/// A host with a saved guest, `web1.sealed`.
fn saved() -> (Host, Vec<u8>) {
    let host = Host::new();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut source = Launch::new(&qemu, &qemu.machine(Machine::I440fx))
        .start()
        .unwrap();
    source.wait_tick(1).unwrap();
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path"]);
    saving.wait().with(0, &[]);
    let bytes = fs::read(host.path("web1.sealed")).unwrap();
    (host, bytes)
}

#[test]
fn only_a_whole_file_is_opened_and_only_by_its_recipient() {
    let (host, bytes) = saved();
    let file = host.path("web1.sealed");

    host.export(&file, "b", "raw").with(
        4,
        &[
            "is sealed for host-a (certificate ",
            "and this host's key is another",
            "restore it on host-a",
        ],
    );

    let spoilt = host.path("spoilt");
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&spoilt, bytes).unwrap();
        host.export(&spoilt, "a", "raw")
            .with(1, &[why, "guest  in the file, as it was saved"]);
        assert!(!host.path("raw").exists());
    };
    let whole = bytes.len();
    for length in [0, 15] {
        refused(&bytes[..length], "is too short");
    }
    for length in [
        16,
        40,
        500,
        600,
        whole / 2,
        whole - 94,
        whole - 93,
        whole - 1,
    ] {
        refused(&bytes[..length], "is cut off, or was altered");
    }
    refused(&[&bytes[..], &[0]].concat(), "is cut off, or was altered");
    // A piece taken out of the middle, with the end in its place.
    let without = [&bytes[..whole / 2], &bytes[whole / 2 + 100..]].concat();
    refused(&without, "is cut off, or was altered");

    let flipped = |at: usize| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        flipped
    };
    refused(&flipped(0), "it is not a guest that sealift has saved");
    refused(&flipped(9), "it is of version 0");
    // The salt, the guest's name and the like are bound to the keys; so is the end itself.
    let name = bytes.windows(4).position(|bytes| bytes == b"web1").unwrap();
    for at in [name, whole - 93 + 30, whole - 1] {
        refused(&flipped(at), "is cut off, or was altered");
    }
    for at in [whole / 3, whole / 2, whole - 100] {
        refused(&flipped(at), "the file was altered");
    }
    host.export(&file, "a", "raw").with(0, &[]);
}

#[test]
fn what_cannot_be_saved_is_refused_before_qemu_is_waited_for() {
    let host = Host::new();
    fs::write(host.path("there"), "older").unwrap();
    let save = |file: &str, recipient: &str| {
        host.run(&[
            "send",
            "--file",
            file,
            "--recipient",
            recipient,
            "--listen",
            "unix:out",
        ])
    };
    save("there", "a/server-cert.pem").with(
        5,
        &["there exists, and a saved guest never replaces a file"],
    );
    assert_eq!(fs::read(host.path("there")).unwrap(), b"older");
    save("file", "a/server-key.pem").with(4, &["holds no certificate"]);
    save("file", "nothing.pem").with(4, &["nothing.pem is missing"]);
}
