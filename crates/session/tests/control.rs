//! The control channel, from outside: what is refused, what is skipped, and what a later version may add.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use prost::Message as _;
use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{
    BatchRange, BatchRanges, Decoder, Distinct, FIELDS_MAX, Frame, FrameError, Hello, Invalid,
    LEN_MAX, LEN_MAX_BEFORE_HELLO, Message, Received, Role, SessionId, Why,
};

fn hello() -> Hello {
    Hello {
        wire_versions: Distinct::new("", vec![1]).unwrap(),
        role: Role::Source,
        session: SessionId([7; 16]),
        resume: false,
        software: None,
    }
}

fn frame(envelope: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(envelope.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(envelope);
    bytes
}

fn envelope(kind: Kind) -> Vec<u8> {
    wire::Envelope {
        critical: true,
        kind: Some(kind),
    }
    .encode_to_vec()
}

fn accepted() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.accept_hello();
    decoder
}

fn receive(decoder: &mut Decoder, envelope: &[u8]) -> Result<Option<Received>, FrameError> {
    decoder.next(&mut frame(envelope).as_slice())
}

/// The error that an envelope meets after the hello.
fn refused(envelope: &[u8]) -> FrameError {
    receive(&mut accepted(), envelope).unwrap_err()
}

#[track_caller]
fn invalid(kind: Kind, field: &'static str, why: Why) {
    assert_eq!(
        refused(&envelope(kind)),
        FrameError::Invalid(Invalid { field, why })
    );
}

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
        let mut bytes = frame(&field(32, b"a later version's"));
        bytes.extend(frame(&field(536_870_911, &[])));
        bytes.extend(Frame::of(Message::Hello(hello())).as_bytes());
        let received = decoder.next(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(received.message, Message::Hello(hello()));
        let critical = [&[0x08, 1], &field(32, b"")[..]].concat();
        assert_eq!(
            receive(&mut decoder, &critical),
            Err(FrameError::UnknownKind { kind: 32 })
        );
    }
}

