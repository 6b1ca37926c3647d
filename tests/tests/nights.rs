//! What goes wrong on an operator's bad night: everybody is told what happened and what to do, and everything is left as it was.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealift_lab::certificates::Validity;
use sealift_lab::guest::{Guest, Launch};
use sealift_lab::session::{Ended, Order};
use sealift_lab::trial::{self, PORT, RECEIVER, SOURCE, Trial, listening, runs, runs_on, state};
use sealift_lab::whole_matrix;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Exit codes, as `sealift --help` lists them.
const HOST: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const AUTHENTICATION: i32 = 4;
const STILL_AT_SOURCE: i32 = 5;
const IN_DOUBT: i32 = 6;
const CANCELLED: i32 = 7;

fn launch() -> Launch {
    trial::launch().unwrap()
}

fn run(order: &Order) -> Ended {
    order.start().unwrap().wait().unwrap()
}

#[track_caller]
fn ends(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.said());
    let said = ended.said();
    assert!(said.contains(words), "`{words}` is not in: {said}");
}

/// What QEMU was set to.
fn settings(guest: &mut Guest) -> (Value, Value) {
    let mut ask = |command| guest.qmp().execute(command, Value::Null).unwrap();
    (
        ask("query-migrate-capabilities"),
        ask("query-migrate-parameters"),
    )
}

/// A disk with next to no room.
struct Full {
    path: PathBuf,
    _directory: TempDir,
}

impl Full {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4k", "none"]);
        assert!(mount.arg(&path).status().unwrap().success());
        fs::write(path.join("filled"), [1; 4096]).unwrap();
        Self {
            path,
            _directory: directory,
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.path).status();
        let _ = unmounted;
    }
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_move_and_is_named_at_both_ends() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let before = settings(&mut source);
    let full = Full::new();
    for (path, words) in [
        (full.path.as_path(), "no room for the journal"),
        (Path::new("/etc/passwd"), "cannot write the journal"),
        (Path::new("/proc/sealift"), "cannot write the journal"),
    ] {
        let mut waiting = trial.waiting(&launch()).unwrap();
        let mut receiver = listening(&trial.managed(&waiting)).unwrap();
        let sent = run(&trial
            .migrate(&source, PORT)
            .instead("--journal", path.as_os_str()));
        ends(&sent, STILL_AT_SOURCE, words);
        let warns = |warning: &Value| warning["message"].as_str().unwrap().contains(words);
        receiver.wait_event("warning", warns).unwrap();
        // Nothing was asked of it, and it waits for the next.
        assert_eq!(state(&mut waiting).as_deref(), Some("inmigrate"));
        receiver.kill().unwrap();

        let receive = trial
            .managed(&waiting)
            .instead("--journal", path.as_os_str());
        let receiver = listening(&receive).unwrap();
        let sent = run(&trial.migrate(&source, PORT));
        ends(&sent, REFUSED, words);
        assert_eq!(sent.last("outcome")["fault"], "peer");
        ends(&receiver.wait().unwrap(), STILL_AT_SOURCE, words);
        // It can take the guest as soon as there is room.
        assert_eq!(state(&mut waiting).as_deref(), Some("inmigrate"));
        assert_eq!(settings(&mut source), before);
    }
    runs_on(&mut source).unwrap();
}

#[test]
fn keys_that_do_not_serve_are_named_before_anything_happens() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let certificates = trial.certificates();
    let other = certificates.issue("host-q", "10.77.0.9", Validity::Now);
    let other = other.unwrap().join("client-key.pem");
    let key = certificates.path(SOURCE).join("client-key.pem");
    let send = trial.migrate(&source, PORT);
    fs::copy(&other, &key).unwrap();
    ends(
        &run(&send),
        AUTHENTICATION,
        "client-key.pem is not the key of",
    );
    fs::write(&key, "garbage").unwrap();
    ends(&run(&send), AUTHENTICATION, "holds no private key");
    fs::remove_file(&key).unwrap();
    ends(&run(&send), AUTHENTICATION, "client-key.pem is missing");
    runs_on(&mut source).unwrap();
}

