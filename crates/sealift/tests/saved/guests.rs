//! With guests that check their own memory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use sealift_lab::guest::{Guest, Launch};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::reload;
use serde_json::{Value, json};

use crate::host::{Host, ask, files_in, goes_on, state, wait_until};

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

fn running(qemu: &Qemu, machine: &str) -> Guest {
    let mut guest = Launch::new(qemu, machine)
        .arguments(["-name", "web1"])
        .start()
        .unwrap();
    guest.wait_tick(2).unwrap();
    guest
}

fn waiting(qemu: &Qemu, machine: &str) -> Guest {
    let launch = Launch::new(qemu, machine).arguments(["-name", "web1"]);
    launch.incoming().start().unwrap()
}

/// Restores into a QEMU that was started with `-incoming defer`.
fn restore(host: &Host, file: &str, guest: &Guest) -> crate::host::Ended {
    let qemu = format!("unix:{}", guest.path("in").display());
    let control = guest.free_control().to_string();
    host.run(&[
        "receive", "--file", file, "--pki", "a", "--qemu", &qemu, "--qmp", &control,
    ])
}

#[test]
fn a_guest_goes_on_where_it_was_saved() {
    let (host, qemu) = (Host::new(), newest());
    let machine = qemu.machine(Machine::Q35);
    let mut source = running(&qemu, &machine);
    let control = source.free_control().to_string();
    let saving = host.saving("web1.sealed", &["--qmp", &control]);
    host.migrate(&mut source, &["return-path"]);
    saving.wait().with(
        0,
        &[
            "web1 is saved in web1.sealed, for host-a",
            "guest  saved; paused at the source",
        ],
    );
    assert_eq!(state(&mut source), "postmigrate");
    assert_eq!(host.files(), ["web1.sealed"]);

    let mut destination = waiting(&qemu, &machine);
    restore(&host, "web1.sealed", &destination).with(0, &["web1 is here; it runs on"]);
    assert_eq!(state(&mut destination), "running");
    goes_on(&source, &mut destination);
}

#[test]
fn a_guest_that_was_paused_stays_paused() {
    let (host, qemu) = (Host::new(), newest());
    let machine = qemu.machine(Machine::I440fx);
    let mut source = running(&qemu, &machine);
    ask(&mut source, "stop", Value::Null);
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path"]);
    saving.wait().with(0, &["web1 is saved"]);

    let mut destination = waiting(&qemu, &machine);
    restore(&host, "web1.sealed", &destination)
        .with(0, &["it is paused, as it was when it was saved"]);
    assert_eq!(state(&mut destination), "paused");
    ask(&mut destination, "cont", Value::Null);
    goes_on(&source, &mut destination);
}

#[test]
fn an_old_guest_goes_on_in_a_later_qemu_and_as_a_plain_stream() {
    let all = qemu::all().unwrap();
    let (old, new) = (&all[0], &all[all.len() - 1]);
    let machine = old.machine(Machine::I440fx);
    let host = Host::new();
    let mut source = running(old, &machine);
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &[]);
    saving
        .wait()
        .with(0, &["QEMU migrates without a return path", "web1 is saved"]);
    let mut destination = waiting(new, &machine);
    restore(&host, "web1.sealed", &destination).with(0, &["it runs on"]);
    goes_on(&source, &mut destination);
    drop(destination);

    host.export(&host.path("web1.sealed"), "a", "web1.raw")
        .with(
            0,
            &["warning: web1.raw gets the memory of web1 in plaintext"],
        );
    let raw = host.path("web1.raw");
    let mode = raw.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = Vec::new();
    File::open(raw).unwrap().read_to_end(&mut stream).unwrap();
    let mut plain = waiting(new, &machine);
    reload::load(&mut plain, &stream).unwrap();
    goes_on(&source, &mut plain);
    host.export(&host.path("web1.sealed"), "a", "web1.raw")
        .with(5, &["web1.raw exists"]);
}

