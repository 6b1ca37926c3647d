//! From hellos to keys, and each way in which it ends before.

use std::error::Error as _;

use sealift_pages::{Agreed as Terms, Algorithm, Codecs, Layout, PageSize};
use sealift_seal::{Ledger, Opener, Sealer, Suite};
use sealift_session::control::{
    Distinct, ErrorKind, Failure, Fault, Frame, Hello, Invalid, Message, Offer, Pong, Received,
    RefusalKind, Refused, Role, SessionId, Why,
};
use sealift_session::handshake::receiver::{Abilities, Considering, Expecting};
use sealift_session::handshake::source::{Greeting, Request};
use sealift_session::handshake::{Failed, Reason, Secured};

use super::ends::{
    Asked, RECEIVER_CERTIFICATE, SESSION, SOURCE_CERTIFICATE, abilities, admission, agreed,
    arrives, begins, confirming, considering, offer, request, secured, seed, text,
};

#[test]
fn both_ends_agree_and_what_one_seals_the_other_opens() {
    let (mut source, mut receiver) = agreed();
    assert_eq!(source.suite, Suite::X25519MlKem768);
    assert_eq!(source.digest, Algorithm::Blake3);
    assert_eq!(source.choice, receiver.choice);
    assert_eq!(source.choice.codecs.as_slice(), [1]);
    assert_eq!(source.choice.lanes.lanes(), 4);
    assert_eq!(source.session, receiver.session);
    assert_eq!(source.admission, receiver.admission);
    assert_eq!(
        (source.memory_free, receiver.memory_free),
        (3 << 20, 3 << 20)
    );
    assert_eq!(receiver.peer_name, request().peer_name);
    assert_eq!(source.peer_certificate, RECEIVER_CERTIFICATE);
    assert_eq!(receiver.peer_certificate, SOURCE_CERTIFICATE);
    let layout = Layout::new(PageSize::new(4096).unwrap(), vec![256, 64])
        .unwrap()
        .with_agreed(Terms {
            digest: Algorithm::Blake3,
            codecs: Codecs::ALL,
            oldest: 32,
            ..Terms::default()
        });
    assert_eq!(source.layout, layout);
    assert_eq!(receiver.layout, layout);

    let mut sealer = source.keyed.sealer(0).unwrap();
    let mut opener: Opener = receiver.keyed.opener(0, sealer.epoch()).unwrap();
    let mut batch = vec![7; Sealer::OVERHEAD + 5];
    sealer.seal(0, &mut batch).unwrap();
    let (header, sealed) = batch.split_first_chunk_mut().unwrap();
    let checked = opener.check(header).unwrap();
    let mut ledger = Ledger::new();
    let opened = opener.open(checked, sealed).unwrap();
    assert_eq!(opened.accept(&mut ledger).unwrap(), [7; 5]);
}

#[test]
fn a_source_that_saw_another_certificate_confirms_other_keys() {
    let elsewhere = secured(3, SOURCE_CERTIFICATE, b"another");
    let here = secured(3, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE);
    not_confirmed(elsewhere, here);
}

#[test]
fn another_connections_exporter_makes_other_keys() {
    let elsewhere = secured(4, SOURCE_CERTIFICATE, RECEIVER_CERTIFICATE);
    let here = secured(3, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE);
    not_confirmed(elsewhere, here);
}

fn not_confirmed(at_source: Secured, at_receiver: Secured) {
    let (source, receiver) = considering(request(), &abilities(), at_source, at_receiver).unwrap();
    let (source, from_source, receiver, from_receiver) = confirming(source, receiver).unwrap();
    for failed in [
        source.receive(arrives(&from_receiver)).unwrap_err(),
        receiver.receive(arrives(&from_source)).unwrap_err(),
    ] {
        assert_eq!(failed.kind(), ErrorKind::Identity);
        assert_eq!(
            *failed.reason(),
            Reason::Keys(sealift_seal::Error::Confirmation)
        );
    }
}

#[test]
fn a_refusal_reaches_the_person_at_the_source() {
    let (asked, receiver) = both().unwrap();
    let refused = Refused {
        kind: RefusalKind::Memory,
        explanation: text("2 MiB are needed, 1 MiB is free: free some on host-b"),
    };
    let failed = asked
        .source
        .receive(arrives(&receiver.refuse(refused.clone())))
        .unwrap_err();
    assert_eq!(*failed.reason(), Reason::Refused(refused));
    assert_eq!(failed.kind(), ErrorKind::Resources);
    assert_eq!(failed.fault(), Fault::Receiver);
    assert_eq!(failed.to_tell(), None);
    assert_eq!(
        failed.to_string(),
        "the receiver does not take the guest: 2 MiB are needed, 1 MiB is free: free some on host-b"
    );
}

