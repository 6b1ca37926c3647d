//! Two ends that do not agree do not confirm; two that do allot and take epochs by the rules.

use crate::support::{CONTEXT, SESSION, exchange, exporter, keyed, seed};
use sealift_seal::{
    Context, Ended, Error, Exchanged, Exporter, Fault, Initiator, Keyed, Ledger, Opened, Opener,
    RamBlock, Receiver, Role, Sealer, SessionId, Share, Source, Suite, Unconfirmed, respond,
};

#[test]
fn every_suite_confirms() {
    for suite in Suite::ALL {
        let _ = keyed(suite, 3);
    }
}

#[test]
fn a_mismatch_in_any_field_of_the_transcript_does_not_confirm() {
    let block = CONTEXT.ram_blocks[0];
    let changed: [Context<'_>; 21] = [
        Context {
            source_hello: b"source hellp",
            ..CONTEXT
        },
        Context {
            receiver_hello: b"receiver hellp",
            ..CONTEXT
        },
        Context {
            offer: b"offes",
            ..CONTEXT
        },
        Context {
            choice: b"choicd",
            ..CONTEXT
        },
        Context {
            admission: b"admissioo",
            ..CONTEXT
        },
        Context {
            verdict: b"verdicu",
            ..CONTEXT
        },
        Context {
            offer: b"offerc",
            choice: b"hoice",
            ..CONTEXT
        },
        Context {
            source_certificate: b"",
            ..CONTEXT
        },
        Context {
            receiver_certificate: b"source certificate",
            ..CONTEXT
        },
        Context {
            tls_client: Role::Receiver,
            ..CONTEXT
        },
        Context {
            peer_name: b"host-c.example.org",
            ..CONTEXT
        },
        Context {
            guest_uuid: [8; 16],
            ..CONTEXT
        },
        Context {
            guest_name: b"db2",
            ..CONTEXT
        },
        Context {
            ram_blocks: &CONTEXT.ram_blocks[..1],
            ..CONTEXT
        },
        Context {
            ram_blocks: &[CONTEXT.ram_blocks[1], block],
            ..CONTEXT
        },
        Context {
            ram_blocks: &[
                RamBlock {
                    name: b"pc.rom",
                    ..block
                },
                CONTEXT.ram_blocks[1],
            ],
            ..CONTEXT
        },
        Context {
            ram_blocks: &[
                RamBlock {
                    length: block.length + 4096,
                    ..block
                },
                CONTEXT.ram_blocks[1],
            ],
            ..CONTEXT
        },
        Context {
            ram_blocks: &[
                RamBlock {
                    page_size: 2 << 20,
                    ..block
                },
                CONTEXT.ram_blocks[1],
            ],
            ..CONTEXT
        },
        Context {
            offered: &[0x0101, 0x7f01, 0x0102, 0x0001, 0x0002],
            ..CONTEXT
        },
        Context {
            offered: &[0x0101, 0x0001],
            ..CONTEXT
        },
        // The same bytes, with the border between two fields moved.
        Context {
            peer_name: b"host-b.example.or",
            guest_name: b"gdb1",
            ..CONTEXT
        },
    ];
    for context in changed {
        let (source, receiver) = exchange(Suite::default());
        let source = source.derive(exporter(3), SESSION, &context).unwrap();
        let receiver = receiver.derive(exporter(3), SESSION, &CONTEXT).unwrap();
        let from_source = source.confirmation().unwrap();
        let from_receiver = receiver.confirmation().unwrap();
        assert_eq!(
            source.confirm(from_receiver.as_bytes()).unwrap_err(),
            Error::Confirmation
        );
        assert_eq!(
            receiver.confirm(from_source.as_bytes()).unwrap_err(),
            Error::Confirmation
        );
    }
}

#[test]
fn another_exporter_or_session_does_not_confirm() {
    for (theirs, session) in [(exporter(4), SESSION), (exporter(3), SessionId([0; 16]))] {
        let (_, receiver) = exchange(Suite::default());
        refuse_confirmation(receiver, theirs, session);
    }
}

#[test]
fn an_altered_share_does_not_confirm() {
    // Each share altered so that it is still a valid one, on its way to the other end.
    for suite in [Suite::X25519MlKem768, Suite::P256MlKem768] {
        let other = Initiator::new(suite, seed(9)).unwrap();
        let initiator = Initiator::new(suite, seed(1)).unwrap();
        for altered in [
            Share {
                ecdh: other.share().ecdh,
                ..initiator.share()
            },
            Share {
                mlkem: other.share().mlkem,
                ..initiator.share()
            },
        ] {
            refuse_confirmation(
                respond(suite, seed(2), altered).unwrap(),
                exporter(3),
                SESSION,
            );
        }
    }
}

#[test]
fn an_altered_ciphertext_does_not_confirm() {
    let initiator = Initiator::new(Suite::default(), seed(1)).unwrap();
    let receiver = respond(Suite::default(), seed(2), initiator.share()).unwrap();
    let mut ciphertext = receiver.share().mlkem.to_vec();
    ciphertext[500] ^= 1;
    let source = initiator
        .exchange(Share {
            mlkem: &ciphertext,
            ..receiver.share()
        })
        .unwrap();
    let source = source.derive(exporter(3), SESSION, &CONTEXT).unwrap();
    let receiver = receiver.derive(exporter(3), SESSION, &CONTEXT).unwrap();
    assert_eq!(
        source
            .confirm(receiver.confirmation().unwrap().as_bytes())
            .unwrap_err(),
        Error::Confirmation
    );
}

