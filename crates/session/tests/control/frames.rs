//! What is refused, what is skipped, and what a later version may add.

use prost::Message as _;
use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{
    Decoder, FIELDS_MAX, Frame, FrameError, LEN_MAX, LEN_MAX_BEFORE_HELLO, Message,
};

use super::{accepted, envelope, frame, hello, offer, receive, refused};

/// A field of bytes, of any number.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    prost::encoding::encode_varint(number << 3 | 2, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

// ---- lengths ----

#[test]
fn a_length_of_zero_is_refused() {
    assert_eq!(refused(&[]), FrameError::Empty);
}

#[test]
fn a_length_is_judged_before_a_byte_of_the_envelope_is_taken() {
    let limits: [(fn() -> Decoder, _); 2] =
        [(Decoder::new, LEN_MAX_BEFORE_HELLO), (accepted, LEN_MAX)];
    for (decoder, limit) in limits {
        let len = u32::try_from(limit).unwrap();
        assert_eq!(decoder().next(&mut &len.to_be_bytes()[..]), Ok(None));
        let mut decoder = decoder();
        let found = len + 1;
        let mut input = &[&found.to_be_bytes()[..], &[0; 9]].concat()[..];
        assert_eq!(
            decoder.next(&mut input),
            Err(FrameError::TooLong { found, limit })
        );
        assert_eq!(input, [0; 9]);
        assert_eq!(decoder.next(&mut input), Err(FrameError::Finished));
    }
}

// ---- order ----

#[test]
fn only_a_hello_or_an_error_comes_first() {
    let progress = envelope(Kind::Progress(wire::Progress::default()));
    let mut decoder = Decoder::new();
    assert_eq!(
        receive(&mut decoder, &progress),
        Err(FrameError::BeforeHello { kind: 28 })
    );

    let mut decoder = Decoder::new();
    let first = Frame::of(Message::Hello(hello()));
    let both = [first.as_bytes(), &frame(&progress)].concat();
    let mut input = both.as_slice();
    let received = decoder.next(&mut input).unwrap().unwrap();
    assert_eq!(received.message, Message::Hello(hello()));
    assert_eq!(received.envelope, first.envelope());
    // What follows is judged only when asked for: the hello can be accepted in between.
    decoder.accept_hello();
    assert!(matches!(decoder.next(&mut input), Ok(Some(_))));
    assert!(input.is_empty());

    let failure = wire::Error {
        kind: 2,
        fault: 1,
        message: "no version in common".into(),
    };
    let received = receive(&mut Decoder::new(), &envelope(Kind::Error(failure)));
    assert!(matches!(
        received.unwrap().unwrap().message,
        Message::Failure(_)
    ));
}

// ---- forward compatibility ----

#[test]
fn unknown_fields_are_ignored_at_every_level() {
    let mut admission = wire::Admission {
        name: "web-1".into(),
        uuid: vec![1; 16],
        machine: "pc-q35-10.0".into(),
        blocks: vec![],
        memory_needed: 5,
    }
    .encode_to_vec();
    let mut block = wire::RamBlock {
        name: b"pc.ram".to_vec(),
        length: 1 << 20,
        page_size: 4096,
    }
    .encode_to_vec();
    block.extend(field(999, b"later"));
    admission.extend(field(4, &block));
    admission.extend(field(15, b"later"));
    let mut message = vec![0x08, 1];
    message.extend(field(19, &admission));
    message.extend(field(2, b"beside the kind"));
    let received = receive(&mut accepted(), &message).unwrap().unwrap();
    let Message::Admission(admission) = received.message else {
        panic!("{received:?}")
    };
    assert_eq!(admission.blocks.as_slice()[0].name(), b"pc.ram");
    assert_eq!(received.envelope, message);
}

