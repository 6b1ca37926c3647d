//! Connections that break again and again: whatever was fed in comes out all the same, once, equal and in order.

use std::collections::BTreeMap;
use std::thread;

use sealift_lab::both_ends::BothEnds;
use sealift_net::inbound::{self, Event};
use sealift_net::outbound::{self, Outbound};
use sealift_session::control::{Bytes, Resume};

use crate::ends::{Arriving, Out, agree_with, connection, joined};
use crate::guest::{Chance, Said, anything, in_order, said};

const LANES: u8 = 3;

/// Breaks all connections and makes others, under other keys.
fn reconnect(outbound: &mut Outbound, arriving: &mut Arriving, seed: u64) -> u64 {
    outbound.interrupt();
    arriving.inbound.interrupt();
    let lowest = outbound.lowest_unacknowledged();
    arriving.placed.tell_again(lowest);
    let (floor, seen) = arriving.inbound.seen();
    assert!(floor >= lowest, "what is acknowledged has been seen");
    let theirs = Resume {
        heard: 0,
        lowest: floor,
        seen: Bytes::new("", seen).unwrap(),
    };
    let BothEnds {
        mut source,
        mut receiver,
        ..
    } = agree_with(seed);
    let (mut from, mut to) = (vec![], vec![]);
    for lane in 0..LANES {
        let (ours, others) = connection();
        let sealer = source.sealer(lane).unwrap();
        let opener = receiver.opener(lane, sealer.epoch()).unwrap();
        from.push(outbound::Lane {
            way: outbound::Way::Peer(ours),
            sealer,
        });
        to.push(inbound::Lane {
            way: inbound::Way::Peer(others),
            opener,
        });
    }
    arriving.inbound.resume(receiver, to).unwrap();
    outbound
        .resume(source, from, |number| theirs.has_seen(number))
        .unwrap()
}

#[test]
fn what_was_lost_goes_again_and_nothing_comes_twice() {
    const BATCHES: u64 = 240;
    let (mut outbound, _told, mut arriving) = joined(
        LANES.into(),
        Out {
            window: 3 << 20,
            // So slow that something is always on its way.
            bandwidth: Some(40 << 20),
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    let feeder = thread::spawn(move || {
        let mut chance = Chance::new(5);
        let batch = |_| {
            let mut draft = anything(&mut chance);
            let what = in_order(said(draft.entries()));
            (feed.submit(&mut draft).unwrap(), what)
        };
        (0..BATCHES)
            .map(batch)
            .collect::<BTreeMap<u64, Vec<Said>>>()
    });
    let mut chance = Chance::new(77);
    let mut arrived = BTreeMap::new();
    let (mut breaks, mut again) = (0, 0);
    for number in 0..BATCHES {
        let batch = arriving.next();
        assert_eq!(batch.number(), number, "batches are placed in order");
        batch.verify().unwrap();
        arrived.insert(number, in_order(said(batch.entries())));
        arriving.done(&batch);
        if chance.below(12) == 0 {
            // What was said last may never have been heard.
            if chance.below(2) == 0 {
                while arriving.placed.take_ranges().is_some() {}
            }
            breaks += 1;
            again += reconnect(&mut outbound, &mut arriving, 100 + breaks);
        }
        arriving.acknowledge(&outbound);
    }
    assert!(
        feeder.join().unwrap() == arrived,
        "what arrives is what was sent"
    );
    assert!(breaks > 5 && again > 0, "{breaks} breaks, {again} again");
    let standing = outbound.standing();
    assert_eq!(standing.delivered.batches, BATCHES);
    assert_eq!(standing.in_flight.batches, 0);
    assert_eq!(arriving.inbound.versions()(), outbound.feed(0).versions());
    assert_eq!(arriving.placed.held(), 0);
    let (left, told) = arriving.close();
    assert!(left.is_empty(), "nothing comes twice");
    let lost = |event: &Event| matches!(event, Event::Placed | Event::LaneLost { .. });
    assert!(told.iter().all(lost), "{told:?}");
}

#[test]
fn without_connections_batches_wait_and_the_window_bounds_them() {
    let (mut outbound, _told, mut arriving) = joined(
        LANES.into(),
        Out {
            window: 2 << 20,
            ..Out::default()
        },
    );
    outbound.interrupt();
    arriving.inbound.interrupt();
    let feed = outbound.feed(0);
    let feeder = thread::spawn(move || {
        let mut chance = Chance::new(9);
        for _ in 0..60 {
            feed.submit(&mut anything(&mut chance)).unwrap();
        }
    });
    crate::ends::until("the window is full", || outbound.standing().waiting);
    let standing = outbound.standing();
    assert!(standing.in_flight.content < 4 << 20, "{standing:?}");
    assert_eq!(standing.wire, 0);
    reconnect(&mut outbound, &mut arriving, 3);
    for number in 0..60 {
        let batch = arriving.next();
        assert_eq!(batch.number(), number);
        arriving.done(&batch);
        arriving.acknowledge(&outbound);
    }
    feeder.join().unwrap();
}