#[test]
fn an_end_does_not_confirm_itself_nor_with_less() {
    let keys = || {
        exchange(Suite::default())
            .0
            .derive(exporter(3), SESSION, &CONTEXT)
            .unwrap()
    };
    let own = *keys().confirmation().unwrap().as_bytes();
    let peers = exchange(Suite::default())
        .1
        .derive(exporter(3), SESSION, &CONTEXT)
        .unwrap();
    let good = *peers.confirmation().unwrap().as_bytes();
    assert!(keys().confirm(&good).is_ok());
    for wrong in [
        &own[..],
        &[],
        &good[..31],
        &[good.as_slice(), &[0]].concat(),
    ] {
        assert_eq!(keys().confirm(wrong).unwrap_err(), Error::Confirmation);
    }
}

#[test]
fn a_suite_that_was_not_offered_is_refused_at_both_ends() {
    let context = Context {
        offered: &[0x0101, 0x0102],
        ..CONTEXT
    };
    let (source, receiver) = exchange(Suite::X25519);
    let refused = |refusing| Error::SuiteNotOffered {
        chosen: Suite::X25519,
        refusing,
    };
    let at_source = source.derive(exporter(3), SESSION, &context).unwrap_err();
    let at_receiver = receiver.derive(exporter(3), SESSION, &context).unwrap_err();
    assert_eq!(at_source, refused(Role::Source));
    assert_eq!(at_receiver, refused(Role::Receiver));
    // The receiver chose it.
    assert_eq!(at_source.fault(), Fault::Peer);
    assert_eq!(at_receiver.fault(), Fault::ThisHost);
}

#[test]
fn the_source_allots_every_epoch_once_and_the_receiver_takes_only_higher_ones() {
    let (mut source, mut receiver) = keyed(Suite::default(), 3);
    let first = source.sealer(0).unwrap();
    let others = [
        source.sealer(1).unwrap().epoch(),
        source.opener(0).unwrap().epoch(),
    ];
    assert_eq!((first.epoch(), others), (0, [1, 2]));
    source.retire(first.end()).unwrap();
    assert_eq!(source.sealer(0).unwrap().epoch(), 3);

    let opener = receiver.opener(0, 3).unwrap();
    receiver.retire(opener.end(0).unwrap()).unwrap();
    for found in [0, 3] {
        let refused = Error::EpochNotHigher {
            lane: 0,
            last: 3,
            found,
        };
        assert_eq!(receiver.opener(0, found).unwrap_err(), refused);
    }
    // Other lanes and the other direction have their own.
    assert!(receiver.opener(255, 1).is_ok());
    let sealer = receiver.sealer(0, 2).unwrap();
    receiver.retire(sealer.end()).unwrap();
    assert_eq!(
        receiver.sealer(0, 2).unwrap_err(),
        Error::EpochNotHigher {
            lane: 0,
            last: 2,
            found: 2
        }
    );
}

#[test]
fn what_is_printed_holds_no_secret() {
    let (source, receiver) = exchange(Suite::default());
    let keys = receiver.derive(exporter(3), SESSION, &CONTEXT).unwrap();
    let (mut keyed, _) = keyed(Suite::default(), 3);
    let sealer = keyed.sealer(0).unwrap();
    let printed = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        seed(1),
        exporter(3),
        source,
        keys,
        keys.confirmation().unwrap(),
        sealer,
        keyed
    );
    assert_eq!(
        printed,
        "Seed(..) Exporter(..) Exchanged { suite: X25519MlKem768, .. } Unconfirmed(..) Confirmation(..) \
         Sealer { lane: 0, epoch: 0, .. } Keyed(..)"
    );
}

/// Confirms a receiver that saw something else against a source that did not.
fn refuse_confirmation(receiver: Exchanged<Receiver>, theirs: Exporter, session: SessionId) {
    let (source, _) = exchange(Suite::default());
    let source = source.derive(exporter(3), SESSION, &CONTEXT).unwrap();
    let receiver = receiver.derive(theirs, session, &CONTEXT).unwrap();
    let from_source = source.confirmation().unwrap();
    let from_receiver = receiver.confirmation().unwrap();
    assert_eq!(
        source.confirm(from_receiver.as_bytes()).unwrap_err(),
        Error::Confirmation
    );
    assert_eq!(
        receiver.confirm(from_source.as_bytes()).unwrap_err(),
        Error::Confirmation
    );
}

#[test]
fn every_stage_can_go_to_another_thread() {
    fn can_go<T: Send + Sync>() {}
    can_go::<Initiator>();
    can_go::<Exchanged<Source>>();
    can_go::<Unconfirmed<Receiver>>();
    can_go::<Keyed<Source>>();
    can_go::<Keyed<Receiver>>();
    can_go::<Sealer>();
    can_go::<Opener>();
    can_go::<Opened<'_, '_>>();
    can_go::<Ended>();
    can_go::<Ledger>();
    can_go::<Error>();
}
