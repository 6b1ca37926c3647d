//! What a lane may not carry: each refusal has its own error, finishes the opener, and lets no body through.

use crate::support::{keyed, lane, open, sealed};
use sealift_seal::{Error, Fault, Header, Ledger, MAX_BODY, Opener, Sealer, Suite, TAG_LENGTH};

#[test]
fn a_replay_in_its_lane_is_refused() {
    let (mut sealer, mut opener) = lane();
    let mut ledger = Ledger::new();
    let first = sealed(&mut sealer, 0, b"one");
    assert_eq!(open(&mut opener, &mut ledger, &first).unwrap(), b"one");
    refuse(
        &mut opener,
        &first,
        Error::Replay {
            lane: 4,
            expected: 1,
            found: 0,
        },
    );
}

#[test]
fn a_replay_in_another_lane_is_refused() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let mut sealer = source.sealer(0).unwrap();
    let other = source.sealer(1).unwrap();
    let mut opener = receiver.opener(1, other.epoch()).unwrap();
    let batch = sealed(&mut sealer, 0, b"one");
    refuse(
        &mut opener,
        &batch,
        Error::Lane {
            expected: 1,
            found: 0,
        },
    );

    // With the header changed to fit, the tag gives it away.
    let (_, mut receiver) = keyed(Suite::default(), 3);
    let mut opener = receiver.opener(1, other.epoch()).unwrap();
    let mut batch = sealed(&mut sealer, 1, b"two");
    batch[3] = 1;
    batch[4..8].copy_from_slice(&opener.epoch().to_be_bytes());
    batch[8..16].fill(0);
    let (lane, epoch) = (1, opener.epoch());
    refuse(
        &mut opener,
        &batch,
        Error::Tag {
            lane,
            epoch,
            sequence: 0,
        },
    );
}

#[test]
fn a_lane_number_beyond_a_byte_is_another_lane() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"one");
    batch[2] = 1;
    refuse(
        &mut opener,
        &batch,
        Error::Lane {
            expected: 4,
            found: 0x0104,
        },
    );
}

#[test]
fn a_replay_in_another_epoch_is_refused() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let mut old = source.sealer(0).unwrap();
    let batch = sealed(&mut old, 0, b"one");
    source.retire(old.end()).unwrap();
    let new = source.sealer(0).unwrap();
    let mut opener = receiver.opener(0, new.epoch()).unwrap();
    refuse(
        &mut opener,
        &batch,
        Error::Epoch {
            lane: 0,
            expected: 1,
            found: 0,
        },
    );

    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let ended = source.sealer(0).unwrap().end();
    source.retire(ended).unwrap();
    let new = source.sealer(0).unwrap();
    let mut opener = receiver.opener(0, new.epoch()).unwrap();
    let mut batch = batch;
    batch[4..8].copy_from_slice(&new.epoch().to_be_bytes());
    refuse(
        &mut opener,
        &batch,
        Error::Tag {
            lane: 0,
            epoch: 1,
            sequence: 0,
        },
    );
}

#[test]
fn a_replay_in_another_session_is_refused() {
    let (mut source, _) = keyed(Suite::default(), 3);
    // The same lane, epoch and sequence, after a reconnect: only the keys differ.
    let (_, mut receiver) = keyed(Suite::default(), 4);
    let mut sealer = source.sealer(0).unwrap();
    let mut opener = receiver.opener(0, sealer.epoch()).unwrap();
    let batch = sealed(&mut sealer, 0, b"one");
    refuse(
        &mut opener,
        &batch,
        Error::Tag {
            lane: 0,
            epoch: 0,
            sequence: 0,
        },
    );
}

#[test]
fn a_batch_thrown_back_at_its_sender_is_refused() {
    let (mut source, _) = keyed(Suite::default(), 3);
    let (mut reflecting, _) = keyed(Suite::default(), 3);
    let mut sealer = source.sealer(0).unwrap();
    let mut opener = reflecting.opener(0).unwrap();
    assert_eq!(sealer.epoch(), opener.epoch());
    let batch = sealed(&mut sealer, 0, b"one");
    refuse(
        &mut opener,
        &batch,
        Error::Tag {
            lane: 0,
            epoch: 0,
            sequence: 0,
        },
    );
}

#[test]
fn a_gap_is_refused() {
    let (mut sealer, mut opener) = lane();
    let _lost = sealed(&mut sealer, 0, b"one");
    let second = sealed(&mut sealer, 1, b"two");
    refuse(
        &mut opener,
        &second,
        Error::Gap {
            lane: 4,
            expected: 0,
            found: 1,
        },
    );
}