#[test]
fn a_receivers_own_trouble_is_told_to_the_source() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let mut waiting = trial.waiting(&launch()).unwrap();
    let before = settings(&mut source);
    let send = trial.migrate(&source, PORT);

    let managed = trial.managed(&waiting);
    let taken = listening(&managed).unwrap();
    ends(&run(&managed), HOST, "Address already in use");
    let elsewhere = managed.clone().instead("--listen", "192.0.2.1:7325");
    ends(&run(&elsewhere), HOST, "cannot listen on 192.0.2.1:7325");
    taken.terminate().unwrap();
    taken.wait().unwrap();

    // Nobody listens where its QEMU should.
    let nobody = trial.receive(RECEIVER, PORT);
    let nobody = nobody.with(["--allow", SOURCE, "--qemu", "unix:/nowhere/in"]);
    let receiver = listening(&nobody).unwrap();
    let words = "cannot connect to QEMU's migration channel unix:/nowhere/in, tried for 10s";
    let sent = run(&send);
    ends(&sent, STILL_AT_SOURCE, words);
    assert_eq!(sent.last("outcome")["fault"], "peer");
    ends(&receiver.wait().unwrap(), STILL_AT_SOURCE, words);

    // Nor where its control socket should be.
    let deaf = managed.clone().instead("--qmp", "/nowhere/qmp");
    let receiver = listening(&deaf).unwrap();
    ends(
        &run(&send),
        STILL_AT_SOURCE,
        "control socket unix:/nowhere/qmp",
    );
    receiver.terminate().unwrap();
    ends(&receiver.wait().unwrap(), CANCELLED, "/nowhere/qmp");

    if whole_matrix() {
        let held = waiting.held_control().to_string();
        let receiver = listening(&managed.instead("--qmp", held)).unwrap();
        ends(&run(&send), STILL_AT_SOURCE, "one client at a time");
        receiver.terminate().unwrap();
        receiver.wait().unwrap();
    }
    assert_eq!(settings(&mut source), before);
    assert_eq!(state(&mut waiting).as_deref(), Some("inmigrate"));
    runs_on(&mut source).unwrap();
}

#[test]
fn a_qemu_that_migrates_already_is_left_to_it() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let slowly = json!({ "max-bandwidth": 1000, "downtime-limit": 7 });
    let qmp = source.qmp();
    qmp.execute("migrate-set-parameters", slowly).unwrap();
    let nowhere = json!({ "uri": "exec:cat > /dev/null" });
    qmp.execute("migrate", nowhere).unwrap();
    let during = settings(&mut source);
    let sent = run(&trial.migrate(&source, PORT));
    ends(&sent, STILL_AT_SOURCE, "is migrating this guest already");
    assert_eq!(settings(&mut source), during);
    let status = source.qmp().execute("query-migrate", Value::Null).unwrap();
    assert_eq!(status["status"], "active");
    runs_on(&mut source).unwrap();
}

#[test]
fn a_guest_that_has_gone_is_not_sent_again_and_one_that_has_not_come_is_not_either() {
    let trial = Trial::new().unwrap();
    let (mut source, mut waiting) = (
        trial.running(&launch()).unwrap(),
        trial.waiting(&launch()).unwrap(),
    );
    let send = trial.migrate(&source, PORT);
    let arriving = trial
        .migrate(&waiting, PORT)
        .instead("--pki", trial.certificates().path(SOURCE));
    ends(&run(&arriving), HOST, "waits for a guest, and has none");

    let receiver = listening(&trial.managed(&waiting)).unwrap();
    ends(&run(&send.clone().with(["--keep-source"])), 0, "has moved");
    receiver.wait().unwrap();
    let again = run(&send);
    ends(&again, HOST, "was migrated already");
    // Not that it is here.
    assert_eq!(again.last("outcome")["guest_at"], Value::Null);
    assert_eq!(state(&mut source).as_deref(), Some("postmigrate"));
    assert!(runs(&mut waiting));
}

