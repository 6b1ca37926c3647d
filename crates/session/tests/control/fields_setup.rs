//! The bounds of each field up to the choice.

use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{Choice, Distinct, Hello, Invalid, MirrorBudget, Offer, Why};

use super::{hello, invalid, offer};

fn wire_hello() -> wire::Hello {
    hello().into()
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
    let name = "Hello.peer_name";
    invalid(with(|hello| hello.peer_name = "x".repeat(256)), name, long);
    let nobody = Why::Length {
        least: 1,
        most: 255,
        found: 0,
    };
    invalid(with(|hello| hello.peer_name.clear()), name, nobody);
    let receivers = Why::Length {
        least: 0,
        most: 0,
        found: 6,
    };
    invalid(
        with(|hello| hello.role = wire::Role::Receiver.into()),
        name,
        receivers,
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
    let days = Why::Number {
        least: 0,
        most: 86_400_000,
        found: 86_400_001,
    };
    let patient = wire::Offer {
        resume_for_ms: 86_400_001,
        ..offer()
    };
    invalid(Kind::Offer(patient), "Offer.resume_for_ms", days);
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
        destination: Some(wire::Destination::default()),
    };
    let check = |choice: wire::Choice| Choice::try_from(choice).unwrap().check_within(&offer);
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
    let bases = wire::Choice {
        mirror,
        ..good.clone()
    };
    assert_eq!(check(bases), refused("MirrorBudget.bases", much));
    let nowhere = wire::Choice {
        destination: None,
        ..good
    };
    invalid(Kind::Choice(nowhere), "Choice.destination", Why::Missing);
}

#[test]
fn memory_is_read_again_only_where_the_destination_is_managed() {
    let offer = wire::Offer {
        verify_full: true,
        resume_for_ms: 60_000,
        ..offer()
    }
    .try_into()
    .unwrap();
    let check = |managed| {
        let choice = wire::Choice {
            suite: 0x0101,
            digest: 1,
            codecs: vec![],
            lanes: 4,
            mirror: Some(wire::MirrorBudget::default()),
            destination: Some(wire::Destination {
                managed,
                ..Default::default()
            }),
        };
        Choice::try_from(choice).unwrap().check_within(&offer)
    };
    assert_eq!(check(true), Ok(()));
    let (field, why) = ("Destination.managed", Why::Missing);
    assert_eq!(check(false), Err(Invalid { field, why }));
}

#[test]
fn a_budget_is_bounded_in_each_part() {
    let most = 1 << 40;
    let budget = |parts: [u64; 3]| MirrorBudget::new(parts[0], parts[1], parts[2]);
    assert!(budget([most; 3]).is_ok());
    let fields = [
        "MirrorBudget.slots",
        "MirrorBudget.bases",
        "MirrorBudget.windows",
    ];
    for (part, field) in fields.into_iter().enumerate() {
        let mut parts = [0; 3];
        parts[part] = most + 1;
        let why = Why::Number {
            least: 0,
            most,
            found: most + 1,
        };
        assert_eq!(budget(parts), Err(Invalid { field, why }));

        let offer: Offer = offer().try_into().unwrap();
        let mut mirror = [0; 3];
        mirror[part] = 1;
        let [slots, bases, windows] = mirror;
        let choice = wire::Choice {
            suite: 0x0101,
            digest: 1,
            codecs: vec![],
            lanes: 1,
            mirror: Some(wire::MirrorBudget {
                slots,
                bases,
                windows,
            }),
            destination: Some(wire::Destination::default()),
        };
        let why = Why::Number {
            least: 0,
            most: 0,
            found: 1,
        };
        let choice = Choice::try_from(choice).unwrap();
        assert_eq!(choice.check_within(&offer), Err(Invalid { field, why }));
    }
}

#[test]
fn a_zero_is_refused_by_the_bounds_of_its_list() {
    let offer = wire::Offer {
        codecs: vec![0],
        ..offer()
    };
    let zero = Why::Number {
        least: 1,
        most: 255,
        found: 0,
    };
    invalid(Kind::Offer(offer), "Offer.codecs", zero);
}
