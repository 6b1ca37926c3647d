//! Whatever dies at whichever step of the hand-off: never two guests run, and whoever is left says what is known.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

mod deaths;
mod pair;

use std::thread;

use sealift_identity::Side;
use sealift_lab::qemu;
use sealift_lab::trial::{PORT, Trial, listening, runs_on, wait_state};
use sealift_lab::whole_matrix;

use deaths::{Case, FEW, RECEIVERS, SOURCES};
use pair::Pair;
use pair::Runs::{self, AtDestination, AtSource, Nowhere};

fn each(cases: &[Case]) {
    let all = qemu::all().unwrap();
    // The newest each time, all of them in the long matrix.
    let qemus = if whole_matrix() {
        &all[..]
    } else {
        &all[all.len() - 1..]
    };
    let mut wrong = Vec::new();
    for qemu in qemus {
        for case in cases {
            if whole_matrix() || FEW.contains(&case.step) {
                let ran = std::panic::catch_unwind(|| case.run(qemu));
                if ran.is_err() {
                    wrong.push(format!("{} on {}", case.step, qemu.release()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_source_that_dies_at_any_step_leaves_at_most_one_guest() {
    each(&SOURCES);
}

#[test]
fn a_receiver_that_dies_at_any_step_leaves_at_most_one_guest() {
    each(&RECEIVERS);
}

/// For how long an end stands still, so that something else can die meanwhile.
const MEANWHILE_SECONDS: u64 = 1;

/// Whose QEMU dies while an end is held at a step, and what both ends make of it.
fn qemu_dies(side: Side, step: &str, codes: (i32, i32), survivor: &str) {
    let trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let send = pair.send(&trial);
    let receive = trial.managed(&pair.destination);
    let (send, receive) = match side {
        Side::Source => (send.held_for(step, MEANWHILE_SECONDS), receive),
        Side::Receiver => (send, receive.held_for(step, MEANWHILE_SECONDS)),
    };
    let mut receiver = listening(&receive).unwrap();
    let mut sender = send.start().unwrap();
    match side {
        Side::Source => {
            sender.wait_held().unwrap();
            sender.wait_stage("commitment").unwrap();
            pair.source.kill().unwrap();
        }
        Side::Receiver => {
            receiver.wait_held().unwrap();
            pair.destination.kill().unwrap();
        }
    }
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    let said = format!("{step}\n{}{}", sent.said(), received.said());
    assert_eq!(
        (sent.code, received.code),
        (Some(codes.0), Some(codes.1)),
        "{said}"
    );
    match (side, survivor) {
        (Side::Receiver, "running") => runs_on(&mut pair.source).unwrap(),
        (Side::Receiver, state) => wait_state(&mut pair.source, state).unwrap(),
        (Side::Source, state) => wait_state(&mut pair.destination, state).unwrap(),
    }
}

#[test]
fn a_source_qemu_that_dies_takes_no_guest_with_it_that_was_prepared() {
    qemu_dies(Side::Source, "before-shut", (6, 6), "paused");
    qemu_dies(Side::Source, "before-journal-intent", (6, 6), "paused");
    // Its last word was `completed`: the decision stands.
    qemu_dies(Side::Source, "before-say-commit", (0, 0), "running");
}

#[test]
fn a_destination_qemu_that_dies_leaves_the_guest_at_the_source() {
    qemu_dies(Side::Receiver, "before-load", (5, 5), "running");
    qemu_dies(Side::Receiver, "before-journal-prepared", (5, 5), "running");
    // It was handed over, and nobody but a person may take it back.
    qemu_dies(Side::Receiver, "before-continue", (6, 6), "postmigrate");
}

#[test]
fn pages_may_be_quicker_than_the_word_that_counts_them() {
    let trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let receiver = listening(&trial.managed(&pair.destination)).unwrap();
    let send = pair.send(&trial);
    let sender = send.held_for("before-say-drained", 1).start().unwrap();
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    assert_eq!(
        (sent.code, received.code),
        (Some(0), Some(0)),
        "{}",
        sent.said()
    );
    pair.is(AtDestination);
}

/// The link is cut while an end is held at a step; both go on, and hear nothing of each other.
fn cut(step: &str, codes: (i32, i32), expected: Runs) {
    let mut trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let mut receiver = listening(&trial.managed(&pair.destination)).unwrap();
    let send = match step {
        "" => trial.migrate(&pair.source, PORT).crawling(),
        step => pair.send(&trial).held_for(step, MEANWHILE_SECONDS),
    };
    let mut sender = send.start().unwrap();
    match step {
        "" => receiver.wait_stage("pre_copy").unwrap(),
        _ => sender.wait_held().unwrap(),
    }
    if step.ends_with("intent") {
        // It is journaled while the receiver still loads.
        sender.wait_stage("commitment").unwrap();
    }
    trial.hosts_mut().cut().unwrap();
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    let said = format!("{step}\n{}{}", sent.said(), received.said());
    assert_eq!(
        (sent.code, received.code),
        (Some(codes.0), Some(codes.1)),
        "{said}"
    );
    pair.is(expected);
}

/// Each waits until the peer was silent for too long, so all of them wait at once.
#[test]
fn a_link_that_is_cut_leaves_at_most_one_guest() {
    let few: &[(&str, (i32, i32), Runs)] = &[
        ("", (5, 5), AtSource),
        ("before-say-commit", (6, 6), Nowhere),
    ];
    let others: &[(&str, (i32, i32), Runs)] = &[
        ("before-say-drained", (5, 5), AtSource),
        ("before-journal-intent", (6, 6), Nowhere),
        ("before-shut", (6, 6), Nowhere),
        ("before-say-done", (0, 0), AtDestination),
    ];
    let cases = few.iter().chain(others.iter().filter(|_| whole_matrix()));
    thread::scope(|scope| {
        for &(step, codes, expected) in cases {
            scope.spawn(move || cut(step, codes, expected));
        }
    });
}
