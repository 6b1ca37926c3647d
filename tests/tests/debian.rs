//! The Debian guest works, compares what its programs say, and goes on with all of it right on another host.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and these are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::debian::{Debian, audits};
use sealift_lab::guest::{Guest, Launch};
use sealift_lab::hosts::Hosts;
use sealift_lab::migration::{Plan, migrate};
use sealift_lab::mix::Line;
use sealift_lab::qemu::{self, Machine};

/// It boots, starts a database and reads a gigabyte, on an emulated processor and a busy machine.
const BOOT: Duration = Duration::from_secs(300);

fn wait_audit(guest: &mut Guest, number: u64) {
    let deadline = Instant::now() + BOOT;
    loop {
        guest.serial().progress().unwrap();
        let said = guest.serial().text().unwrap();
        if audits(&said) >= number {
            return;
        }
        guest.alive().unwrap();
        assert!(!said.contains("Kernel panic"), "it said:\n{said}");
        assert!(Instant::now() < deadline, "it said:\n{said}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "its disk takes minutes and gigabytes to make: a bench's guest"]
fn a_debian_guest_goes_on_with_its_books_right_after_it_moved() {
    let all = qemu::all().unwrap();
    let qemu = all.last().unwrap();
    let hosts = Hosts::new().unwrap();
    let debian = Debian::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let disk = debian.disk(directory.path()).unwrap();
    let machine = qemu.machine(Machine::Q35);
    let launch = Launch::linux(qemu, &machine, debian.linux()).arguments(disk);
    let mut source = launch.clone().on(hosts.a()).start().unwrap();
    wait_audit(&mut source, 1);

    let mut destination = launch.on(hosts.b()).incoming().start().unwrap();
    migrate(&mut source, &mut destination, &Plan::default()).unwrap();
    let left = source.serial().text().unwrap();
    wait_audit(&mut destination, audits(&left) + 2);
    let arrived = Line::all(&destination.serial().text().unwrap());
    assert!(arrived.last().unwrap().written > Line::all(&left).last().unwrap().written);
}