#[test]
fn reordering_is_refused() {
    let (mut sealer, mut opener) = lane();
    let mut ledger = Ledger::new();
    let batches: Vec<_> = (0..3)
        .map(|batch| sealed(&mut sealer, batch, b"body"))
        .collect();
    assert!(open(&mut opener, &mut ledger, &batches[0]).is_ok());
    refuse(
        &mut opener,
        &batches[2],
        Error::Gap {
            lane: 4,
            expected: 1,
            found: 2,
        },
    );
    // The right one does not help any more.
    refuse(
        &mut opener,
        &batches[1],
        Error::Finished { lane: 4, epoch: 0 },
    );
}

#[test]
fn truncation_is_refused_at_every_length() {
    for cut in 1..=5 + TAG_LENGTH {
        let (mut sealer, mut opener) = lane();
        let batch = sealed(&mut sealer, 0, b"hello");
        let expected = 5 + TAG_LENGTH;
        refuse(
            &mut opener,
            &batch[..batch.len() - cut],
            Error::Truncated {
                expected,
                found: expected - cut,
            },
        );
    }
}

#[test]
fn a_batch_cut_together_with_its_length_is_refused() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"hello");
    batch[27] = 4;
    batch.remove(Header::LENGTH + 4);
    refuse(&mut opener, &batch, tag_of_the_first());
}

#[test]
fn surplus_bytes_are_refused() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"hello");
    batch.push(0);
    refuse(
        &mut opener,
        &batch,
        Error::Surplus {
            expected: 21,
            found: 22,
        },
    );
}

#[test]
fn every_flipped_bit_is_refused() {
    let batch = sealed(&mut lane().0, 0x0102_0304, b"a body of some length");
    for bit in 0..batch.len() * 8 {
        let (_, mut opener) = lane();
        let mut flipped = batch.clone();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        let mut ledger = Ledger::new();
        let error =
            open(&mut opener, &mut ledger, &flipped).expect_err("a flipped bit was let through");
        let fits = match bit / 8 {
            0 => matches!(error, Error::Version { .. }),
            1 => matches!(error, Error::Zero { .. }),
            2..4 => matches!(error, Error::Lane { .. }),
            4..8 => matches!(error, Error::Epoch { .. }),
            8..16 => matches!(error, Error::Gap { .. }),
            // Beyond the bound, or not what is there.
            24..28 => matches!(
                error,
                Error::Length { .. } | Error::Truncated { .. } | Error::Surplus { .. }
            ),
            _ => error == tag_of_the_first(),
        };
        assert!(fits, "bit {bit}: {error}");
        finished(&mut opener, &batch);
    }
}

#[test]
fn a_batch_number_seen_before_is_refused() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let mut ledger = Ledger::new();
    let mut first = source.sealer(0).unwrap();
    let mut second = source.sealer(1).unwrap();
    let mut first_opener = receiver.opener(0, first.epoch()).unwrap();
    let mut second_opener = receiver.opener(1, second.epoch()).unwrap();
    open(&mut first_opener, &mut ledger, &sealed(&mut first, 0, b"x")).unwrap();
    open(&mut first_opener, &mut ledger, &sealed(&mut first, 7, b"x")).unwrap();

    let again = sealed(&mut second, 7, b"x");
    assert_eq!(
        open(&mut second_opener, &mut ledger, &again),
        Err(Error::BatchSeen { batch: 7 })
    );
    finished(&mut second_opener, &again);
    // The other lane is not to blame.
    assert!(open(&mut first_opener, &mut ledger, &sealed(&mut first, 1, b"x")).is_ok());
}

#[test]
fn a_batch_number_beyond_the_window_is_refused() {
    let (mut sealer, mut opener) = lane();
    let mut ledger = Ledger::new();
    open(&mut opener, &mut ledger, &sealed(&mut sealer, 0, b"x")).unwrap();
    open(
        &mut opener,
        &mut ledger,
        &sealed(&mut sealer, Ledger::WINDOW, b"x"),
    )
    .unwrap();
    let beyond = sealed(&mut sealer, Ledger::WINDOW + 1, b"x");
    assert_eq!(
        open(&mut opener, &mut ledger, &beyond),
        Err(Error::BatchAhead {
            batch: Ledger::WINDOW + 1,
            floor: 1
        })
    );
    finished(&mut opener, &beyond);
}

#[test]
fn a_length_beyond_the_bound_is_refused_before_the_body() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"x");
    batch[24..28].copy_from_slice(&(MAX_BODY + 1).to_be_bytes());
    refuse(
        &mut opener,
        &batch,
        Error::Length {
            limit: 1_114_112,
            found: 1_114_113,
        },
    );
}

#[test]
fn an_unknown_version_is_refused() {
    for version in [0, 2, 255] {
        let (mut sealer, mut opener) = lane();
        let mut batch = sealed(&mut sealer, 0, b"x");
        batch[0] = version;
        refuse(&mut opener, &batch, Error::Version { found: version });
    }
}