#[test]
fn two_orders_for_one_guest_are_one_too_many() {
    let trial = Trial::new().unwrap();
    let (mut source, waiting) = (
        trial.running(&launch()).unwrap(),
        trial.waiting(&launch()).unwrap(),
    );
    let before = settings(&mut source);
    let send = trial.migrate(&source, PORT);
    let mut receiver = listening(&trial.managed(&waiting)).unwrap();
    let first = send.crawling().start().unwrap();
    receiver.wait_stage("pre_copy").unwrap();
    if whole_matrix() {
        ends(&run(&send), STILL_AT_SOURCE, "one client at a time");
    }
    // Somebody who presses the key again, and again.
    for _ in 0..3 {
        let _ = first.interrupt();
    }
    ends(&first.wait().unwrap(), CANCELLED, "cancelled at the source");
    ends(
        &receiver.wait().unwrap(),
        CANCELLED,
        "cancelled at the source",
    );
    assert_eq!(settings(&mut source), before);
    runs_on(&mut source).unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let trial = Trial::new().unwrap();
    let source = trial.running(&launch()).unwrap();
    let send = trial.migrate(&source, PORT);
    for (more, words) in [
        (["--max-downtime", "0ms"], "at least 1ms"),
        (["--max-downtime", "9999999h"], "at most 2000s"),
        (["--bandwidth", "1bit"], "at least 8bit"),
        (["--bandwidth", "99999999999999Gbit"], "too large"),
        (["--lanes", "0"], "1..=256"),
        (["--lanes", "1000"], "1..=256"),
        (["--suite", "rot13"], "x25519-mlkem768"),
        (["--verify", "never"], "pages"),
        (["--peer-name", ""], "neither a host name nor an address"),
        (["--backwards", "yes"], "--backwards"),
    ] {
        ends(&run(&send.clone().with(more)), USAGE, words);
    }
    for (to, words) in [
        ("fd77::2", "brackets"),
        ("10.77.0.2:0", "port"),
        ("unix:/run/x", "host"),
    ] {
        ends(&run(&send.clone().instead("--to", to)), USAGE, words);
    }
}

#[test]
fn a_byte_a_second_can_still_be_cancelled() {
    let trial = Trial::new().unwrap();
    let (mut source, waiting) = (
        trial.running(&launch()).unwrap(),
        trial.waiting(&launch()).unwrap(),
    );
    let before = settings(&mut source);
    let mut receiver = listening(&trial.managed(&waiting)).unwrap();
    let send = trial.migrate(&source, PORT).with(["--bandwidth", "8bit"]);
    let sender = send.start().unwrap();
    receiver.wait_stage("pre_copy").unwrap();
    sender.terminate().unwrap();
    ends(
        &sender.wait().unwrap(),
        CANCELLED,
        "cancelled at the source",
    );
    assert_eq!(receiver.wait().unwrap().code, Some(CANCELLED));
    assert_eq!(settings(&mut source), before);
    runs_on(&mut source).unwrap();
}

#[test]
fn a_sources_qemu_that_dies_in_pre_copy_is_named() {
    let trial = Trial::new().unwrap();
    let (mut source, mut waiting) = (
        trial.running(&launch()).unwrap(),
        trial.waiting(&launch()).unwrap(),
    );
    let mut receiver = listening(&trial.managed(&waiting)).unwrap();
    let sender = trial.migrate(&source, PORT).crawling().start().unwrap();
    receiver.wait_stage("pre_copy").unwrap();
    source.kill().unwrap();
    let (sent, received) = (sender.wait().unwrap(), receiver.wait().unwrap());
    // Not that the guest is still there.
    ends(&sent, IN_DOUBT, "the source's QEMU ended");
    ends(&received, STILL_AT_SOURCE, "the source's QEMU ended");
    assert!(!runs(&mut waiting));
}
