//! A lane goes over to new keys in mid-stream, once the receiver was told.

use std::io::Write as _;

use sealift_net::inbound::Event;
use sealift_seal::Error;
use sealift_session::control::{Direction, Epoch};

use crate::ends::{Arriving, agree, connection, way_in};
use crate::guest::{said, small};
use crate::hand_made::{HandMade, LANE};

fn ends() -> (HandMade, Arriving) {
    let keys = agree();
    let (from, to) = connection();
    (
        HandMade::new(keys.source, from),
        way_in(keys.receiver, vec![to]),
    )
}

fn announced((epoch, sealed_before): (u32, u32)) -> Epoch {
    Epoch::new(LANE, Direction::SourceToReceiver, epoch, sealed_before).unwrap()
}

fn takes(arriving: &Arriving, number: u64) {
    let batch = arriving.next();
    assert_eq!(batch.number(), number);
    assert_eq!(said(batch.entries()), said(small(number).entries()));
}

#[test]
fn a_batch_of_an_epoch_waits_for_its_announcement() {
    let (mut source, arriving) = ends();
    for number in [0, 2, 4] {
        let mut batches = source.batch(number, &small(number));
        let next = source.next_epoch();
        batches.extend(source.batch(number + 1, &small(number + 1)));
        source.stream.write_all(&batches).unwrap();
        takes(&arriving, number);
        // The lane has the next batch before it, or soon.
        arriving.inbound.announce(announced(next));
        takes(&arriving, number + 1);
    }
}

#[test]
fn an_epoch_may_be_announced_before_the_one_before_it_has_ended() {
    let (mut source, arriving) = ends();
    let before = source.batch(0, &small(0));
    let next = source.next_epoch();
    arriving.inbound.announce(announced(next));
    let after = source.batch(1, &small(1));
    source.stream.write_all(&before).unwrap();
    takes(&arriving, 0);
    source.stream.write_all(&after).unwrap();
    takes(&arriving, 1);
}

#[test]
fn an_epoch_whose_last_batch_was_withheld_does_not_end() {
    let (mut source, mut arriving) = ends();
    source.send(0, &small(0)).unwrap();
    takes(&arriving, 0);
    let _withheld = source.batch(1, &small(1));
    let next = source.next_epoch();
    arriving.inbound.announce(announced(next));
    source.send(2, &small(2)).unwrap();
    let told = arriving.next_told();
    let Event::LaneLost {
        error: Some(error), ..
    } = &told
    else {
        panic!("{told:?}");
    };
    let cut = error.get_ref().and_then(|error| error.downcast_ref());
    let expected = Error::EpochCut {
        lane: 0,
        epoch: 0,
        expected: 2,
        found: 1,
    };
    assert_eq!(cut, Some(&expected));
    let (left, _) = arriving.close();
    assert!(left.is_empty());
}

#[test]
fn closing_does_not_wait_for_an_announcement() {
    let (mut source, arriving) = ends();
    let mut batches = source.batch(0, &small(0));
    source.next_epoch();
    batches.extend(source.batch(1, &small(1)));
    source.stream.write_all(&batches).unwrap();
    takes(&arriving, 0);
    let (left, told) = arriving.close();
    assert!(left.is_empty());
    assert!(
        told.iter().all(|event| matches!(event, Event::Placed)),
        "{told:?}"
    );
}
