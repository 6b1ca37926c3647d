//! The bounds of each field from the keys on.

use prost::Message as _;
use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{
    BatchRange, BatchRanges, Bytes, Choice, Epoch, Frame, Invalid, LaneToken, LaneTokens, Message,
    Resume, Shares, StageChange, Verification, Why,
};

use super::{accepted, invalid};

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
    let whole = BatchRanges::new("", vec![BatchRange::new(0, u64::MAX - 1).unwrap()]);
    assert!(whole.is_ok());
}

#[test]
fn resume() {
    let too_long = Why::Length {
        least: 0,
        most: 8192,
        found: 8193,
    };
    let seen = |bytes| wire::Resume {
        seen: vec![0; bytes],
        ..wire::Resume::default()
    };
    invalid(Kind::Resume(seen(8193)), "Resume.seen", too_long);
    let resume = Resume {
        heard: 0,
        lowest: 70,
        seen: Bytes::new("", vec![0b10, 0, 1]).unwrap(),
    };
    let seen: Vec<_> = (60..200)
        .filter(|&number| resume.has_seen(number))
        .collect();
    assert_eq!(seen, [(60..70).collect(), vec![71, 86]].concat());
    assert!(!resume.has_seen(u64::MAX));
}

#[test]
fn placing() {
    let placing = |blocks: &[u32]| {
        let blocks = blocks.to_vec();
        Kind::Placing(wire::Placing { blocks })
    };
    let field = "Placing.blocks";
    let none = Why::Count {
        least: 1,
        most: 1024,
        found: 0,
    };
    invalid(placing(&[]), field, none);
    for (disorder, index) in [(&[3, 3][..], 1), (&[0, 4, 2], 2)] {
        invalid(placing(disorder), field, Why::Disorder { index });
    }
    for found in [1024, 70_000] {
        let most = Why::Number {
            least: 0,
            most: 1023,
            found: found.into(),
        };
        invalid(placing(&[0, found]), field, most);
    }
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
fn epochs() {
    let good = wire::Epoch {
        lane: 4,
        direction: 1,
        epoch: 7,
        sealed_before: 1 << 31,
    };
    let most = |most, found| Why::Number {
        least: 0,
        most,
        found,
    };
    let lane = wire::Epoch { lane: 256, ..good };
    invalid(Kind::Epoch(lane), "Epoch.lane", most(255, 256));
    for found in [0, 3] {
        let way = wire::Epoch {
            direction: found,
            ..good
        };
        invalid(
            Kind::Epoch(way),
            "Epoch.direction",
            Why::Enumerator { found },
        );
    }
    let sealed = "Epoch.sealed_before";
    let many = wire::Epoch {
        sealed_before: (1 << 31) + 1,
        ..good
    };
    invalid(Kind::Epoch(many), sealed, most(1 << 31, (1 << 31) + 1));
    let first = wire::Epoch { epoch: 0, ..good };
    invalid(Kind::Epoch(first), sealed, most(0, 1 << 31));
    let back = wire::Epoch {
        direction: 2,
        sealed_before: 1,
        ..good
    };
    invalid(Kind::Epoch(back), sealed, most(0, 1));

    let choice = |lanes| wire::Choice {
        suite: 1,
        digest: 1,
        codecs: vec![],
        lanes,
        mirror: Some(wire::MirrorBudget::default()),
        destination: Some(wire::Destination::default()),
    };
    let check = |epoch, lanes| {
        let choice = Choice::try_from(choice(lanes)).unwrap();
        Epoch::try_from(epoch).unwrap().check_within(&choice)
    };
    assert_eq!(check(good, 5), Ok(()));
    let field = "Epoch.lane";
    let why = most(3, 4);
    assert_eq!(check(good, 4), Err(Invalid { field, why }));
    let back = wire::Epoch {
        direction: 2,
        sealed_before: 0,
        ..good
    };
    let field = "Epoch.direction";
    let why = Why::NotOffered { found: 2 };
    assert_eq!(check(back, 5), Err(Invalid { field, why }));
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
    let secret = [0xe9; 32];
    let token = LaneToken::new(3, secret.into());
    assert_eq!(format!("{token:?}"), "LaneToken { lane: 3, .. }");
    assert_eq!(token, token.clone());
    assert_ne!(token, LaneToken::new(3, [0xe8; 32].into()));
    assert_ne!(token, LaneToken::new(4, secret.into()));

    let drained = StageChange::Drained {
        batches: 1,
        version_map: secret,
    };
    let prepared = StageChange::Prepared {
        batches: 1,
        version_map: secret,
    };
    let messages = [
        Message::LaneTokens(LaneTokens::new(vec![token]).unwrap()),
        Message::ReturnPath(Bytes::new("", secret.to_vec()).unwrap()),
        Message::Confirmation(secret),
        Message::StageChange(drained),
        Message::StageChange(prepared),
        Message::Verification(Verification {
            digest: secret,
            bytes: 1,
            ranges: 1,
        }),
        Message::Shares(Shares {
            ecdh: Bytes::new("", secret.to_vec()).unwrap(),
            mlkem: Bytes::new("", secret.to_vec()).unwrap(),
        }),
    ];
    for message in messages {
        let frame = Frame::of(message.clone());
        let wire = wire::Envelope::decode(frame.envelope()).unwrap();
        let mut decoder = accepted();
        let (most, last) = frame.as_bytes().split_at(frame.as_bytes().len() - 1);
        assert_eq!(decoder.next(&mut &most[..]), Ok(None));
        let half = format!("{decoder:?}");
        let received = decoder.next(&mut &last[..]).unwrap().unwrap();
        for printed in [
            format!("{message:?}"),
            format!("{frame:?}"),
            format!("{wire:?}"),
            half,
            format!("{received:?}"),
        ] {
            for told in ["233", "e9", "E9"] {
                assert!(!printed.contains(told), "{printed}");
            }
        }
    }
}

#[test]
fn a_token_is_for_a_lane_that_was_agreed_on() {
    let choice = wire::Choice {
        suite: 1,
        digest: 1,
        codecs: vec![],
        lanes: 4,
        mirror: Some(wire::MirrorBudget::default()),
        destination: Some(wire::Destination::default()),
    };
    let choice = Choice::try_from(choice).unwrap();
    let tokens = |lane| LaneTokens::new(vec![LaneToken::new(lane, [1; 32].into())]).unwrap();
    assert_eq!(tokens(3).check_within(&choice), Ok(()));
    let why = Why::Number {
        least: 0,
        most: 3,
        found: 4,
    };
    let field = "LaneToken.lane";
    let refused = Err(Invalid { field, why });
    assert_eq!(tokens(4).check_within(&choice), refused);
}
