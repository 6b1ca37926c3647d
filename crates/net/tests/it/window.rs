//! What is on its way is bounded, at both ends, whatever the other one does.

use std::sync::mpsc::channel;
use std::thread;

use sealift_net::inbound::{Broken, Event};
use sealift_net::outbound::Closed;
use sealift_pages::Draft;
use sealift_session::flight::HELD_MAX;

use crate::ends::{Out, PATIENCE, agree, connection, joined, promptly, until, way_in, way_out};
use crate::guest::{full, scattered_zeros, small};
use crate::hand_made::HandMade;

/// What [`full`] drafts take: 1 MiB of pages, and what describes them.
fn size() -> u64 {
    full(0).memory() as u64
}

#[test]
fn a_feed_waits_for_the_window_and_goes_on_when_a_batch_is_acknowledged() {
    let (outbound, _told, arriving) = joined(
        1,
        Out {
            window: 2 * size(),
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    let (numbers, submitted) = channel();
    let feeder = thread::spawn(move || {
        for seed in 0..6 {
            numbers.send(feed.submit(&mut full(seed)).unwrap()).unwrap();
        }
    });
    let next = || submitted.recv_timeout(PATIENCE).unwrap();
    assert_eq!((next(), next()), (0, 1));
    for number in 0..4 {
        until("the feed waits", || outbound.standing().waiting);
        // It has arrived and is placed, but nobody has said so: the feed waits on.
        let batch = arriving.next();
        arriving.done(&batch);
        assert!(submitted.try_recv().is_err());
        assert!(outbound.standing().in_flight.content >= 2 * size());
        arriving.acknowledge(&outbound);
        assert_eq!(next(), number + 2);
    }
    feeder.join().unwrap();
}

#[test]
fn a_wider_window_lets_a_feed_go_on() {
    let (outbound, _told, _arriving) = joined(
        1,
        Out {
            window: 1,
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    feed.submit(&mut small(0)).unwrap();
    let feeder = thread::spawn(move || feed.submit(&mut small(1)));
    until("the feed waits", || outbound.standing().waiting);
    outbound.set_window(1 << 20);
    assert_eq!(feeder.join().unwrap(), Ok(1));
}

#[test]
fn a_receiver_that_stops_reading_stops_the_source() {
    const WINDOW: u64 = 16 << 20;
    let (from, silent) = connection();
    let (mut outbound, _told) = way_out(
        agree().source,
        vec![from],
        Out {
            window: WINDOW,
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    let feeder = thread::spawn(move || {
        for seed in 0.. {
            feed.submit(&mut full(seed))?;
        }
        Ok::<_, Closed>(())
    });
    until("the feed waits", || outbound.standing().waiting);
    let standing = outbound.standing();
    assert_eq!(standing.batches, WINDOW.div_ceil(size()));
    assert_eq!(standing.in_flight.batches, standing.batches);
    assert!(standing.in_flight.content < WINDOW + size());
    promptly("closing the way out", move || outbound.close());
    assert_eq!(feeder.join().unwrap(), Err(Closed));
    drop(silent);
}

/// A source without a window of its own, whose first batch never comes: all others wait for it.
fn flood(draft: Draft) {
    let keys = agree();
    let (from, to) = connection();
    let mut arriving = way_in(keys.receiver, vec![to]);
    let most = HELD_MAX + 2 * draft.memory() as u64 + (4 << 20);
    let source = thread::spawn(move || {
        let mut source = HandMade::new(keys.source, from);
        // Until the receiver has closed the lane.
        (1..).try_for_each(|number| source.send(number, &draft))
    });
    match arriving.next_told() {
        Event::Broken(Broken::TooMuch { held }) => {
            assert!((HELD_MAX..most).contains(&held), "{held}");
        }
        other => panic!("{other:?}"),
    }
    let (left, told) = arriving.close();
    assert!(left.is_empty());
    assert!(told.is_empty(), "it is said once: {told:?}");
    source.join().unwrap().unwrap_err();
}

#[test]
fn a_source_that_sends_more_than_it_may_is_ended() {
    flood(full(1));
}

#[test]
fn what_describes_pages_counts_as_what_they_hold_does() {
    flood(scattered_zeros());
}
