//! What happens where an epoch ends, without sealing 32 GiB: the counters are set, all else is as it runs.

use std::vec;
use std::vec::Vec;

use crate::epoch::{EPOCH_BATCHES, EPOCH_BYTES};
use crate::error::Error;
use crate::header::Header;
use crate::ledger::Ledger;
use crate::opener::Opener;
use crate::role::{Direction, Role};
use crate::schedule::{Schedule, SessionId};
use crate::sealer::Sealer;
use crate::secret::Exporter;

const SPENT: Error = Error::EpochSpent { lane: 2, epoch: 9 };
const OVERRUN: Error = Error::EpochOverrun { lane: 2, epoch: 9 };

#[test]
fn an_epoch_ends_with_its_last_batch_number() {
    let (mut sealer, mut opener) = lane_at(EPOCH_BATCHES - 1, 0);
    assert!(sealer.has_room_for(1));
    assert_eq!(
        open(&mut opener, &mut seal(&mut sealer, 1).unwrap()),
        Ok(())
    );
    assert!(!sealer.has_room_for(0));
    assert_eq!(seal(&mut sealer, 0), Err(SPENT));

    // A sender without the limit does not get further.
    sealer.epoch_mut().skip_to(EPOCH_BATCHES - 1, 0);
    let mut beyond = seal(&mut sealer, 1).unwrap();
    beyond[8..16].copy_from_slice(&EPOCH_BATCHES.to_be_bytes());
    assert_eq!(open(&mut opener, &mut beyond), Err(OVERRUN));
    assert_eq!(
        open(&mut opener, &mut beyond),
        Err(Error::Finished { lane: 2, epoch: 9 })
    );
}

#[test]
fn an_epoch_ends_with_its_last_byte() {
    let (mut sealer, mut opener) = lane_at(5, EPOCH_BYTES - 100);
    assert_eq!(seal(&mut sealer, 101), Err(SPENT));
    // A smaller one still fits, and an empty one after it.
    assert_eq!(
        open(&mut opener, &mut seal(&mut sealer, 100).unwrap()),
        Ok(())
    );
    assert_eq!(seal(&mut sealer, 1), Err(SPENT));
    assert_eq!(
        open(&mut opener, &mut seal(&mut sealer, 0).unwrap()),
        Ok(())
    );

    sealer.epoch_mut().skip_to(7, 0);
    assert_eq!(
        open(&mut opener, &mut seal(&mut sealer, 1).unwrap()),
        Err(OVERRUN)
    );
}

#[test]
fn a_nonce_is_never_that_of_another_sequence() {
    let (mut sealer, _) = lane_at(0, 0);
    let mut seen: Vec<[u8; 12]> = Vec::new();
    for sequence in [0, 1, 2, 255, 256, 1 << 16, 1 << 30, EPOCH_BATCHES - 1] {
        sealer.epoch_mut().skip_to(sequence, 0);
        let nonce = *sealer.epoch_mut().nonce().as_ref();
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
    }
}

#[test]
fn the_two_directions_and_ends_have_different_keys() {
    let schedule = schedule();
    let to_receiver = schedule.lane(2, Direction::ToReceiver, 9).unwrap();
    let to_source = schedule.lane(2, Direction::ToSource, 9).unwrap();
    assert_ne!(to_receiver.as_slice(), to_source.as_slice());
    assert_ne!(
        schedule.confirmation(Role::Source).unwrap().as_bytes(),
        schedule.confirmation(Role::Receiver).unwrap().as_bytes()
    );
}

fn lane_at(sequence: u64, bytes: u64) -> (Sealer, Opener) {
    let epoch = || {
        let mut epoch = schedule().epoch(2, Direction::ToReceiver, 9).unwrap();
        epoch.skip_to(sequence, bytes);
        epoch
    };
    (Sealer::new(epoch()), Opener::new(epoch()))
}

fn schedule() -> Schedule {
    let exporter = Exporter::fill(|_| Ok::<_, ()>(())).unwrap();
    Schedule::extract(&exporter, &[1; 32], SessionId([2; 16]), [3; 32])
}

fn seal(sealer: &mut Sealer, length: usize) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; Sealer::OVERHEAD + length];
    sealer.seal(0, &mut buffer).map(|()| buffer)
}

fn open(opener: &mut Opener, sealed: &mut [u8]) -> Result<(), Error> {
    let (header, sealed) = sealed
        .split_first_chunk_mut::<{ Header::LENGTH }>()
        .unwrap();
    let checked = opener.check(header)?;
    opener
        .open(checked, sealed)?
        .accept(&mut Ledger::new())
        .map(|_| ())
}

#[test]
fn in_a_file_the_next_epoch_begins_where_this_one_is_full_and_is_the_next() {
    use crate::saved::RecipientKey;

    let keyed = || {
        let key = || {
            RecipientKey::fill(|scalar| {
                scalar.fill(9);
                Ok::<_, Error>(())
            })
            .unwrap()
        };
        key()
            .derive(key().share(), &[3; 32], SessionId([1; 16]), b"header")
            .unwrap()
    };
    let next = |epoch, length| Header {
        lane: 0,
        epoch,
        sequence: 0,
        batch: 0,
        length,
    };
    let refused = |epoch, length, expected| {
        let mut keys = keyed();
        let mut opener = keys.opener(0, 1).unwrap();
        opener.epoch_mut().skip_to(5, EPOCH_BYTES - 100);
        let error = keys.follow(opener, &next(epoch, length)).unwrap_err();
        let found = epoch;
        assert_eq!(
            error,
            Error::Epoch {
                lane: 0,
                expected,
                found
            }
        );
    };
    refused(2, 100, 1);
    refused(3, 101, 2);

    let mut keys = keyed();
    let mut opener = keys.opener(0, 1).unwrap();
    opener.epoch_mut().skip_to(5, EPOCH_BYTES - 100);
    assert_eq!(keys.follow(opener, &next(2, 101)).unwrap().epoch(), 2);
}
