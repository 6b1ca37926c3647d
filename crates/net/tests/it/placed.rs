//! The book of what was placed: its owner hears of everything, and of nothing twice.

use std::thread;

use sealift_net::inbound::{Event, Placed};
use sealift_session::control::BatchRanges;
use tokio::sync::mpsc::unbounded_channel;

fn numbers(ranges: &BatchRanges) -> u64 {
    let each = ranges.as_slice().iter();
    each.map(|range| range.last() - range.first() + 1).sum()
}

#[test]
fn what_is_placed_is_told_once_until_somebody_has_come_for_it() {
    let (events, mut told) = unbounded_channel();
    let placed = Placed::new(events);
    for number in [2, 0, 1] {
        placed.done(number, 0);
    }
    assert!(matches!(told.try_recv(), Ok(Event::Placed)));
    assert!(told.try_recv().is_err());
    assert_eq!(placed.floor(), 3);
    assert_eq!(numbers(&placed.take_ranges().unwrap()), 3);
    // Whoever came is not done yet, and will find it.
    placed.done(3, 0);
    assert!(told.try_recv().is_err());
    assert_eq!(numbers(&placed.take_ranges().unwrap()), 1);
    assert!(placed.take_ranges().is_none());
    placed.done(4, 0);
    assert!(matches!(told.try_recv(), Ok(Event::Placed)));
}

#[test]
fn whatever_many_threads_place_is_acknowledged() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;
    let (events, mut told) = unbounded_channel();
    let placed = Placed::new(events);
    for thread in 0..THREADS {
        let placed = placed.clone();
        thread::spawn(move || {
            for number in 0..EACH {
                placed.done(number * THREADS + thread, 0);
            }
        });
    }
    // Only what is told makes the owner look.
    let mut acknowledged = 0;
    while acknowledged < THREADS * EACH {
        let Event::Placed = crate::ends::next(&mut told) else {
            panic!("nothing else happens");
        };
        while let Some(ranges) = placed.take_ranges() {
            acknowledged += numbers(&ranges);
        }
    }
    assert_eq!(acknowledged, THREADS * EACH);
    assert_eq!(placed.floor(), THREADS * EACH);
}