#[test]
fn what_the_peer_explains_is_told_apart_from_what_is_found_here() {
    let failure = Failure::new(ErrorKind::Resources, Fault::Receiver, "too many sessions");
    let (asked, _) = both().unwrap();
    let told = Frame::of(Message::Failure(failure.clone()));
    let failed = asked.source.receive(arrives(&told)).unwrap_err();
    assert_eq!(*failed.reason(), Reason::Told(failure));
    assert_eq!(
        failed.to_string(),
        "the receiver ended the session: too many sessions"
    );
    assert_eq!(failed.to_tell(), None);
}

/// Each stage, and what it makes of each kind of message that it does not wait for.
#[test]
fn a_message_out_of_turn_ends_the_session_and_never_panics() {
    let strays = || {
        let pong = Pong::new(1, 1, 1).unwrap();
        [
            Message::Confirmation([1; 32]),
            Message::Pong(pong),
            Message::Offer(offer()),
            Message::Admission(admission()),
            Message::Hello(hello(Role::Source)),
        ]
    };
    type Stage = (&'static str, Box<dyn Fn(Received) -> Option<Failed>>);
    let stages: [Stage; 8] = [
        ("Hello", Box::new(|stray| greeting().receive(stray).err())),
        ("Hello", Box::new(|stray| expecting().receive(stray).err())),
        (
            "Choice",
            Box::new(|stray| {
                let source = greeting()
                    .receive(arrives(&Frame::of(Message::Hello(hello(Role::Receiver)))))
                    .unwrap();
                source.receive(stray).err()
            }),
        ),
        (
            "Offer",
            Box::new(|stray| {
                let hello = Frame::of(Message::Hello(hello(Role::Source)));
                let (receiver, _) = begins(expecting().receive(arrives(&hello)).unwrap());
                receiver.receive(stray, &abilities()).err()
            }),
        ),
        (
            "Verdict",
            Box::new(|stray| both().unwrap().0.source.receive(stray).err()),
        ),
        (
            "Shares",
            Box::new(|stray| {
                let (_, receiver) = both().unwrap();
                receiver.accept(1).0.receive(stray, seed(1)).err()
            }),
        ),
        (
            "Shares",
            Box::new(|stray| {
                let (asked, receiver) = both().unwrap();
                let verdict = arrives(&receiver.accept(1).1);
                asked.source.receive(verdict).unwrap().receive(stray).err()
            }),
        ),
        (
            "Confirmation",
            Box::new(|stray| {
                let (source, receiver) = both().unwrap();
                confirming(source, receiver).unwrap().0.receive(stray).err()
            }),
        ),
    ];
    for (due, stage) in stages {
        for stray in strays() {
            if stray.kind() == due {
                continue;
            }
            let failed = stage(arrives(&Frame::of(stray.clone()))).unwrap();
            let expected = Reason::Unexpected {
                expected: due,
                found: stray.kind(),
            };
            assert_eq!(*failed.reason(), expected);
            assert_eq!(failed.kind(), ErrorKind::Protocol);
            assert_eq!(failed.to_tell().unwrap().fault, failed.fault());
        }
    }
}

#[test]
fn two_sources_or_two_receivers_have_nothing_to_do_with_each_other() {
    let failed = greeting()
        .receive(arrives(&Frame::of(Message::Hello(hello(Role::Source)))))
        .unwrap_err();
    assert_eq!(*failed.reason(), Reason::Role);
    let failed = expecting()
        .receive(arrives(&Frame::of(Message::Hello(hello(Role::Receiver)))))
        .unwrap_err();
    assert_eq!(*failed.reason(), Reason::Role);
    assert_eq!(failed.fault(), Fault::Source);
}

#[test]
fn a_hello_is_answered_for_its_own_session_and_version() {
    let answered = |change: fn(&mut Hello)| {
        let mut hello = hello(Role::Receiver);
        change(&mut hello);
        let failed = greeting()
            .receive(arrives(&Frame::of(Message::Hello(hello))))
            .unwrap_err();
        (failed.reason().clone(), failed.kind())
    };
    let found = SessionId([1; 16]);
    assert_eq!(
        answered(|hello| hello.session = SessionId([1; 16])),
        (Reason::Session { found }, ErrorKind::Protocol)
    );
    assert_eq!(
        answered(|hello| hello.wire_versions = Distinct::new("", vec![2]).unwrap()),
        (Reason::Version, ErrorKind::Incompatible)
    );
    assert_eq!(
        answered(|hello| hello.resume = true),
        (Reason::Resume, ErrorKind::Incompatible)
    );
}

#[test]
fn a_receiver_takes_up_no_other_version() {
    let asked = |change: fn(&mut Hello)| {
        let mut hello = hello(Role::Source);
        change(&mut hello);
        let failed = expecting()
            .receive(arrives(&Frame::of(Message::Hello(hello))))
            .unwrap_err();
        failed.reason().clone()
    };
    assert_eq!(
        asked(|hello| hello.wire_versions = Distinct::new("", vec![2]).unwrap()),
        Reason::Version
    );
    let again = |hello: &mut Hello| {
        hello.wire_versions = Distinct::new("", vec![2]).unwrap();
        hello.resume = true;
    };
    assert_eq!(asked(again), Reason::Version);
}

#[test]
fn memory_is_read_again_only_with_qmp_at_the_receiver() {
    let request = Request {
        offer: Offer {
            verify_full: true,
            ..offer()
        },
        ..request()
    };
    let mut unmanaged = abilities();
    unmanaged.destination.managed = false;
    let failed = with(request.clone(), &unmanaged).unwrap_err();
    assert_eq!(*failed.reason(), Reason::VerifyFull);
    let told = failed.to_tell().unwrap();
    assert_eq!(told.kind, ErrorKind::Incompatible);
    assert_eq!(told.fault, Fault::User);
    assert!(told.message.as_str().contains("control socket"), "{told}");
    assert!(with(request, &abilities()).is_ok());
}

#[test]
fn without_a_common_suite_both_ends_are_told() {
    let mut classical = abilities();
    classical.suites = vec![Suite::P256];
    let failed = with(request(), &classical).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Incompatible);
    assert_eq!(failed.fault(), Fault::Source);
    assert_eq!(
        failed.to_tell().unwrap().message.as_str(),
        "the receiver could not agree on keys with the source: source offered no suite that this host allows"
    );
}

