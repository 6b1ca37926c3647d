//! What the engine takes for itself.

use std::time::Duration;

use allocation_counter::measure;
use sealift_pages::{Address, PageSize};
use sealift_precopy::{Engine, VersionMap};

const PAGE: u64 = 4096;
/// Pages of 256 GiB.
const LARGE: u64 = 1 << 26;

fn engine(pages: u64) -> Engine {
    let mut engine = Engine::new(&[pages], PageSize::new(4096).unwrap());
    engine.may_wait(u64::MAX);
    engine
}

fn at(page: u64) -> Address {
    Address { block: 0, page }
}

#[test]
fn a_guest_that_rewrites_everything_takes_less_than_a_twentieth_of_a_per_cent() {
    let pages = 1 << 20;
    let taken = measure(|| {
        let mut engine = engine(pages);
        for round in 1..5 {
            engine.mark(at(0), pages, false).unwrap();
            let mut out = vec![];
            engine.take(Duration::ZERO, round, pages, 0, &mut out);
            engine.round(Duration::from_secs(round));
        }
    });
    assert!(taken.bytes_max < pages * PAGE / 2000, "{taken:?}");
}

#[test]
fn a_large_guest_costs_what_is_used_of_it() {
    let taken = measure(|| {
        let mut engine = engine(LARGE);
        for gibibyte in 0..256 {
            engine.mark(at(gibibyte << 18), 10, false).unwrap();
        }
    });
    // Eight bytes for each of 16,384 chunks, and those that are used.
    assert!(taken.bytes_max < 1 << 20, "{taken:?}");
}

#[test]
fn the_last_pages_of_a_large_guest_are_found_without_a_look_at_the_others() {
    // Were each word of the map looked at, this would take minutes.
    let mut engine = engine(LARGE);
    let mut out = vec![];
    for number in 0..10_000 {
        let page = number * 7919 * 4099 % LARGE;
        engine.mark(at(page), 1, false).unwrap();
        engine.take(Duration::ZERO, number, 256, 0, &mut out);
        engine.acknowledged(number);
    }
    assert_eq!(out.len(), 10_000);
    assert!(engine.is_drained());
}

#[test]
fn a_guest_of_256_gib_that_is_rewritten_as_a_whole_is_kept_in_a_quarter_of_a_per_cent() {
    // Pages of a mark and a batch: what QEMU writes in a section, in runs, and what a batch holds of them.
    const MARKED: u64 = 1 << 12;
    const TAKEN: u64 = 1 << 8;
    const FLYING: u64 = 64;
    let taken = measure(|| {
        let mut engine = engine(LARGE);
        let mut versions = VersionMap::new(&[LARGE]);
        let mut out = vec![];
        let mut batch = 0;
        // The second has histories.
        for round in 0..2 {
            let now = Duration::from_secs(round);
            for section in 0..LARGE / MARKED {
                engine.mark(at(section * MARKED), MARKED, false).unwrap();
                for _ in 0..MARKED / TAKEN {
                    out.clear();
                    engine.take(now, batch, TAKEN, 0, &mut out);
                    for run in &out {
                        versions.stamp(run.first, run.run, batch).unwrap();
                    }
                    engine.acknowledged(batch.saturating_sub(FLYING));
                    batch += 1;
                }
            }
            engine.round(Duration::from_secs(round + 1));
        }
        // It has the whole of both.
        assert_eq!(batch, 2 * LARGE / TAKEN);
        assert_eq!(versions.newest(at(LARGE - 1)), Some(batch - 1));
    });
    assert!(taken.bytes_max < LARGE * PAGE / 400, "{taken:?}");
}