#[test]
fn critical_may_stand_behind_the_kind() {
    let critical = [&field(32, b"")[..], &[0x08, 1]].concat();
    assert_eq!(refused(&critical), FrameError::UnknownKind { kind: 32 });
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
    for (first, second) in [(29, 30), (29, 29), (32, 29), (29, 32)] {
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

// ---- fields ----

fn offer() -> wire::Offer {
    wire::Offer {
        suites: vec![0x0101],
        digests: vec![1],
        codecs: vec![1],
        lanes: 4,
        page_size: 4096,
        mirror: Some(wire::MirrorBudget::default()),
    }
}

fn wire_hello() -> wire::Hello {
    hello().into()
}

fn admission() -> wire::Admission {
    wire::Admission {
        name: "web-1".into(),
        uuid: vec![1; 16],
        machine: "pc-q35-10.0".into(),
        blocks: vec![block("pc.ram")],
        memory_needed: 5,
    }
}

fn block(name: &str) -> wire::RamBlock {
    wire::RamBlock {
        name: name.into(),
        length: 8192,
        page_size: 4096,
    }
}

#[test]
fn hellos() {
    let with = |change: fn(&mut wire::Hello)| {
        let mut hello = wire_hello();
        change(&mut hello);
        Kind::Hello(hello)
    };
    let versions = "Hello.wire_versions";
    let count = |found| Why::Count {
        least: 1,
        most: 16,
        found,
    };
    invalid(
        with(|hello| hello.wire_versions.clear()),
        versions,
        count(0),
    );
    invalid(
        with(|hello| hello.wire_versions = (1..=17).collect()),
        versions,
        count(17),
    );
    invalid(
        with(|hello| hello.wire_versions = vec![2, 1, 2]),
        versions,
        Why::Repeated { index: 2 },
    );
    let zero = Why::Number {
        least: 1,
        most: u32::MAX.into(),
        found: 0,
    };
    invalid(with(|hello| hello.wire_versions = vec![0]), versions, zero);
    invalid(
        with(|hello| hello.role = 0),
        "Hello.role",
        Why::Enumerator { found: 0 },
    );
    invalid(
        with(|hello| hello.role = 3),
        "Hello.role",
        Why::Enumerator { found: 3 },
    );
    let id = Why::Length {
        least: 16,
        most: 16,
        found: 15,
    };
    invalid(
        with(|hello| hello.session.truncate(15)),
        "Hello.session",
        id,
    );
    let long = Why::Length {
        least: 1,
        most: 255,
        found: 256,
    };
    invalid(
        with(|hello| hello.software = "x".repeat(256)),
        "Hello.software",
        long,
    );
}

#[test]
fn the_highest_common_version_is_taken() {
    let with = |versions| Hello {
        wire_versions: Distinct::new("", versions).unwrap(),
        ..hello()
    };
    assert_eq!(
        with(vec![1, 3, 2]).common_version(&with(vec![2, 1, 9])),
        Some(2)
    );
    assert_eq!(with(vec![1]).common_version(&with(vec![2])), None);
}

#[test]
fn offers() {
    let wide = Why::Number {
        least: 1,
        most: 0xffff,
        found: 0x1_0000,
    };
    invalid(
        Kind::Offer(wire::Offer {
            suites: vec![0x1_0000],
            ..offer()
        }),
        "Offer.suites",
        wide,
    );
    let no_sha = wire::Offer {
        digests: vec![2],
        ..offer()
    };
    invalid(Kind::Offer(no_sha), "Offer.digests: SHA-256", Why::Missing);
    for found in [0, 257] {
        let lanes = Why::Number {
            least: 1,
            most: 256,
            found,
        };
        let offer = wire::Offer {
            lanes: u32::try_from(found).unwrap(),
            ..offer()
        };
        invalid(Kind::Offer(offer), "Offer.lanes", lanes);
    }
    for page_size in [0, 2048, 5000, 128 << 10] {
        let found = page_size.into();
        let offer = wire::Offer {
            page_size,
            ..offer()
        };
        invalid(
            Kind::Offer(offer),
            "Offer.page_size",
            Why::Alignment { found },
        );
    }
    invalid(
        Kind::Offer(wire::Offer {
            mirror: None,
            ..offer()
        }),
        "Offer.mirror",
        Why::Missing,
    );
    let slots = (1 << 40) + 1;
    let mirror = Some(wire::MirrorBudget {
        slots,
        bases: 0,
        windows: 0,
    });
    let much = Why::Number {
        least: 0,
        most: 1 << 40,
        found: slots,
    };
    invalid(
        Kind::Offer(wire::Offer { mirror, ..offer() }),
        "MirrorBudget.slots",
        much,
    );
}

#[test]
fn a_choice_takes_what_was_offered() {
    let offer = wire::Offer {
        codecs: vec![1, 2, 3],
        ..offer()
    }
    .try_into()
    .unwrap();
    let good = wire::Choice {
        suite: 0x0101,
        digest: 1,
        codecs: vec![1, 3],
        lanes: 4,
        mirror: Some(wire::MirrorBudget::default()),
    };
    let check = |choice: wire::Choice| {
        sealift_session::control::Choice::try_from(choice)
            .unwrap()
            .check_within(&offer)
    };
    let refused = |field, why| Err(Invalid { field, why });
    let not_offered = |found| Why::NotOffered { found };
    assert_eq!(check(good.clone()), Ok(()));
    let suite = wire::Choice {
        suite: 1,
        ..good.clone()
    };
    assert_eq!(check(suite), refused("Choice.suite", not_offered(1)));
    let digest = wire::Choice {
        digest: 2,
        ..good.clone()
    };
    assert_eq!(check(digest), refused("Choice.digest", not_offered(2)));
    let order = wire::Choice {
        codecs: vec![3, 1],
        ..good.clone()
    };
    assert_eq!(check(order), refused("Choice.codecs", not_offered(1)));
    let lanes = wire::Choice {
        lanes: 5,
        ..good.clone()
    };
    let many = Why::Number {
        least: 1,
        most: 4,
        found: 5,
    };
    assert_eq!(check(lanes), refused("Choice.lanes", many));
    let mirror = Some(wire::MirrorBudget {
        slots: 0,
        bases: 1,
        windows: 0,
    });
    let much = Why::Number {
        least: 0,
        most: 0,
        found: 1,
    };
    assert_eq!(
        check(wire::Choice { mirror, ..good }),
        refused("MirrorBudget.bases", much)
    );
}

#[test]
fn admissions() {
    let with = |change: fn(&mut wire::Admission)| {
        let mut admission = admission();
        change(&mut admission);
        Kind::Admission(admission)
    };
    let length = |found| Why::Length {
        least: 1,
        most: 255,
        found,
    };
    invalid(
        with(|guest| guest.name.clear()),
        "Admission.name",
        length(0),
    );
    invalid(
        with(|guest| guest.name = "ä".repeat(128)),
        "Admission.name",
        length(256),
    );
    invalid(
        with(|guest| guest.machine.clear()),
        "Admission.machine",
        length(0),
    );
    let uuid = Why::Length {
        least: 16,
        most: 16,
        found: 0,
    };
    invalid(with(|guest| guest.uuid.clear()), "Admission.uuid", uuid);
    let blocks = |found| Why::Count {
        least: 1,
        most: 1024,
        found,
    };
    invalid(
        with(|guest| guest.blocks.clear()),
        "Admission.blocks",
        blocks(0),
    );
    let many = with(|guest| guest.blocks = (0..=1024).map(|n| block(&n.to_string())).collect());
    invalid(many, "Admission.blocks", blocks(1025));
    let twice = with(|guest| guest.blocks = vec![block("a"), block("b"), block("a")]);
    invalid(twice, "Admission.blocks", Why::Repeated { index: 2 });
    invalid(
        with(|guest| guest.blocks[0].name.clear()),
        "RamBlock.name",
        length(0),
    );
    let aligned = |found| Why::Alignment { found };
    invalid(
        with(|guest| guest.blocks[0].length = 0),
        "RamBlock.length",
        aligned(0),
    );
    invalid(
        with(|guest| guest.blocks[0].length = 6000),
        "RamBlock.length",
        aligned(6000),
    );
    invalid(
        with(|guest| guest.blocks[0].page_size = 2048),
        "RamBlock.page_size",
        aligned(2048),
    );
    invalid(
        Kind::Verdict(wire::Verdict::default()),
        "Verdict.verdict",
        Why::Missing,
    );
}

#[test]
fn the_largest_admission_fits() {
    let mut largest = admission();
    largest.name = "n".repeat(255);
    largest.machine = "m".repeat(255);
    largest.memory_needed = u64::MAX;
    largest.blocks = (0..1024)
        .map(|n| wire::RamBlock {
            length: 1 << 63,
            page_size: 1 << 63,
            ..block(&format!("{n:0>255}"))
        })
        .collect();
    let message = Message::Admission(largest.try_into().unwrap());
    let frame = Frame::of(message.clone());
    assert!(frame.as_bytes().len() < 300 << 10, "{frame:?}");
    let received = accepted().next(&mut frame.as_bytes()).unwrap().unwrap();
    assert_eq!(received.message, message);
}

#[test]
fn ranges() {
    let acknowledge = |ranges: &[(u64, u64)]| {
        let range = |&(first, last): &_| wire::BatchRange { first, last };
        Kind::Acknowledgement(wire::Acknowledgement {
            ranges: ranges.iter().map(range).collect(),
        })
    };
    let field = "Acknowledgement.ranges";
    invalid(
        acknowledge(&[]),
        field,
        Why::Count {
            least: 1,
            most: 1024,
            found: 0,
        },
    );
    let many: Vec<_> = (0..1025).map(|n| (2 * n, 2 * n)).collect();
    invalid(
        acknowledge(&many),
        field,
        Why::Count {
            least: 1,
            most: 1024,
            found: 1025,
        },
    );
    let empty = Why::Number {
        least: 5,
        most: u64::MAX - 1,
        found: 4,
    };
    invalid(acknowledge(&[(5, 4)]), "BatchRange.last", empty);
    let endless = Why::Number {
        least: 5,
        most: u64::MAX - 1,
        found: u64::MAX,
    };
    invalid(acknowledge(&[(5, u64::MAX)]), "BatchRange.last", endless);
    for touching in [[(0, 4), (5, 6)], [(0, 4), (4, 6)], [(5, 6), (0, 3)]] {
        invalid(acknowledge(&touching), field, Why::Disorder { index: 1 });
    }
    let ranges = vec![wire::BatchRange { first: 3, last: 9 }];
    let void = Kind::Void(wire::Void { ranges, next: 9 });
    invalid(
        void,
        "Void.next",
        Why::Number {
            least: 10,
            most: u64::MAX,
            found: 9,
        },
    );
    let whole = BatchRanges::<1>::new("", vec![BatchRange::new(0, u64::MAX - 1).unwrap()]);
    assert!(whole.is_ok());
}

#[test]
fn tokens() {
    let tokens = |lanes: &[u32]| {
        let token = |&lane: &u32| wire::LaneToken {
            lane,
            token: vec![9; 32],
        };
        Kind::LaneTokens(wire::LaneTokens {
            tokens: lanes.iter().map(token).collect(),
        })
    };
    let list = "LaneTokens.tokens";
    invalid(
        tokens(&[]),
        list,
        Why::Count {
            least: 1,
            most: 256,
            found: 0,
        },
    );
    invalid(
        tokens(&[0; 257]),
        list,
        Why::Count {
            least: 1,
            most: 256,
            found: 257,
        },
    );
    invalid(tokens(&[1, 0, 1]), list, Why::Repeated { index: 2 });
    invalid(
        tokens(&[256]),
        "LaneToken.lane",
        Why::Number {
            least: 0,
            most: 255,
            found: 256,
        },
    );
    let short = vec![wire::LaneToken {
        lane: 0,
        token: vec![9; 31],
    }];
    let length = Why::Length {
        least: 32,
        most: 32,
        found: 31,
    };
    invalid(
        Kind::LaneTokens(wire::LaneTokens { tokens: short }),
        "LaneToken.token",
        length,
    );
}

#[test]
fn the_rest() {
    let shares = |ecdh, mlkem| {
        Kind::Shares(wire::Shares {
            ecdh: vec![0; ecdh],
            mlkem: vec![0; mlkem],
        })
    };
    invalid(
        shares(66, 0),
        "Shares.ecdh",
        Why::Length {
            least: 32,
            most: 65,
            found: 66,
        },
    );
    invalid(
        shares(32, 1185),
        "Shares.mlkem",
        Why::Length {
            least: 0,
            most: 1184,
            found: 1185,
        },
    );
    let proof = Kind::Confirmation(wire::Confirmation { value: vec![0; 33] });
    invalid(
        proof,
        "Confirmation.value",
        Why::Length {
            least: 32,
            most: 32,
            found: 33,
        },
    );
    for found in [0, 65537] {
        let data = Kind::ReturnPath(wire::ReturnPath {
            data: vec![0; found],
        });
        invalid(
            data,
            "ReturnPath.data",
            Why::Length {
                least: 1,
                most: 65536,
                found,
            },
        );
    }
    let pong = Kind::Pong(wire::Pong {
        id: 0,
        received_ns: 2,
        sent_ns: 1,
    });
    invalid(
        pong,
        "Pong.sent_ns",
        Why::Number {
            least: 2,
            most: u64::MAX,
            found: 1,
        },
    );
    let error = |kind, fault, message: &str| {
        Kind::Error(wire::Error {
            kind,
            fault,
            message: message.into(),
        })
    };
    invalid(error(0, 1, "x"), "Error.kind", Why::Enumerator { found: 0 });
    invalid(
        error(1, 6, "x"),
        "Error.fault",
        Why::Enumerator { found: 6 },
    );
    let long = "x".repeat(1025);
    let length = |found| Why::Length {
        least: 1,
        most: 1024,
        found,
    };
    invalid(error(1, 1, ""), "Error.message", length(0));
    invalid(error(1, 1, &long), "Error.message", length(1025));
}

#[test]
fn stages() {
    use wire::stage_change::Change;
    let stage = |change| Kind::StageChange(wire::StageChange { change });
    invalid(stage(None), "StageChange.change", Why::Missing);
    let drained = wire::Drained {
        batches: 1,
        version_map: vec![],
    };
    let length = Why::Length {
        least: 32,
        most: 32,
        found: 0,
    };
    invalid(
        stage(Some(Change::Drained(drained))),
        "Drained.version_map",
        length,
    );
    let commit = stage(Some(Change::Commit(wire::Commit { run_state: 0 })));
    invalid(commit, "Commit.run_state", Why::Enumerator { found: 0 });
    invalid(
        stage(Some(Change::Abort(wire::Abort { error: None }))),
        "Abort.error",
        Why::Missing,
    );
}

#[test]
fn secrets_stay_out_of_logs() {
    let token = sealift_session::control::LaneToken {
        lane: 3,
        token: [0xab; 32],
    };
    assert_eq!(format!("{token:?}"), "LaneToken { lane: 3, .. }");
}
