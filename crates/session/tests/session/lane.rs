//! A lane's hello is the source's, for this lane and by the last token, or it is nobody's.

use std::sync::OnceLock;

use proptest::prelude::*;
use sealift_seal::LaneHelloKey;
use sealift_session::control::{Direction, LaneToken, SessionId};
use sealift_session::lane::{LaneHello, NoHello};

use super::ends::{SESSION, agreed};

/// The key at the source and at the receiver.
fn keys() -> &'static (LaneHelloKey, LaneHelloKey) {
    static KEYS: OnceLock<(LaneHelloKey, LaneHelloKey)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let (source, receiver) = agreed();
        (
            source.keyed.lane_hello_key().unwrap(),
            receiver.keyed.lane_hello_key().unwrap(),
        )
    })
}

fn token(lane: u8, byte: u8) -> LaneToken {
    LaneToken::new(lane, [byte; 32].into())
}

#[test]
fn what_the_source_says_the_receiver_proves() {
    let (source, receiver) = keys();
    for direction in Direction::ALL {
        let hello = LaneHello::new(*direction, SESSION, token(255, 9));
        let bytes = hello.encode(source);
        let unproven = LaneHello::parse(&bytes).unwrap();
        assert_eq!((unproven.session(), unproven.lane()), (SESSION, 255));
        assert_eq!(unproven.prove(receiver, &token(255, 9)), Ok(hello));
    }
}

#[test]
fn its_bytes_are_the_specifications() {
    let (source, _) = keys();
    let hello = LaneHello::new(Direction::ReceiverToSource, SESSION, token(7, 9));
    let bytes = hello.encode(source);
    assert_eq!(bytes.len(), 92);
    assert_eq!(bytes[..12], *b"sealiftL\x01\x01\x00\x07");
    assert_eq!(bytes[12..28], SESSION.0);
    assert_eq!(bytes[28..60], [9; 32]);
    assert_eq!(bytes[60..], source.mac(&bytes[..60]));
}

#[test]
fn another_token_another_lane_and_another_key_prove_nothing() {
    let (source, receiver) = keys();
    let hello = LaneHello::new(Direction::SourceToReceiver, SESSION, token(7, 9));
    let bytes = hello.encode(source);
    let refused = |made_with_the_key| NoHello::Unproven {
        lane: 7,
        made_with_the_key,
    };
    let prove = |token| LaneHello::parse(&bytes).unwrap().prove(receiver, &token);
    assert_eq!(prove(token(7, 8)), Err(refused(true)));
    assert_eq!(prove(token(6, 9)), Err(refused(true)));
    let (mut altered, mac) = (*bytes, 91);
    altered[mac] ^= 1;
    let unproven = LaneHello::parse(&altered).unwrap();
    assert_eq!(unproven.prove(receiver, &token(7, 9)), Err(refused(false)));
}

#[test]
fn the_token_is_not_for_logs() {
    let (source, _) = keys();
    let hello = LaneHello::new(Direction::SourceToReceiver, SESSION, token(7, 0xe9));
    let unproven = LaneHello::parse(&hello.encode(source)).unwrap();
    for printed in [
        format!("{hello:?}"),
        format!("{unproven:?}"),
        format!("{source:?}"),
    ] {
        assert!(!printed.contains("233"), "{printed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_altered_bit_is_one_too_many(at in 0..LaneHello::LENGTH, bit in 0..8u32) {
        let (source, receiver) = keys();
        let hello = LaneHello::new(Direction::SourceToReceiver, SESSION, token(7, 9));
        let mut bytes = *hello.encode(source);
        bytes[at] ^= 1 << bit;
        let proven = LaneHello::parse(&bytes).and_then(|hello| hello.prove(receiver, &token(7, 9)));
        prop_assert!(proven.is_err());
    }

    #[test]
    fn whatever_a_stranger_sends_is_read_without_harm(
        lane: u8, session: [u8; 16], tail in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let mut bytes = [0; LaneHello::LENGTH];
        bytes[..12].copy_from_slice(b"sealiftL\x01\x00\x00\x00");
        bytes[11] = lane;
        bytes[12..28].copy_from_slice(&session);
        bytes[28..].copy_from_slice(&tail);
        let hello = LaneHello::parse(&bytes).unwrap();
        prop_assert_eq!((hello.lane(), hello.session()), (lane, SessionId(session)));
    }
}

#[test]
fn what_is_no_hello_is_refused_by_its_field() {
    let (source, _) = keys();
    let good = *LaneHello::new(Direction::SourceToReceiver, SESSION, token(7, 9)).encode(source);
    for (at, value, why) in [
        (0, b'S', NoHello::Magic),
        (8, 2, NoHello::Version { found: 2 }),
        (9, 2, NoHello::Direction { found: 2 }),
        (10, 1, NoHello::Lane { found: 0x0107 }),
    ] {
        let mut bytes = good;
        bytes[at] = value;
        assert_eq!(LaneHello::parse(&bytes).unwrap_err(), why);
    }
}
