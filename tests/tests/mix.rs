//! The Linux guest "mix" runs, checks itself, and goes on with all its memory right on another host.

use sealift_lab::guest::Launch;
use sealift_lab::hosts::Hosts;
use sealift_lab::migration::{Plan, migrate};
use sealift_lab::mix::{Line, Load, Mix};
use sealift_lab::qemu::{self, Machine};

/// Small, so that it boots and fills soon.
const SMALL: Mix = Mix {
    load: Load::Mix,
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

#[test]
fn every_load_rewrites_and_checks_its_pages() {
    let all = qemu::all().unwrap();
    let qemu = all.last().unwrap();
    for load in [Load::Churn, Load::Random] {
        let linux = Mix { load, ..SMALL }.linux().unwrap();
        let launch = Launch::linux(qemu, &qemu.machine(Machine::Q35), &linux);
        let mut guest = launch.start().unwrap();
        guest.wait_tick(2 * guest.ticks_per_pass()).unwrap();
        let said = guest.serial().text().unwrap();
        assert!(Line::all(&said).last().unwrap().written > 0, "{load:?}");
    }
    let linux = Mix::idle().linux().unwrap();
    let launch = Launch::linux(qemu, &qemu.machine(Machine::Q35), &linux);
    launch.start().unwrap().wait_tick(2).unwrap();
}