#[test]
fn an_unknown_kind_is_skipped_unless_it_is_critical() {
    for mut decoder in [Decoder::new(), accepted()] {
        let mut bytes = frame(&field(99, b"a later version's"));
        bytes.extend(frame(&field(536_870_911, &[])));
        bytes.extend(Frame::of(Message::Hello(hello())).as_bytes());
        let received = decoder.next(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(received.message, Message::Hello(hello()));
        let critical = [&[0x08, 1], &field(99, b"")[..]].concat();
        assert_eq!(
            receive(&mut decoder, &critical),
            Err(FrameError::UnknownKind { kind: 99 })
        );
    }
}

#[test]
fn critical_may_stand_behind_the_kind() {
    let critical = [&field(99, b"")[..], &[0x08, 1]].concat();
    assert_eq!(refused(&critical), FrameError::UnknownKind { kind: 99 });
}

#[test]
fn numbers_of_an_offer_that_are_not_known_are_passed_over() {
    let offer = wire::Offer {
        suites: vec![0x7777, 0x0101],
        digests: vec![200, 1],
        ..offer()
    };
    let received = receive(&mut accepted(), &envelope(Kind::Offer(offer)))
        .unwrap()
        .unwrap();
    let Message::Offer(offer) = received.message else {
        panic!("{received:?}")
    };
    assert_eq!(offer.suites.as_slice(), [0x7777, 0x0101]);
}

// ---- envelopes ----

#[test]
fn an_envelope_has_exactly_one_kind() {
    assert_eq!(refused(&[0x08, 1]), FrameError::NoKind);
    assert_eq!(refused(&field(2, b"x")), FrameError::NoKind);
    for (first, second) in [(29, 30), (29, 29), (99, 29), (29, 99)] {
        let two = [field(first, b""), field(second, b"")].concat();
        assert_eq!(refused(&two), FrameError::TwoKinds { first, second });
    }
}

#[test]
fn a_kind_with_very_many_fields_is_refused_before_it_is_decoded() {
    // Two bytes each on the wire: an empty RAM block.
    let most = field(19, &[0x22, 0].repeat(FIELDS_MAX));
    assert!(matches!(refused(&most), FrameError::Invalid(_)));
    let more = field(19, &[0x22, 0].repeat(FIELDS_MAX + 1));
    assert_eq!(refused(&more), FrameError::TooManyFields { kind: 19 });
}

#[test]
fn what_is_not_protobuf_is_refused() {
    assert_eq!(refused(&[0x07]), FrameError::Malformed);
    // A number where the guest's name has to be.
    assert!(matches!(
        refused(&field(19, &[0x08, 1])),
        FrameError::Undecodable(_)
    ));
    // A name that is not UTF-8.
    assert!(matches!(
        refused(&field(19, &[0x0a, 1, 0xff])),
        FrameError::Undecodable(_)
    ));
}

#[test]
fn unknown_kinds_before_the_hello_end_somewhere() {
    let mut decoder = Decoder::new();
    for _ in 0..16 {
        assert_eq!(receive(&mut decoder, &field(99, b"")), Ok(None));
    }
    let refused = receive(&mut decoder, &field(99, b""));
    assert_eq!(refused, Err(FrameError::TooManySkipped));

    let mut decoder = accepted();
    for _ in 0..20 {
        assert_eq!(receive(&mut decoder, &field(99, b"")), Ok(None));
    }
}

#[test]
fn lists_of_numbers_are_bounded_before_they_are_decoded() {
    for kind in [16, 17, 18] {
        let most = field(1, &[1; LEN_MAX_BEFORE_HELLO - 3]);
        assert!(matches!(
            refused(&field(kind, &most)),
            FrameError::Invalid(_) | FrameError::Undecodable(_)
        ));
        let more = field(1, &[1; LEN_MAX_BEFORE_HELLO - 2]);
        let found = LEN_MAX_BEFORE_HELLO + 1;
        assert_eq!(
            refused(&field(kind, &more)),
            FrameError::KindTooLong { kind, found }
        );
    }
}
