//! The Linux guest "mix" runs, checks itself, and goes on with all its memory right on another host.

use sealift_lab::guest::Launch;
use sealift_lab::hosts::Hosts;
use sealift_lab::migration::{Plan, migrate};
use sealift_lab::mix::{Line, Mix};
use sealift_lab::qemu::{self, Machine};

/// Small, so that it boots and fills soon.
const SMALL: Mix = Mix {
    mib: 32,
    rate: 500,
    hot_mib: 8,
};

#[test]
fn mix_checks_and_rewrites_its_pages_before_and_after_it_moves() {
    let all = qemu::all().unwrap();
    let qemu = all.last().unwrap();
    let hosts = Hosts::new().unwrap();
    let launch = Launch::linux(qemu, &qemu.machine(Machine::Q35), &SMALL.linux().unwrap());
    let mut source = launch.clone().on(hosts.a()).start().unwrap();
    let pass = source.ticks_per_pass();
    source.wait_tick(2 * pass).unwrap();
    let before = *Line::all(&source.serial().text().unwrap()).last().unwrap();
    assert!(before.checked >= 2 * SMALL.pages());
    assert!(before.written > 0);

    let mut destination = launch.on(hosts.b()).incoming().start().unwrap();
    migrate(&mut source, &mut destination, &Plan::default()).unwrap();

    let after = *Line::all(&destination.serial().text().unwrap())
        .last()
        .unwrap();
    assert!(
        after.checked > before.checked + SMALL.pages(),
        "each page was checked again"
    );
    assert!(after.written > before.written && after.at > before.at);
    assert_eq!(after.bad, 0);
}
