//! Closing ends all threads, whatever they wait for.

use std::thread;

use sealift_net::outbound::Closed;

use crate::ends::{Arriving, Out, agree, connection, joined, promptly, until, way_in, way_out};
use crate::guest::{full, small};
use crate::hand_made::HandMade;

fn nothing_is_told(arriving: Arriving) {
    let (_, told) = arriving.close();
    let lost = |event| !matches!(event, &sealift_net::inbound::Event::Placed);
    assert!(!told.iter().any(lost), "{told:?}");
}

#[test]
fn ends_that_do_nothing_close() {
    for lanes in [0, 1, 8] {
        let (mut outbound, mut told, arriving) = joined(lanes, Out::default());
        nothing_is_told(arriving);
        promptly("closing", move || outbound.close());
        assert!(told.try_recv().is_err());
    }
}

#[test]
fn feeds_that_wait_for_the_window_are_told() {
    let (mut outbound, mut told, arriving) = joined(
        1,
        Out {
            window: 1,
            ..Out::default()
        },
    );
    let feeders: Vec<_> = (0..4)
        .map(|channel| {
            let feed = outbound.feed(channel);
            feed.submit(&mut small(0)).unwrap();
            thread::spawn(move || feed.submit(&mut small(1)))
        })
        .collect();
    until("a feed waits", || outbound.standing().waiting);
    let late = outbound.feed(9);
    promptly("closing", move || outbound.close());
    for feeder in feeders {
        assert_eq!(feeder.join().unwrap(), Err(Closed));
    }
    assert_eq!(late.submit(&mut small(2)), Err(Closed));
    assert!(told.try_recv().is_err(), "it was closed from here");
    drop(arriving);
}

#[test]
fn lanes_whose_peer_does_not_read_close() {
    let (from, _silent) = (0..4).map(|_| connection()).unzip::<_, _, _, Vec<_>>();
    let (mut outbound, mut told) = way_out(agree().source, from, Out::default());
    let feed = outbound.feed(0);
    // More than the sockets take.
    for seed in 0..64 {
        feed.submit(&mut full(seed)).unwrap();
    }
    until("something is on its way", || outbound.standing().wire > 0);
    promptly("closing", move || outbound.close());
    assert!(told.try_recv().is_err(), "it was closed from here");
}

#[test]
fn lanes_that_wait_for_the_bandwidth_close() {
    let (mut outbound, mut told, arriving) = joined(
        4,
        Out {
            bandwidth: Some(1),
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    feed.submit(&mut small(0)).unwrap();
    // The first one goes at once, and an hour later the second one would.
    assert_eq!(arriving.next().number(), 0);
    for seed in 1..8 {
        feed.submit(&mut small(seed)).unwrap();
    }
    promptly("closing", move || outbound.close());
    assert!(told.try_recv().is_err(), "it was closed from here");
    drop(arriving);
}

#[test]
fn batches_that_wait_for_an_earlier_one_are_dropped() {
    let keys = agree();
    let (from, to) = connection();
    let arriving = way_in(keys.receiver, vec![to]);
    let mut source = HandMade::new(keys.source, from);
    for number in 1..9 {
        source.send(number, &small(number)).unwrap();
    }
    let held = small(0).memory() as u64 * 8;
    until("all have arrived", || arriving.placed.held() == held);
    nothing_is_told(arriving);
}

#[test]
fn a_way_in_closes_within_a_batch() {
    let keys = agree();
    let (from, to) = connection();
    let arriving = way_in(keys.receiver, vec![to]);
    let mut source = HandMade::new(keys.source, from);
    source.send(0, &small(0)).unwrap();
    let second = source.batch(1, &full(1));
    std::io::Write::write_all(&mut source.stream, &second[..second.len() / 2]).unwrap();
    assert_eq!(arriving.next().number(), 0);
    nothing_is_told(arriving);
}
