//! A guest moves between two real QEMUs through the tap and goes on with all its memory right.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share a function, and it is a test as well"
)]

use sealift_lab::guest::Launch;
use sealift_lab::migration::{Plan, migrate};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::whole_matrix;

/// Three rounds, so that pages are sent again while the guest goes on writing.
fn plan() -> Plan {
    Plan {
        capabilities: vec!["return-path"],
        rounds: 3,
        ..Plan::default()
    }
}

fn move_guest(from: &Qemu, to: &Qemu, machine: &str) {
    let mut source = Launch::new(from, machine).start().unwrap();
    source.wait_tick(2).unwrap();
    let mut destination = Launch::new(to, machine).incoming().start().unwrap();

    let recordings = migrate(&mut source, &mut destination, &plan()).unwrap();

    let [main] = recordings.as_slice() else {
        panic!("one connection, not {}", recordings.len())
    };
    assert!(std::fs::read(&main.forward).unwrap().starts_with(b"QEVM"));
    let shut = [0, 1, 0, 4, 0, 0, 0, 0];
    assert!(
        std::fs::read(&main.back).unwrap().ends_with(&shut),
        "the return path ends with SHUT 0"
    );
}

#[test]
fn a_guest_goes_on_after_moving_on_each_qemu() {
    let machines = if whole_matrix() {
        &[Machine::I440fx, Machine::Q35, Machine::Microvm][..]
    } else {
        &[Machine::I440fx]
    };
    for qemu in qemu::all().unwrap() {
        for machine in machines {
            move_guest(&qemu, &qemu, &qemu.machine(*machine));
        }
    }
}

#[test]
fn a_guest_goes_on_after_moving_to_a_later_qemu() {
    let all = qemu::all().unwrap();
    // With one QEMU on the machine there is no later one; `all` has said so.
    for pair in all.windows(2) {
        move_guest(&pair[0], &pair[1], &pair[0].machine(Machine::Q35));
    }
}
