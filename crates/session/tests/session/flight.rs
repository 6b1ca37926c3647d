//! The books of batches, against models that keep everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_session::control::{BatchRange, BatchRanges};
use sealift_session::flight::{Arrivals, Cost, Flight, NoRoom, Unaccounted};

fn ranges(numbers: &BTreeSet<u64>) -> BatchRanges {
    let mut ranges: Vec<(u64, u64)> = vec![];
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let ranges = ranges
        .into_iter()
        .map(|(first, last)| BatchRange::new(first, last).unwrap());
    BatchRanges::new("", ranges.collect()).unwrap()
}

fn one(number: u64) -> BatchRanges {
    ranges(&BTreeSet::from([number]))
}

fn cost(content: u64) -> Cost {
    Cost { content }
}

#[derive(Clone, Debug)]
enum Step {
    Allot(u16, u64),
    Send(prop::sample::Index),
    Acknowledge(Vec<prop::sample::Index>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u16, 4096..1_000_000u64).prop_map(|(channel, content)| Step::Allot(channel, content)),
        4 => any::<prop::sample::Index>().prop_map(Step::Send),
        2 => vec(any::<prop::sample::Index>(), 1..5).prop_map(Step::Acknowledge),
    ]
}

#[derive(Default)]
struct Model {
    /// Number to channel, content and, when sent, bytes on the wire.
    live: BTreeMap<u64, (u16, u64, Option<u64>)>,
    next: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_flight_is_what_was_allotted_and_has_not_come_down(steps in vec(step(), 1..60), window in 1..4_000_000u64) {
        let mut flight = Flight::new(window);
        let mut model = Model::default();
        let mut now = Duration::ZERO;
        for step in steps {
            now += Duration::from_millis(3);
            match step {
                Step::Allot(channel, content) => {
                    let own: u64 = model.live.values().filter(|batch| batch.0 == channel).map(|batch| batch.1).sum();
                    let all: u64 = model.live.values().map(|batch| batch.1).sum();
                    let sharing = model.live.values().map(|batch| batch.0).collect::<BTreeSet<_>>().len() as u64;
                    let room = own == 0 || (all < window && own < window / sharing);
                    prop_assert_eq!(flight.has_room(channel), room);
                    prop_assert_eq!(flight.allot(channel, cost(content)), Ok(model.next));
                    model.live.insert(model.next, (channel, content, None));
                    model.next += 1;
                }
                Step::Send(which) => {
                    if model.next == 0 {
                        continue;
                    }
                    let number = which.index(usize::try_from(model.next).unwrap()) as u64;
                    let sent = flight.sent(number, number + 1, now);
                    match model.live.get_mut(&number) {
                        Some((_, _, wire @ None)) => {
                            prop_assert_eq!(sent, Ok(()));
                            *wire = Some(number + 1);
                        }
                        _ => prop_assert_eq!(sent, Err(Unaccounted::NotToBeSent { number })),
                    }
                }
                Step::Acknowledge(which) => {
                    let numbers: BTreeSet<_> =
                        which.iter().map(|which| which.index(usize::try_from(model.next + 2).unwrap()) as u64).collect();
                    let before = flight.in_flight();
                    let delivered = flight.acknowledge(&ranges(&numbers), now);
                    let never = |number: &u64| *number >= model.next || matches!(model.live.get(number), Some((_, _, None)));
                    if numbers.iter().any(never) {
                        let refused = matches!(delivered, Err(Unaccounted::NeverSent { .. }));
                        prop_assert!(refused);
                        prop_assert_eq!(flight.in_flight(), before);
                    } else {
                        let down: Vec<_> = numbers.iter().filter_map(|number| model.live.remove(number)).collect();
                        let delivered = delivered.unwrap();
                        prop_assert_eq!(delivered.batches, down.len() as u64);
                        prop_assert_eq!(delivered.content, down.iter().map(|batch| batch.1).sum::<u64>());
                        prop_assert_eq!(delivered.wire, down.iter().filter_map(|batch| batch.2).sum::<u64>());
                    }
                }
            }
            let under_way = flight.in_flight();
            prop_assert_eq!(under_way.batches, model.live.len() as u64);
            prop_assert_eq!(under_way.content, model.live.values().map(|batch| batch.1).sum::<u64>());
            prop_assert_eq!(under_way.wire, model.live.values().filter_map(|batch| batch.2).sum::<u64>());
            prop_assert_eq!(flight.lowest_unacknowledged(), *model.live.keys().next().unwrap_or(&model.next));
            for number in 0..model.next + 2 {
                prop_assert_eq!(flight.is_under_way(number), model.live.contains_key(&number));
            }
        }
    }

