//! A guest that sleeps when it is moved sleeps where it arrives, and can be woken there.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use sealift_lab::guest::{Guest, Launch};
use sealift_lab::program;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::Order;
use sealift_lab::trial::{PORT, RECEIVER, Trial, incoming, listening, state, wait_state};
use serde_json::{Value, json};

/// Where the firmware puts ACPI's power management control, and what asks it for S3.
const SLEEP: &str = "o /h 0x604 0x2400";

/// Each QEMU to itself, and to the later one.
fn pairs() -> Vec<(Qemu, Qemu)> {
    let all = qemu::all().unwrap();
    let same = all.iter().map(|qemu| (qemu.clone(), qemu.clone()));
    let later = all.windows(2).map(|two| (two[0].clone(), two[1].clone()));
    same.chain(later).collect()
}

fn sleep(guest: &mut Guest) {
    let command = json!({ "command-line": SLEEP });
    guest
        .qmp()
        .execute("human-monitor-command", command)
        .unwrap();
    wait_state(guest, "suspended").unwrap();
}

/// A guest that sleeps, and a QEMU that waits for it.
fn pair(trial: &Trial, from: &Qemu, to: &Qemu) -> (Guest, Guest) {
    let machine = from.machine(Machine::Q35);
    let source = Launch::new(from, &machine).on(trial.hosts().a());
    let waiting = Launch::new(to, &machine).on(trial.hosts().b()).incoming();
    let (mut source, waiting) = (source.start().unwrap(), waiting.start().unwrap());
    source.wait_tick(2).unwrap();
    sleep(&mut source);
    (source, waiting)
}

fn moves(send: &Order, receive: &Order) {
    let receiver = listening(receive).unwrap();
    let sent = send.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
}

/// What the guest does where it arrives.
fn expected(from: &Qemu) -> &'static str {
    // 7.2 wakes a guest itself, to move it.
    match from.is_modern() {
        true => "suspended",
        false => "running",
    }
}

/// It does, and one that sleeps wakes when it is told to.
fn arrives(source: &mut Guest, destination: &mut Guest, expected: &str) {
    wait_state(destination, expected).unwrap();
    assert!(!matches!(
        state(source).as_deref(),
        Some("running" | "suspended")
    ));
    if expected == "suspended" {
        let qmp = destination.qmp();
        qmp.execute("system_wakeup", Value::Null).unwrap();
        wait_state(destination, "running").unwrap();
    }
}

#[test]
fn a_guest_asleep_arrives_asleep() {
    for (from, to) in pairs() {
        let trial = Trial::new().unwrap();
        let (mut source, mut destination) = pair(&trial, &from, &to);
        moves(&trial.migrate(&source, PORT), &trial.managed(&destination));
        arrives(&mut source, &mut destination, expected(&from));
    }
}

#[test]
fn a_guest_asleep_arrives_asleep_where_its_qemu_decides() {
    for (from, to) in pairs() {
        let trial = Trial::new().unwrap();
        let (mut source, mut destination) = pair(&trial, &from, &to);
        let receive = trial.unmanaged(&mut destination).unwrap();
        moves(&trial.migrate(&source, PORT), &receive);
        arrives(&mut source, &mut destination, expected(&from));
    }
}

#[test]
fn a_guest_asleep_whose_move_is_cancelled_sleeps_on() {
    let qemu = qemu::all().unwrap().pop().unwrap();
    let trial = Trial::new().unwrap();
    let (mut source, destination) = pair(&trial, &qemu, &qemu);
    let receiver = listening(&trial.managed(&destination)).unwrap();
    let send = trial.migrate(&source, PORT).held("before-say-drained");
    let mut sender = send.start().unwrap();
    sender.wait_held().unwrap();
    receiver.kill().unwrap();
    sender.kill().unwrap();
    wait_state(&mut source, "suspended").unwrap();
}

#[test]
fn a_guest_asleep_is_saved_and_restored_asleep() {
    let qemu = qemu::all().unwrap().pop().unwrap();
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &qemu, &qemu);
    let file = source.path("saved");
    let out = format!("unix:{}", source.path("outgoing").display());
    let certificate = trial.certificates().path(RECEIVER).join("server-cert.pem");
    let program = program::sealift().unwrap();
    let save = Order::new(trial.hosts().a(), program, "send")
        .with(["--json", "--listen", &out, "--file"])
        .with([file.as_os_str(), "--recipient".as_ref()])
        .with([&certificate]);
    let saving = listening(&save).unwrap();
    let return_path = json!({ "capability": "return-path", "state": true });
    let capabilities = json!({ "capabilities": [return_path] });
    let qmp = source.qmp();
    qmp.execute("migrate-set-capabilities", capabilities)
        .unwrap();
    qmp.execute("migrate", json!({ "uri": out })).unwrap();
    let saved = saving.wait().unwrap();
    assert_eq!(saved.code, Some(0), "{}", saved.said());

    let into = incoming(&destination);
    let uri = json!({ "uri": format!("unix:{into}") });
    let qmp = destination.qmp();
    qmp.execute("migrate-incoming", uri).unwrap();
    let restore = Order::new(trial.hosts().b(), program, "receive")
        .with(["--json", "--qemu", &format!("unix:{into}"), "--qmp"])
        .with([destination.free_control().to_string()])
        .with([
            "--pki".as_ref(),
            trial.certificates().path(RECEIVER).as_os_str(),
        ])
        .with(["--file".as_ref(), file.as_os_str()]);
    let restored = restore.start().unwrap().wait().unwrap();
    assert_eq!(restored.code, Some(0), "{}", restored.said());
    assert!(
        restored.message().contains("it sleeps"),
        "{}",
        restored.said()
    );
    arrives(&mut source, &mut destination, "suspended");
}
