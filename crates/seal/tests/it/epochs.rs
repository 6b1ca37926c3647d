//! An epoch ends whole, known to both ends, and only then the next one of its lane begins.

use crate::support::{keyed, lane, open, sealed};
use sealift_seal::{Error, Fault, Ledger, Suite};

#[test]
fn an_epoch_whose_last_batches_were_withheld_does_not_end() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let mut ledger = Ledger::new();
    let mut sealer = source.sealer(0).unwrap();
    let mut opener = receiver.opener(0, sealer.epoch()).unwrap();
    let first = sealed(&mut sealer, 0, b"kept");
    let _withheld = [1, 2].map(|batch| sealed(&mut sealer, batch, b"withheld"));
    open(&mut opener, &mut ledger, &first).unwrap();

    let ended = sealer.end();
    let cut = opener.end(ended.batches()).unwrap_err();
    assert_eq!(
        cut,
        Error::EpochCut {
            lane: 0,
            epoch: 0,
            expected: 3,
            found: 1
        }
    );
    assert_eq!(cut.fault(), Fault::Link);
    // What comes after it is not opened by this lane any more.
    source.retire(ended).unwrap();
    let next = source.sealer(0).unwrap();
    assert_eq!(
        receiver.opener(0, next.epoch()).unwrap_err(),
        Error::EpochLive { lane: 0, epoch: 0 }
    );
}

#[test]
fn an_epoch_with_more_batches_than_the_peer_says_does_not_end() {
    let (mut sealer, mut opener) = lane();
    let batch = sealed(&mut sealer, 0, b"one");
    open(&mut opener, &mut Ledger::new(), &batch).unwrap();
    assert_eq!((sealer.sealed(), opener.opened()), (1, 1));
    assert_eq!(
        opener.end(0).unwrap_err(),
        Error::EpochCut {
            lane: 4,
            epoch: 0,
            expected: 0,
            found: 1
        }
    );
}

#[test]
fn an_epoch_that_failed_does_not_end() {
    let (mut sealer, mut opener) = lane();
    let mut batch = sealed(&mut sealer, 0, b"one");
    batch[30] ^= 1;
    open(&mut opener, &mut Ledger::new(), &batch).unwrap_err();
    assert_eq!(
        opener.end(0).unwrap_err(),
        Error::Finished { lane: 4, epoch: 0 }
    );
}

#[test]
fn a_lane_has_one_live_epoch_in_each_direction() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let sealer = source.sealer(7).unwrap();
    let live = Error::EpochLive { lane: 7, epoch: 0 };
    assert_eq!(source.sealer(7).unwrap_err(), live);
    let opener = receiver.opener(7, 0).unwrap();
    assert_eq!(receiver.opener(7, 1).unwrap_err(), live);
    // A refusal uses no number up, and other lanes and the other direction are their own.
    assert_eq!(source.opener(7).unwrap().epoch(), 1);
    assert_eq!(
        source.opener(7).unwrap_err(),
        Error::EpochLive { lane: 7, epoch: 1 }
    );
    assert!(receiver.sealer(7, 1).is_ok());
    assert_eq!(
        receiver.sealer(7, 2).unwrap_err(),
        Error::EpochLive { lane: 7, epoch: 1 }
    );

    source.retire(sealer.end()).unwrap();
    receiver.retire(opener.end(0).unwrap()).unwrap();
    let next = source.sealer(7).unwrap();
    assert_eq!(next.epoch(), 2);
    assert!(receiver.opener(7, 2).is_ok());
}

#[test]
fn only_the_live_epoch_of_these_keys_can_be_retired() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let (mut other, _) = keyed(Suite::default(), 4);
    let (_, foreign) = (other.sealer(0).unwrap(), other.sealer(1).unwrap());
    let opener = source.opener(1).unwrap();
    // Ended, but by another exchange, in the other direction, at the other end.
    let refused = |lane, epoch| Err(Error::EpochNotLive { lane, epoch });
    assert_eq!(source.retire(foreign.end()), refused(1, 1));
    let sealer = receiver.sealer(1, opener.epoch()).unwrap();
    assert_eq!(source.retire(sealer.end()), refused(1, 0));
    assert_eq!(receiver.retire(opener.end(0).unwrap()), refused(1, 0));
}

#[test]
fn an_epoch_is_retired_once_and_no_other_in_its_place() {
    let (mut source, _) = keyed(Suite::default(), 3);
    // What another exchange would hand in: the same lane, epochs 0 and 1.
    let (mut other, _) = keyed(Suite::default(), 4);
    let first = other.sealer(0).unwrap().end();
    let again = keyed(Suite::default(), 5).0.sealer(0).unwrap().end();
    other.retire(first).unwrap();
    let second = other.sealer(0).unwrap().end();

    let live = source.sealer(0).unwrap();
    let refused = |epoch| Err(Error::EpochNotLive { lane: 0, epoch });
    assert_eq!(source.retire(second), refused(1));
    source.retire(live.end()).unwrap();
    assert_eq!(source.retire(again), refused(0));
}
