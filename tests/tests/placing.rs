//! A receiver writes the guest's memory itself, whatever backend it is of, and gives QEMU the rest of its stream.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use sealift_lab::backing::Backing;
use sealift_lab::guest::Guest;
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Qemu};
use sealift_lab::session::Ended;
use sealift_lab::trial::{self, Trial, listening, runs_on, wait_state};
use sealift_lab::whole_matrix;
use serde_json::json;

/// How a move is ordered.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    source: &'static str,
    receiver: &'static str,
}

const AUTO: Ordered = Ordered {
    source: "auto",
    receiver: "auto",
};

/// Moves a guest to this backing. Returns what both ends told.
fn moves(trial: &Trial, qemu: &Qemu, to: &Backing, by: Ordered) -> (Ended, Ended) {
    trial::spared(|| attempt(trial, qemu, to, by)).unwrap()
}

/// None when QEMU lost a write.
fn attempt(trial: &Trial, qemu: &Qemu, to: &Backing, by: Ordered) -> Option<(Ended, Ended)> {
    let mut source = trial.running(&to.private_twin().launch(qemu)).unwrap();
    let mut destination = trial.waiting(&to.launch(qemu)).unwrap();
    let receiver = trial.managed(&destination).with(["--access", by.receiver]);
    let receiver = listening(&receiver).unwrap();
    let order = trial
        .migrate(&source, trial::PORT)
        .with(["--verify", "full", "--access", by.source]);
    // The pages of a second block come late, and those that are to be checked must come before the guest stops.
    let order = match to.blocks {
        [_] => order,
        _ => order.with(["--bandwidth", "50mbit", "--max-downtime", "300ms"]),
    };
    let sent = order.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    if trial::lost_a_write(&sent) {
        return None;
    }
    let said = format!(
        "{}, {}, {by:?}\n{}{}",
        to.name,
        qemu.release(),
        sent.said(),
        received.said()
    );
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert_eq!(sent.last("verification")["full"], "equal", "{said}");
    wait_state(&mut destination, "running").unwrap();
    goes_on(&source, &mut destination).unwrap();
    assert!(!trial::runs(&mut source));
    Some((sent, received))
}

/// How each block was reached that could be, as the receiver told it.
fn told(received: &Ended) -> Vec<(String, String, String)> {
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    received
        .events
        .iter()
        .filter(|event| event["event"] == "access")
        .map(|event| {
            (
                word(&event["block"]),
                word(&event["access"]),
                word(&event["access_reason"]),
            )
        })
        .collect()
}

/// Only these blocks were placed, by this way.
fn assert_placed(received: &Ended, to: &Backing, way: &str, qemu: &Qemu) {
    let told = told(received);
    let placed: Vec<_> = told
        .iter()
        .filter(|(_, access, _)| access != "relay")
        .map(|(block, access, _)| (block.as_str(), access.as_str()))
        .collect();
    let mut expected: Vec<_> = to.blocks.iter().map(|&block| (block, way)).collect();
    // Nobody holds an old QEMU: it may stop the guest before a second block's pages could be checked.
    if !qemu.is_modern() {
        expected.truncate(placed.len().max(1));
    }
    assert_eq!(placed, expected, "{}: {told:?}", to.name);
    assert_eq!(received.last("admitted")["access"], way);
}

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

#[test]
fn pages_are_placed_in_each_kind_of_memory_and_all_of_it_is_right() {
    let trial = Trial::new().unwrap();
    for qemu in qemu::all().unwrap() {
        let backings = [
            Backing::private(),
            Backing::memfd(),
            Backing::used_file(true).unwrap(),
            Backing::used_file(false).unwrap(),
            Backing::nodes(),
            Backing::q35(),
        ];
        for backing in &backings {
            for source in ["stream", "auto"] {
                if source == "auto" || qemu.is_modern() || whole_matrix() {
                    let by = Ordered { source, ..AUTO };
                    let (_, received) = moves(&trial, &qemu, backing, by);
                    assert_placed(&received, backing, backing.way_in, &qemu);
                }
            }
        }
    }
}

#[test]
fn a_way_that_is_ordered_is_taken() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let memfd = Backing::memfd();
    for (receiver, way) in [("mapped", "mapped"), ("process", "process")] {
        let by = Ordered { receiver, ..AUTO };
        let (_, received) = moves(&trial, &qemu, &memfd, by);
        assert_placed(&received, &memfd, way, &qemu);
        // What was found is told with its reason.
        assert!(!told(&received)[0].2.is_empty());
    }
    let by = Ordered {
        receiver: "stream",
        ..AUTO
    };
    let (_, received) = moves(&trial, &qemu, &memfd, by);
    assert!(told(&received).is_empty());
    let admitted = received.last("admitted");
    assert_eq!(admitted["access"], "relay");
    assert_eq!(admitted["access_reason"], "so ordered by --access stream");
}

#[test]
fn a_way_that_is_ordered_and_not_there_refuses_the_guest_which_runs_on() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let private = Backing::private();
    let mut source = trial.running(&private.launch(&qemu)).unwrap();
    let destination = trial.waiting(&private.launch(&qemu)).unwrap();
    let receiver = trial.managed(&destination).with(["--access", "mapped"]);
    let receiver = listening(&receiver).unwrap();
    let sent = trial.migrate(&source, trial::PORT).start().unwrap();
    let sent = sent.wait().unwrap();
    assert_eq!(sent.code, Some(3), "{}", sent.said());
    assert!(
        sent.message().contains("--access mapped"),
        "{}",
        sent.message()
    );
    runs_on(&mut source).unwrap();
    drop(receiver);
}