#[test]
fn a_guest_saved_over_several_channels_goes_on_and_is_not_one_stream() {
    let (host, qemu) = (Host::new(), newest());
    let machine = qemu.machine(Machine::I440fx);
    let mut source = running(&qemu, &machine);
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path", "multifd"]);
    saving.wait().with(0, &["web1 is saved"]);

    let mut destination = waiting(&qemu, &machine);
    let multifd = json!({ "capabilities": [{ "capability": "multifd", "state": true }] });
    ask(&mut destination, "migrate-set-capabilities", multifd);
    restore(&host, "web1.sealed", &destination).with(0, &["it runs on"]);
    goes_on(&source, &mut destination);

    host.export(&host.path("web1.sealed"), "a", "web1.raw")
        .with(1, &["saved with multifd"]);
    assert_eq!(host.files(), ["web1.sealed"]);
}

#[test]
fn whoever_connects_while_a_guest_is_saved_is_sent_away_and_the_guest_is_saved() {
    let (host, qemu) = (Host::new(), newest());
    let machine = qemu.machine(Machine::I440fx);
    let mut source = running(&qemu, &machine);
    // QEMU takes minutes at this rate.
    let slowly = json!({ "max-bandwidth": 4096 });
    ask(&mut source, "migrate-set-parameters", slowly);
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path", "multifd"]);
    wait_until(|| host.files().len() == 1);

    let mut stranger = UnixStream::connect(host.path("out")).unwrap();
    stranger.write_all(&[b'x'; 100]).unwrap();
    // It hears nothing but the end.
    let _ = stranger.read_to_end(&mut Vec::new());

    let fast = json!({ "max-bandwidth": 1_u64 << 40 });
    ask(&mut source, "migrate-set-parameters", fast);
    saving
        .wait()
        .with(0, &["is not QEMU's, and was closed", "web1 is saved"]);
    let mut destination = waiting(&qemu, &machine);
    let multifd = json!({ "capabilities": [{ "capability": "multifd", "state": true }] });
    ask(&mut destination, "migrate-set-capabilities", multifd);
    restore(&host, "web1.sealed", &destination).with(0, &["it runs on"]);
    goes_on(&source, &mut destination);
}

#[test]
fn cancelled_half_way_the_guest_runs_on_and_nothing_is_left() {
    let (host, qemu) = (Host::new(), newest());
    let mut source = running(&qemu, &qemu.machine(Machine::I440fx));
    // QEMU takes minutes at this rate.
    let slowly = json!({ "max-bandwidth": 4096 });
    ask(&mut source, "migrate-set-parameters", slowly);
    let saving = host.saving("web1.sealed", &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path"]);
    wait_until(|| host.files().len() == 1);
    assert_ne!(host.files(), ["web1.sealed"]);
    saving.interrupt();
    saving.wait().with(
        7,
        &[
            "cancelled; nothing was kept of the file",
            "still at the source",
        ],
    );
    assert_eq!(host.files(), [""; 0]);
    runs_on(&mut source);
}

#[test]
fn with_the_disk_full_the_guest_runs_on_and_nothing_is_left() {
    let (host, qemu) = (Host::new(), newest());
    let small = Small::new(&host.path("small"));
    let mut source = running(&qemu, &qemu.machine(Machine::I440fx));
    let file = small.path.join("web1.sealed");
    let saving = host.saving(file.to_str().unwrap(), &["--guest", "web1"]);
    host.migrate(&mut source, &["return-path"]);
    saving.wait().with(
        5,
        &[
            "is full: nothing was kept of the file",
            "still at the source",
        ],
    );
    assert_eq!(files_in(&small.path), [""; 0]);
    runs_on(&mut source);
}

/// QEMU gave the migration up, and the guest works.
fn runs_on(guest: &mut Guest) {
    wait_until(|| state(guest) == "running");
    let now = guest.serial().progress().unwrap().tick;
    guest.wait_tick(now + guest.ticks_per_pass() + 1).unwrap();
}

/// A disk with next to no room.
struct Small {
    path: std::path::PathBuf,
}

impl Small {
    fn new(path: &Path) -> Self {
        std::fs::create_dir(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16k", "sealift-test"]);
        assert!(mount.arg(path).status().unwrap().success());
        // It holds a header.
        let mut file = File::create(path.join("probe")).unwrap();
        file.write_all(&[0; 4096]).unwrap();
        std::fs::remove_file(path.join("probe")).unwrap();
        Self {
            path: path.to_owned(),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}
