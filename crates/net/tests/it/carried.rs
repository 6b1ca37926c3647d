//! Whatever is fed in comes out, once, equal and in order.

use std::collections::BTreeMap;
use std::thread;

use sealift_net::inbound::Event;
use sealift_net::outbound::Feed;

use crate::ends::{Arriving, Out, joined, until};
use crate::guest::{Chance, Said, anything, in_order, said, scattered_zeros, small};

/// Feeds batches of anything, and returns what each said.
fn feed(feed: &Feed, seed: u64, batches: usize) -> BTreeMap<u64, Vec<Said>> {
    let mut chance = Chance::new(seed);
    (0..batches)
        .map(|_| {
            let mut draft = anything(&mut chance);
            let what = in_order(said(draft.entries()));
            (feed.submit(&mut draft).unwrap(), what)
        })
        .collect()
}

fn through(lanes: usize) {
    const CHANNELS: u16 = 3;
    const BATCHES: usize = 40;
    let (outbound, mut told, arriving) = joined(
        lanes,
        Out {
            // Narrow, so that it fills and is freed many times over.
            window: 2 << 20,
            ..Out::default()
        },
    );
    let feeders: Vec<_> = (0..CHANNELS)
        .map(|channel| {
            let channel_feed = outbound.feed(channel);
            thread::spawn(move || feed(&channel_feed, channel.into(), BATCHES))
        })
        .collect();
    let all = u64::from(CHANNELS) * BATCHES as u64;
    let mut arrived = BTreeMap::new();
    for number in 0..all {
        let batch = arriving.next();
        assert_eq!(batch.number(), number, "batches are placed in order");
        batch.verify().unwrap();
        arrived.insert(number, in_order(said(batch.entries())));
        arriving.done(&batch);
        arriving.acknowledge(&outbound);
    }
    let mut sent = BTreeMap::new();
    for feeder in feeders {
        sent.append(&mut feeder.join().unwrap());
    }
    assert!(sent == arrived, "what arrives is what was sent");

    let pages = |batch: &Vec<Said>| {
        let is_page = |said: &&Said| matches!(said, Said::Page(..) | Said::Zero(..));
        batch.iter().filter(is_page).count() as u64
    };
    let pages: u64 = sent.values().map(pages).sum();
    assert_eq!(arriving.inbound.standing().pages, pages);
    assert_eq!(arriving.inbound.versions()(), outbound.feed(0).versions());
    let standing = outbound.standing();
    assert_eq!(standing.batches, all);
    assert_eq!(standing.delivered.batches, all);
    assert_eq!(standing.in_flight.batches, 0);
    assert_eq!(arriving.placed.held(), 0);
    // A lane counts a batch when it is written, which is about when it is acknowledged.
    until("both ends count the same bytes on the wire", || {
        outbound.standing().wire == arriving.inbound.standing().wire
    });
    assert!(told.try_recv().is_err());
    let (left, told) = arriving.close();
    assert!(left.is_empty(), "nothing comes twice");
    let placed = told.iter().all(|event| matches!(event, Event::Placed));
    assert!(placed, "{told:?}");
}

#[test]
fn every_page_arrives_once_and_equal_through_one_lane() {
    through(1);
}

#[test]
fn every_page_arrives_once_and_equal_through_two_lanes() {
    through(2);
}

#[test]
fn every_page_arrives_once_and_equal_through_eight_lanes() {
    through(8);
}

#[test]
fn batches_are_placed_in_order_whichever_lane_is_first() {
    let (outbound, _told, arriving) = joined(8, Out::default());
    let feed = outbound.feed(0);
    // Large and small ones in turn: the small ones overtake.
    for number in 0..200 {
        let mut draft = if number % 10 == 0 {
            scattered_zeros()
        } else {
            small(number)
        };
        assert_eq!(feed.submit(&mut draft), Ok(number));
    }
    take(&arriving, 200);
}

fn take(arriving: &Arriving, batches: u64) {
    for number in 0..batches {
        assert_eq!(arriving.next().number(), number);
    }
}