#[test]
fn a_receiver_that_may_not_look_into_qemu_gives_it_all_by_its_stream_and_says_why() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let private = Backing::private();
    let source = trial.running(&private.launch(&qemu)).unwrap();
    let mut destination = trial.waiting(&private.launch(&qemu)).unwrap();
    let receiver = trial.managed(&destination).without_tracing();
    let receiver = listening(&receiver).unwrap();
    let order = trial
        .migrate(&source, trial::PORT)
        .with(["--verify", "full"]);
    let sent = order.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert!(told(&received).is_empty());
    let admitted = received.last("admitted");
    assert_eq!(admitted["access"], "relay");
    let why = admitted["access_reason"].as_str().unwrap();
    assert!(why.contains("CAP_SYS_PTRACE"), "{why}");
    wait_state(&mut destination, "running").unwrap();
    goes_on(&source, &mut destination).unwrap();
}

/// QEMU's own cache of pages: of a part of those that the guest rewrites, so that some go as their changes and some as they are.
const CACHE: u64 = 1 << 20;
/// The least: both ends remember no more than some twelve batches, the pages of two rounds.
const LITTLE: &str = "128MiB";
/// Rounds that are waited for: in the second the first pages are encoded.
const ROUNDS: u64 = 12;

#[test]
fn what_was_placed_is_not_named_any_more_once_the_source_s_qemu_encodes_pages_itself() {
    let trial = Trial::new().unwrap();
    let (sent, received) = trial::spared(|| moves_with_xbzrle(&trial)).unwrap();
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert_eq!(sent.last("verification")["full"], "equal", "{said}");
    // It was placed, and then was not.
    let told = told(&received);
    let ways: Vec<_> = told.iter().map(|(_, access, _)| access.as_str()).collect();
    assert_eq!(ways, ["process", "relay"], "{said}");
    assert!(told[1].2.contains("xbzrle"), "{told:?}");
}

/// None when QEMU lost a write.
fn moves_with_xbzrle(trial: &Trial) -> Option<(Ended, Ended)> {
    let private = Backing::private();
    let launch = private.launch(&newest());
    let mut source = trial.running(&launch).unwrap();
    let mut destination = trial.waiting(&launch).unwrap();
    let mut receiver = listening(&trial.managed(&destination)).unwrap();
    let listen = format!("unix:{}", source.path("outgoing").display());
    let order = trial
        .send(trial::PORT)
        .with(["--listen", &listen, "--verify", "full"])
        .with(["--qmp", &source.free_control().to_string()])
        .with(["--memory-budget", LITTLE, "--max-downtime", "1s"]);
    let mut sender = order.start().unwrap();
    sender.wait_listening().unwrap();
    let qmp = source.qmp();
    let on = ["return-path", "switchover-ack", "xbzrle"]
        .map(|name| json!({ "capability": name, "state": true }));
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": on }))
        .unwrap();
    // So slow that it does not come to an end.
    let slow = json!({ "xbzrle-cache-size": CACHE, "max-bandwidth": 4 << 20 });
    qmp.execute("migrate-set-parameters", slow).unwrap();
    qmp.execute("migrate", json!({ "uri": listen })).unwrap();
    receiver
        .wait_event("access", |event| event["access"] == "relay")
        .unwrap();
    // Some rounds more, in which pages come whole that had been placed.
    let rounds = |event: &serde_json::Value| event["round"].as_u64() > Some(ROUNDS);
    sender.wait_event("round", rounds).unwrap();
    let fast = json!({ "max-bandwidth": 1 << 30, "downtime-limit": 2000 });
    qmp.execute("migrate-set-parameters", fast).unwrap();
    let sent = sender.wait().unwrap();
    let received = receiver.wait().unwrap();
    if trial::lost_a_write(&sent) {
        return None;
    }
    if sent.code == Some(0) {
        wait_state(&mut destination, "running").unwrap();
        goes_on(&source, &mut destination).unwrap();
    }
    Some((sent, received))
}

/// Kills the destination's QEMU as soon as pages are placed there.
#[test]
fn a_qemu_that_dies_while_pages_are_placed_is_named_and_the_guest_runs_on() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    for backing in [Backing::private(), Backing::memfd()] {
        let mut source = trial
            .running(&backing.private_twin().launch(&qemu))
            .unwrap();
        let mut destination: Guest = trial.waiting(&backing.launch(&qemu)).unwrap();
        let mut receiver = listening(&trial.managed(&destination)).unwrap();
        let order = trial.migrate(&source, trial::PORT).crawling();
        let sending = order.start().unwrap();
        receiver.wait_event("access", |_| true).unwrap();
        destination.kill().unwrap();
        let (sent, received) = (sending.wait().unwrap(), receiver.wait().unwrap());
        let said = format!("{}{}", sent.said(), received.said());
        assert_eq!((sent.code, received.code), (Some(5), Some(5)), "{said}");
        let outcome = received.last("outcome");
        assert_eq!(outcome["fault"], "this_host", "{said}");
        assert!(
            outcome["message"].as_str().unwrap().contains("QEMU"),
            "{said}"
        );
        runs_on(&mut source).unwrap();
    }
}
