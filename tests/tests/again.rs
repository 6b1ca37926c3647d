//! A receiver that goes on after each guest, and whatever is ended in the middle and begun again.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::migration::goes_on;
use sealift_lab::program;
use sealift_lab::session::{Order, Session};
use sealift_lab::trial::{
    self, PORT, RECEIVER, SOURCE, Trial, incoming, listening, runs, runs_on, state, wait_state,
};
use serde_json::{Value, json};

/// Exit codes, as `sealift --help` lists them.
const REFUSED: i32 = 3;
const STILL_AT_SOURCE: i32 = 5;
const CANCELLED: i32 = 7;

fn launch() -> Launch {
    trial::launch().unwrap()
}

/// Puts the sockets of this guest's QEMU where the receiver looks for them.
fn serves(guest: &Guest, at: &Path) {
    for (name, socket) in [
        ("incoming", incoming(guest)),
        ("qmp", guest.path("free-qmp").display().to_string()),
    ] {
        let link = at.join(name);
        let _ = fs::remove_file(&link);
        symlink(socket, link).unwrap();
    }
}

#[test]
fn a_receiver_takes_one_guest_after_the_other_and_refused_ones_between_them() {
    let trial = Trial::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let receive = Order::new(trial.hosts().b(), program::sealift().unwrap(), "receive")
        .with(["--json", "--listen", &trial.to(PORT), "--allow", SOURCE])
        .with(["--qemu", &at("incoming"), "--qmp", &at("qmp")])
        .with([
            "--pki".as_ref(),
            trial.certificates().path(RECEIVER).as_os_str(),
        ])
        .with([
            "--journal".as_ref(),
            directory.path().join("journal").as_os_str(),
        ]);
    let mut receiver = listening(&receive).unwrap();
    let named = |name: &str| launch().arguments(["-name", name]);
    for name in ["web1", "web2"] {
        let mut source = trial.running(&named(name)).unwrap();
        let other = trial.waiting(&named("other")).unwrap();
        serves(&other, directory.path());
        let refused = trial.migrate(&source, PORT).start().unwrap();
        let refused = refused.wait().unwrap();
        assert_eq!(refused.code, Some(REFUSED), "{}", refused.said());
        runs_on(&mut source).unwrap();

        // One that breaks off in the middle.
        let broken = trial.waiting(&named(name)).unwrap();
        serves(&broken, directory.path());
        let mut breaks = trial.migrate(&source, PORT).crawling().start().unwrap();
        breaks.wait_stage("pre_copy").unwrap();
        breaks.kill().unwrap();
        outcomes(&mut receiver, STILL_AT_SOURCE);
        runs_on(&mut source).unwrap();

        let mut destination = trial.waiting(&named(name)).unwrap();
        serves(&destination, directory.path());
        let moved = trial.migrate(&source, PORT).start().unwrap();
        let moved = moved.wait().unwrap();
        assert_eq!(moved.code, Some(0), "{}", moved.said());
        wait_state(&mut destination, "running").unwrap();
        goes_on(&source, &mut destination).unwrap();
        outcomes(&mut receiver, 0);
    }
    receiver.terminate().unwrap();
    assert_eq!(receiver.wait().unwrap().code, Some(CANCELLED));
    // Nothing is left of sessions that came to an end everybody knows.
    let journals = fs::read_dir(directory.path().join("journal")).unwrap();
    assert_eq!(journals.count(), 0);
}

/// Its last guest has come to this.
fn outcomes(receiver: &mut Session, code: i32) {
    receiver
        .wait_event("outcome", |event| event["code"] == code)
        .unwrap();
}

#[test]
fn a_receiver_that_is_told_to_end_leaves_the_guest_at_the_source() {
    let trial = Trial::new().unwrap();
    let (mut source, mut waiting) = (
        trial.running(&launch()).unwrap(),
        trial.waiting(&launch()).unwrap(),
    );
    let mut receiver = listening(&trial.managed(&waiting)).unwrap();
    let sender = trial.migrate(&source, PORT).crawling().start().unwrap();
    receiver.wait_stage("pre_copy").unwrap();
    // Whoever manages services asks again when it takes too long.
    for _ in 0..3 {
        let _ = receiver.terminate();
    }
    let (sent, received) = (sender.wait().unwrap(), receiver.wait().unwrap());
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!(
        (sent.code, received.code),
        (Some(STILL_AT_SOURCE), Some(CANCELLED)),
        "{said}"
    );
    assert!(
        sent.message().contains("cancelled at the receiver"),
        "{said}"
    );
    runs_on(&mut source).unwrap();
    assert!(!runs(&mut waiting));
}