#[test]
fn a_batch_that_is_not_accepted_is_wiped_and_finishes_its_lane() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"secret");
    let (header, rest) = batch.split_first_chunk_mut().unwrap();
    let checked = opener.check(header).unwrap();
    drop(opener.open(checked, rest).unwrap());
    assert_eq!(rest[..6], [0; 6]);
    finished(&mut opener, &sealed(&mut sealer, 1, b"next"));
}

#[test]
fn a_batch_that_is_leaked_finishes_its_lane() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"secret");
    let (header, rest) = batch.split_first_chunk_mut().unwrap();
    let checked = opener.check(header).unwrap();
    std::mem::forget(opener.open(checked, rest).unwrap());
    finished(&mut opener, &sealed(&mut sealer, 1, b"next"));
}

#[test]
fn a_header_checked_twice_opens_one_batch() {
    let (mut sealer, mut opener) = lane();
    let mut ledger = Ledger::new();
    let batch = sealed(&mut sealer, 0, b"x");
    let (header, rest) = batch.split_first_chunk().unwrap();
    let first = opener.check(header).unwrap();
    let second = opener.check(header).unwrap();
    assert!(
        opener
            .open(first, &mut rest.to_vec())
            .unwrap()
            .accept(&mut ledger)
            .is_ok()
    );
    assert_eq!(
        opener.open(second, &mut rest.to_vec()).unwrap_err(),
        Error::Replay {
            lane: 4,
            expected: 1,
            found: 0
        }
    );
}

#[test]
fn a_header_checked_twice_opens_nothing_after_a_refusal() {
    let (mut sealer, mut opener) = lane();
    let batch = sealed(&mut sealer, 0, b"x");
    let (header, rest) = batch.split_first_chunk().unwrap();
    let first = opener.check(header).unwrap();
    let second = opener.check(header).unwrap();
    let mut altered = rest.to_vec();
    altered[0] ^= 1;
    assert_eq!(
        opener.open(first, &mut altered).unwrap_err(),
        tag_of_the_first()
    );
    // Now the good one, under the other.
    let mut untouched = rest.to_vec();
    assert_eq!(
        opener.open(second, &mut untouched).unwrap_err(),
        Error::Finished { lane: 4, epoch: 0 }
    );
    assert_eq!(untouched, rest);
}

#[test]
fn the_last_number_of_all_is_not_sealed() {
    let (mut sealer, mut opener) = lane();
    let mut buffer = vec![7; Sealer::OVERHEAD + 1];
    assert_eq!(
        sealer.seal(u64::MAX, &mut buffer),
        Err(Error::BatchesExhausted)
    );
    assert_eq!(Error::BatchesExhausted.fault(), Fault::ThisHost);
    assert_eq!(buffer, vec![7; Sealer::OVERHEAD + 1]);
    let batch = sealed(&mut sealer, 0, b"x");
    assert!(open(&mut opener, &mut Ledger::new(), &batch).is_ok());
}

#[test]
fn a_sealer_refuses_what_would_not_be_opened_and_goes_on() {
    let (mut sealer, mut opener) = lane();
    for found in [0, Header::LENGTH, Sealer::OVERHEAD - 1] {
        assert_eq!(
            sealer.seal(0, &mut vec![0; found]),
            Err(Error::BufferTooShort { needed: 44, found })
        );
    }
    let longest = MAX_BODY as usize;
    assert_eq!(
        sealer.seal(0, &mut vec![0; Sealer::OVERHEAD + longest + 1]),
        Err(Error::BodyTooLong {
            limit: MAX_BODY,
            found: longest + 1
        })
    );
    let batch = sealed(&mut sealer, 0, &vec![9; longest]);
    assert!(open(&mut opener, &mut Ledger::new(), &batch).is_ok());
}

#[test]
fn what_is_not_proven_is_blamed_on_the_link_and_what_is_on_the_peer() {
    assert_eq!(tag_of_the_first().fault(), Fault::Link);
    assert_eq!(Error::Version { found: 9 }.fault(), Fault::Link);
    assert_eq!(Error::BatchSeen { batch: 1 }.fault(), Fault::Peer);
    assert_eq!(Error::LowOrderShare.fault(), Fault::Peer);
    // The sender has to keep to the window itself.
    let ahead = Error::BatchAhead {
        batch: 65_536,
        floor: 0,
    };
    assert_eq!(ahead.fault(), Fault::Peer);
    assert_eq!(Error::Seed.fault(), Fault::ThisHost);
}

fn refuse(opener: &mut Opener, batch: &[u8], expected: Error) {
    assert_eq!(open(opener, &mut Ledger::new(), batch), Err(expected));
    finished(opener, batch);
}

fn finished(opener: &mut Opener, batch: &[u8]) {
    let (lane, epoch) = (opener.lane(), opener.epoch());
    assert_eq!(
        open(opener, &mut Ledger::new(), batch),
        Err(Error::Finished { lane, epoch })
    );
}

fn tag_of_the_first() -> Error {
    Error::Tag {
        lane: 4,
        epoch: 0,
        sequence: 0,
    }
}
