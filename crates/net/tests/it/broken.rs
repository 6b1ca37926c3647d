//! Batches that were altered, cut or made wrongly: the session learns of it once, and nothing of them is placed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use sealift_net::{inbound, outbound};
use sealift_pages::{Draft, PAGE_SIZE_MIN};
use sealift_seal::{Header, TAG_LENGTH};

use crate::ends::{Out, agree, connection, joined, next, promptly, until, way_in, way_out};
use crate::guest::{full, page_size, said, small};
use crate::hand_made::HandMade;

/// Carries a lane's bytes on, with the lowest bit of one of them flipped.
fn flip(mut from: TcpStream, mut to: TcpStream, place: usize) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(byte) = place
            .checked_sub(passed)
            .and_then(|at| buffer[..read].get_mut(at))
        {
            *byte ^= 1;
        }
        passed += read;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}

fn flipped(place: usize) {
    let keys = agree();
    let (from, into_proxy) = connection();
    let (out_of_proxy, to) = connection();
    let proxy = thread::spawn(move || flip(into_proxy, out_of_proxy, place));
    let (outbound, _told) = way_out(keys.source, vec![from], Out::default());
    let mut arriving = way_in(keys.receiver, vec![to]);
    let feed = outbound.feed(0);
    // More than one, so that a length that has grown is found out too.
    for seed in 0..3 {
        feed.submit(&mut full(seed)).unwrap();
    }
    let told = arriving.next_told();
    let inbound::Event::LaneLost {
        error: Some(error), ..
    } = &told
    else {
        panic!("byte {place}: {told:?}");
    };
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidData,
        "byte {place}: {told:?}"
    );
    let (left, told) = arriving.close();
    assert!(left.is_empty(), "nothing of it is placed");
    assert!(told.is_empty(), "it is said once: {told:?}");
    drop(outbound);
    proxy.join().unwrap();
}

#[test]
fn a_bit_that_is_flipped_on_the_way_ends_the_lane_and_nothing_is_placed() {
    let body = Header::LENGTH + full(0).content_len() / 2;
    // Each byte of the header but those of the epoch: for keys that were not announced the lane waits a while.
    for place in (0..4).chain(8..Header::LENGTH).chain([body]) {
        flipped(place);
    }
}

#[test]
fn a_lane_that_is_cut_within_a_batch_is_lost_and_one_that_ends_behind_it_too() {
    let whole = {
        let keys = agree();
        let mut source = HandMade::new(keys.source, connection().0);
        source.batch(1, &small(1)).len()
    };
    for cut in [
        1,
        Header::LENGTH,
        Header::LENGTH + 1,
        whole - TAG_LENGTH,
        whole - 1,
        whole,
    ] {
        let keys = agree();
        let (from, to) = connection();
        let mut arriving = way_in(keys.receiver, vec![to]);
        let mut source = HandMade::new(keys.source, from);
        source.send(0, &small(0)).unwrap();
        let second = source.batch(1, &small(1));
        source.stream.write_all(&second[..cut]).unwrap();
        drop(source);
        match arriving.next_told() {
            inbound::Event::LaneLost { lane: 0, error } => {
                assert_eq!(error.is_none(), cut == whole, "cut at {cut}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
        let batch = arriving.next();
        assert_eq!(said(batch.entries()), said(small(0).entries()));
        if cut == whole {
            assert_eq!(arriving.next().number(), 1);
        }
        let (left, _) = arriving.close();
        assert!(left.is_empty());
    }
}

#[test]
fn a_lane_that_the_receiver_cuts_is_lost_and_the_others_go_on() {
    let keys = agree();
    let (first, to_first) = connection();
    let (second, to_second) = connection();
    let (outbound, mut told) = way_out(keys.source, vec![first, second], Out::default());
    to_first.shutdown(Shutdown::Both).unwrap();
    drop(to_first);
    let reader = thread::spawn(move || std::io::copy(&mut &to_second, &mut std::io::sink()));
    let feed = outbound.feed(0);
    let mut numbers = 0..;
    // The first write into a connection that is gone succeeds; one of the next says so.
    let lost = loop {
        feed.submit(&mut small(numbers.next().unwrap())).unwrap();
        if let Ok(event) = told.try_recv() {
            break event;
        }
        thread::yield_now();
    };
    assert!(
        matches!(lost, outbound::Event::LaneLost { lane: 0, .. }),
        "{lost:?}"
    );
    let before = outbound.standing().wire;
    // Pages that none of the others had.
    feed.submit(&mut full(1 << 32)).unwrap();
    until("the other lane carries on", || {
        outbound.standing().wire > before + (1 << 20)
    });
    assert!(told.try_recv().is_err());
    drop(outbound);
    reader.join().unwrap().unwrap();
}

#[test]
fn a_batch_that_cannot_be_encoded_ends_the_way_out_and_is_reported_once() {
    let (outbound, mut told, _arriving) = joined(
        2,
        Out {
            workers: 4,
            ..Out::default()
        },
    );
    let feed = outbound.feed(0);
    let wrong = || {
        let mut draft = Draft::new(page_size());
        let at = sealift_pages::Address { block: 1, page: 0 };
        draft.page(at, &[1; PAGE_SIZE_MIN - 1]).unwrap();
        draft
    };
    let mut closed = false;
    while !closed {
        closed = feed.submit(&mut wrong()).is_err();
    }
    let event = next(&mut told);
    assert!(
        matches!(event, outbound::Event::Broken(outbound::Broken::Encode(_))),
        "{event:?}"
    );
    promptly("closing the way out", move || drop(outbound));
    drop(feed);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_page_beyond_the_version_map_is_never_sent() {
    let (outbound, mut told, arriving) = joined(1, Out::default());
    let mut beyond = Draft::new(page_size());
    let at = sealift_pages::Address {
        block: 0,
        page: crate::guest::BLOCKS[0],
    };
    beyond.zero(at).unwrap();
    outbound.feed(0).submit(&mut beyond).unwrap_err();
    let event = next(&mut told);
    assert!(
        matches!(
            event,
            outbound::Event::Broken(outbound::Broken::Versions(0))
        ),
        "{event:?}"
    );
    drop(outbound);
    assert!(arriving.close().0.is_empty());
}