fn saving(trial: &Trial, source: &Guest, file: &Path) -> Session {
    let certificate = trial.certificates().path(RECEIVER).join("server-cert.pem");
    let _ = fs::remove_file(source.path("outgoing"));
    let order = Order::new(trial.hosts().a(), program::sealift().unwrap(), "send")
        .with(["--json", "--listen", &out(source), "--file"])
        .with([file.as_os_str(), "--recipient".as_ref()])
        .with([&certificate]);
    listening(&order).unwrap()
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to that");
    }
}

fn out(source: &Guest) -> String {
    format!("unix:{}", source.path("outgoing").display())
}

fn migrate(source: &mut Guest, max_bandwidth: u64) {
    let return_path = json!({ "capability": "return-path", "state": true });
    let capabilities = json!({ "capabilities": [return_path] });
    let uri = json!({ "uri": out(source) });
    let qmp = source.qmp();
    qmp.execute("migrate-set-capabilities", capabilities)
        .unwrap();
    let parameters = json!({ "max-bandwidth": max_bandwidth });
    qmp.execute("migrate-set-parameters", parameters).unwrap();
    qmp.execute("migrate", uri).unwrap();
}

#[test]
fn a_guest_whose_saving_is_killed_or_ended_runs_on_and_can_be_saved_again() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web1.sealed");
    for killed in [true, false] {
        let mut session = saving(&trial, &source, &file);
        migrate(&mut source, 4096);
        session.wait_stage("pre_copy").unwrap();
        if killed {
            session.kill().unwrap();
        } else {
            session.terminate().unwrap();
            assert_eq!(session.wait().unwrap().code, Some(CANCELLED));
        }
        assert!(!file.exists());
        // QEMU finds its channel closed.
        let gave_up = |source: &mut Guest| {
            let told = source.qmp().execute("query-migrate", Value::Null);
            told.unwrap()["status"] == "failed"
        };
        until(|| gave_up(&mut source));
        runs_on(&mut source).unwrap();
    }
    let session = saving(&trial, &source, &file);
    migrate(&mut source, 1 << 30);
    let saved = session.wait().unwrap();
    assert_eq!(saved.code, Some(0), "{}", saved.said());
    assert!(file.exists());
}

/// The channel holds the whole stream of a small guest by itself: QEMU may be done before anybody has looked at it.
#[test]
fn a_guest_that_was_sent_to_nobody_is_not_lost_sight_of() {
    let trial = Trial::new().unwrap();
    let mut source = trial.running(&launch()).unwrap();
    let out = "tcp:127.0.0.1:4444";
    let control = source.free_control().to_string();
    let send = trial.send(PORT).with(["--listen", out]);
    let sender = listening(&send.with(["--qmp", &control])).unwrap();
    let qmp = source.qmp();
    let parameters = json!({ "max-bandwidth": 1_u64 << 40, "downtime-limit": 2_000_000 });
    qmp.execute("migrate-set-parameters", parameters).unwrap();
    qmp.execute("migrate", json!({ "uri": out })).unwrap();
    let sent = sender.wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    let advice = sent.last("outcome")["advice"].as_str().unwrap();
    assert!(advice.contains("cont runs it on"), "{advice}");
    // Which of the two it is lies with QEMU: what it had written before the channel closed.
    match state(&mut source).as_deref() {
        Some("postmigrate") => {
            assert_eq!(sent.last("outcome")["guest_at"], "source_stopped");
            source.qmp().execute("cont", Value::Null).unwrap();
        }
        _ => assert_eq!(sent.last("outcome")["guest_at"], "source"),
    }
    runs_on(&mut source).unwrap();
}