    #[test]
    fn every_arrival_is_acknowledged_once_whatever_the_order(
        order in Just((0..90u64).collect::<Vec<_>>()).prop_shuffle(),
        takes in prop::collection::btree_set(0..90usize, 0..20),
        again in (0..90usize, 0..100u64),
    ) {
        let mut arrivals = Arrivals::new();
        let mut placed = BTreeSet::new();
        let mut acknowledged = BTreeSet::new();
        let mut take = |arrivals: &mut Arrivals| {
            while let Some(taken) = arrivals.take_ranges() {
                for range in taken.as_slice() {
                    for number in range.first()..=range.last() {
                        assert!(acknowledged.insert(number), "{number} twice");
                    }
                }
            }
            acknowledged.clone()
        };
        for (place, number) in order.into_iter().enumerate() {
            prop_assert!(arrivals.placed(number).is_ok());
            placed.insert(number);
            prop_assert!(arrivals.placed(number).is_err());
            let next = (0..).find(|number| !placed.contains(number)).unwrap();
            prop_assert_eq!(arrivals.next_in_order(), next);
            if takes.contains(&place) {
                prop_assert_eq!(take(&mut arrivals), placed.clone());
            }
            if again.0 == place {
                prop_assert_eq!(take(&mut arrivals), placed.clone());
                // The source may not have heard it.
                arrivals.tell_again(again.1);
                let mut told = BTreeSet::new();
                while let Some(taken) = arrivals.take_ranges() {
                    told.extend(taken.as_slice().iter().flat_map(|range| range.first()..=range.last()));
                }
                let expected: BTreeSet<_> = placed.range(again.1..).copied().collect();
                prop_assert_eq!(told, expected);
            }
        }
        prop_assert_eq!(take(&mut arrivals), placed);
    }
}

#[test]
fn a_channel_with_nothing_under_way_always_has_room() {
    let mut flight = Flight::new(1 << 20);
    flight.allot(0, cost(1 << 20)).unwrap();
    assert!(!flight.has_room(0));
    for channel in 1..5 {
        assert!(flight.has_room(channel));
        flight.allot(channel, cost(1 << 20)).unwrap();
        assert!(!flight.has_room(channel));
    }
    flight.set_window(64 << 20);
    assert!(flight.has_room(0));
}

#[test]
fn no_number_leaves_the_window() {
    let mut flight = Flight::new(u64::MAX);
    for number in 0..1 << 16 {
        assert!(flight.has_room(0));
        assert_eq!(flight.allot(0, cost(0)), Ok(number));
        flight.sent(number, 1, Duration::ZERO).unwrap();
    }
    let full = NoRoom {
        number: 1 << 16,
        lowest: 0,
    };
    assert!(!flight.has_room(0) && !flight.has_room(1));
    assert_eq!(flight.allot(0, cost(0)), Err(full));
    flight.acknowledge(&one(1), Duration::ZERO).unwrap();
    assert_eq!(flight.allot(0, cost(0)), Err(full));
    flight.acknowledge(&one(0), Duration::ZERO).unwrap();
    assert_eq!(flight.lowest_unacknowledged(), 2);
    assert_eq!(flight.allot(0, cost(0)), Ok(1 << 16));
}

#[test]
fn batches_of_nothing_do_not_use_the_numbers_up() {
    let mut flight = Flight::new(64 << 20);
    let mut allotted = 0;
    while flight.has_room(1) {
        flight.allot(1, cost(0)).unwrap();
        allotted += 1;
    }
    assert_eq!(allotted, 1 << 14);
    assert!(flight.has_room(2));
}

#[test]
fn more_ranges_than_a_message_holds_take_another() {
    let mut arrivals = Arrivals::new();
    for number in (1..4001).step_by(2) {
        arrivals.placed(number).unwrap();
    }
    assert_eq!(arrivals.take_ranges().unwrap().as_slice().len(), 1024);
    assert_eq!(arrivals.take_ranges().unwrap().as_slice().len(), 976);
    assert!(arrivals.take_ranges().is_none());
}

#[test]
fn nothing_arrives_beyond_the_window() {
    let mut arrivals = Arrivals::new();
    assert!(arrivals.placed(1 << 16).is_err());
    arrivals.placed((1 << 16) - 1).unwrap();
    assert!(arrivals.placed(u64::MAX).is_err());
    arrivals.placed(0).unwrap();
    arrivals.placed(1 << 16).unwrap();
}
