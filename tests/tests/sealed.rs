//! A guest goes on from a stream that was taken apart, sealed, opened and put together again.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share a function, and it is a test as well"
)]

use sealift_lab::fixtures::fixtures;
use sealift_lab::guest::Launch;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::{reload, sealed, whole_matrix};

fn reload(qemu: &Qemu, machine: Machine) {
    let launch = Launch::new(qemu, &qemu.machine(machine));
    let mut source = launch.start().unwrap();
    source.wait_tick(2).unwrap();
    let stream = reload::capture(&mut source).unwrap();
    let stopped = source.serial().progress().unwrap();

    let again = sealed::open(sealed::seal(&stream).unwrap()).unwrap();
    assert!(again == stream, "byte for byte");

    let mut destination = launch.incoming().start().unwrap();
    reload::load(&mut destination, &again).unwrap();
    let every_page = stopped.tick + destination.ticks_per_pass() + 1;
    destination.wait_tick(every_page).unwrap();
}

#[test]
fn a_guest_runs_on_after_its_stream_was_sealed_and_opened() {
    let machines = if whole_matrix() {
        &[Machine::I440fx, Machine::Q35, Machine::Microvm][..]
    } else {
        &[Machine::I440fx]
    };
    for qemu in qemu::all().unwrap() {
        for machine in machines {
            reload(&qemu, *machine);
        }
    }
}

/// Whatever else a stream holds: those whose pages come plain through the main channel, from real QEMUs.
///
/// Not byte for byte come those that switched to post-copy: there QEMU names a page's block again where it need not.
#[test]
fn captured_streams_come_out_as_they_went_in() {
    let mut tried = 0;
    for fixture in fixtures().unwrap() {
        let plain = ["xbzrle", "compress"]
            .iter()
            .all(|kind| !fixture.name.ends_with(kind));
        if plain && !fixture.post_copy {
            let stream = fixture.main().unwrap();
            let sealed = sealed::seal(&stream).unwrap();
            assert!(!sealed.batches.is_empty());
            assert!(sealed::open(sealed).unwrap() == stream, "{}", fixture.name);
            // Cut off within a record, as a broken connection leaves it.
            let cut = &stream[..stream.len() / 3 + 1];
            let again = sealed::open(sealed::seal(cut).unwrap()).unwrap();
            assert!(again == cut, "{} cut off", fixture.name);
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}