#[test]
fn the_least_common_is_chosen() {
    let mut plain = abilities();
    plain.digests = vec![];
    plain.codecs = Codecs::NONE;
    let (_, receiver) = with(request(), &plain).unwrap();
    let choice = receiver.choice();
    assert_eq!(choice.digest, 1);
    assert_eq!(choice.codecs.as_slice(), []);
    let mirror = (
        choice.mirror.slots(),
        choice.mirror.bases(),
        choice.mirror.windows(),
    );
    assert_eq!(mirror, (32 << 20, 0, 5));
}

#[test]
fn a_choice_beyond_the_offer_and_a_guest_of_other_pages_are_refused() {
    let source = greeting()
        .receive(arrives(&Frame::of(Message::Hello(hello(Role::Receiver)))))
        .unwrap();
    let (_, receiver) = both().unwrap();
    let mut choice = receiver.choice().clone();
    choice.suite = 0x0002;
    let failed = source
        .receive(arrives(&Frame::of(Message::Choice(choice))))
        .unwrap_err();
    let invalid = Invalid {
        field: "Choice.suite",
        why: Why::NotOffered { found: 2 },
    };
    assert_eq!(*failed.reason(), Reason::Invalid(invalid));
    assert_eq!(failed.to_string(), "the receiver's Choice is not allowed");
    assert!(failed.source().is_some());

    let large = Request {
        offer: Offer {
            page_size: PageSize::new(65536).unwrap(),
            ..offer()
        },
        ..request()
    };
    let failed = with(large, &abilities()).unwrap_err();
    assert!(matches!(failed.reason(), Reason::Own(_)), "{failed}");
    assert_eq!(failed.fault(), Fault::Source);
}

fn with(request: Request, abilities: &Abilities) -> Result<(Asked, Considering), Failed> {
    considering(
        request,
        abilities,
        secured(3, SOURCE_CERTIFICATE, RECEIVER_CERTIFICATE),
        secured(3, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE),
    )
}

fn both() -> Result<(Asked, Considering), Failed> {
    with(request(), &abilities())
}

fn greeting() -> Greeting {
    Greeting::new(
        secured(3, SOURCE_CERTIFICATE, RECEIVER_CERTIFICATE),
        request(),
    )
    .0
}

fn expecting() -> Expecting {
    Expecting::new(secured(3, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE), None)
}

/// A hello as it arrives.
pub(crate) fn hello_of(role: Role, session: SessionId, resume: bool) -> Received {
    let hello = Hello {
        session,
        resume,
        ..hello(role)
    };
    arrives(&Frame::of(Message::Hello(hello)))
}

fn hello(role: Role) -> Hello {
    Hello {
        wire_versions: Distinct::new("", vec![1]).unwrap(),
        role,
        session: SESSION,
        resume: false,
        software: None,
        peer_name: (role == Role::Source).then(|| text("host-b")),
    }
}
