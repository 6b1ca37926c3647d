//! Moves over IPv6, to a name, and to the default port.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use sealift_lab::certificates::Validity;
use sealift_lab::guest::{Guest, Launch};
use sealift_lab::migration::goes_on;
use sealift_lab::program;
use sealift_lab::qemu::{self, Machine};
use sealift_lab::session::Order;
use sealift_lab::trial::{PORT, RECEIVER, SOURCE, Trial, listening, runs, wait_state};
use serde_json::json;

fn pair(trial: &Trial) -> (Guest, Guest) {
    let qemu = qemu::all().unwrap().pop().unwrap();
    let launch = Launch::new(&qemu, &qemu.machine(Machine::Q35));
    let source = launch.clone().on(trial.hosts().a()).start();
    let waiting = launch.on(trial.hosts().b()).incoming().start();
    let (mut source, waiting) = (source.unwrap(), waiting.unwrap());
    source.wait_tick(2).unwrap();
    (source, waiting)
}

/// By `sealift migrate`.
fn migrates(trial: &Trial, listen: &str, to: &str, more: &[&str]) {
    let (mut source, mut waiting) = pair(trial);
    let receive = trial.managed(&waiting).instead("--listen", listen);
    let receiver = listening(&receive).unwrap();
    let send = trial.migrate(&source, PORT).instead("--to", to).with(more);
    let sent = send.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    let said = format!("{listen} {to}\n{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    wait_state(&mut waiting, "running").unwrap();
    goes_on(&source, &mut waiting).unwrap();
    assert!(!runs(&mut source));
}

/// By `sealift send`, with QEMU's own connections by this address as well.
fn sends(trial: &Trial, listen: &str, to: &str, local: &str) {
    let (mut source, mut waiting) = pair(trial);
    let (out, into) = (format!("tcp:{local}:4444"), format!("tcp:{local}:4445"));
    let capabilities = json!({ "capabilities": [{ "capability": "return-path", "state": true }] });
    let uri = json!({ "uri": into });
    let qmp = waiting.qmp();
    qmp.execute("migrate-incoming", uri).unwrap();
    let receive = trial.receive(RECEIVER, PORT).instead("--listen", listen);
    let receive = receive.with(["--allow", SOURCE, "--qemu", &into]);
    let receiver = listening(&receive).unwrap();
    let send = trial.send(PORT).instead("--to", to);
    let sender = listening(&send.with(["--listen", &out])).unwrap();
    let qmp = source.qmp();
    qmp.execute("migrate-set-capabilities", capabilities)
        .unwrap();
    qmp.execute("migrate", json!({ "uri": out })).unwrap();
    let (sent, received) = (sender.wait().unwrap(), receiver.wait().unwrap());
    let said = format!("{listen} {to}\n{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    wait_state(&mut waiting, "running").unwrap();
    goes_on(&source, &mut waiting).unwrap();
}

/// A stage whose receiver is called by its IPv6 address as well.
fn trial() -> Trial {
    let trial = Trial::new().unwrap();
    let address = trial.hosts().b().ipv6().to_string();
    let (certificates, name) = (trial.certificates(), "six");
    let files = certificates.issue(name, &address, Validity::Now).unwrap();
    for file in ["server-cert.pem", "server-key.pem"] {
        let to = certificates.path(RECEIVER).join(file);
        std::fs::copy(files.join(file), to).unwrap();
    }
    trial
}

#[test]
fn a_guest_moves_over_ipv6() {
    let trial = trial();
    let address = trial.hosts().b().ipv6();
    let endpoint = format!("[{address}]:{PORT}");
    migrates(&trial, &endpoint, &endpoint, &[]);
    sends(&trial, &endpoint, &endpoint, "[::1]");
}

#[test]
fn the_port_may_be_left_out_at_both_ends() {
    let trial = trial();
    let address = trial.hosts().b().ipv6();
    // Both families, as without --listen.
    migrates(&trial, "[::]", &format!("[{address}]"), &[]);
    let four = trial.hosts().b().ipv4().to_string();
    migrates(&trial, "[::]", &four, &["--peer-name", "six"]);
    migrates(
        &trial,
        "[::]",
        &format!("[{address}]"),
        &["--peer-name", "six"],
    );
}

#[test]
fn a_receiver_may_be_named() {
    let trial = trial();
    // Both ends on one host: the one name that is known there.
    let (source, mut waiting) = pair(&trial);
    let program = program::sealift().unwrap();
    let files = trial.certificates().path(SOURCE);
    let qmp = source.free_control().to_string();
    for (peer, code) in [("host-c", 4), ("six", 0)] {
        let receiver =
            listening(&trial.managed(&waiting).instead("--listen", "localhost")).unwrap();
        let send = Order::new(trial.hosts().b(), program, "migrate")
            .with(["--json", "--qmp", &qmp, "--to", "localhost"])
            .with(["--pki".as_ref(), files.as_os_str()])
            .with(["--journal".as_ref(), source.path("journal").as_os_str()])
            .with(["--peer-name", peer]);
        let sent = send.start().unwrap().wait().unwrap();
        assert_eq!(sent.code, Some(code), "{}", sent.said());
        if code == 0 {
            assert_eq!(receiver.wait().unwrap().code, Some(0));
        }
    }
    wait_state(&mut waiting, "running").unwrap();
    goes_on(&source, &mut waiting).unwrap();
}
