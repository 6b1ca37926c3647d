//! A session that is taken up again: by its own two ends, and by nobody else.

use sealift_seal::{Exporter, Keyed, Receiver, Resumption, Seed, Source, Suite};
use sealift_session::control::{ErrorKind, Role, SessionId};
use sealift_session::handshake::again::{Known, Returning};
use sealift_session::handshake::receiver::{Asked, Expecting};
use sealift_session::handshake::{Failed, Reason, Secured};

use super::ends::{
    RECEIVER_CERTIFICATE, SESSION, SOURCE_CERTIFICATE, agreed, arrives, secured, seed, text,
};

fn known(resumption: &Resumption) -> Known<'_> {
    Known {
        session: SESSION,
        suite: Suite::X25519MlKem768,
        resumption,
    }
}

type Ends = (
    Result<Keyed<Source>, Failed>,
    Result<Keyed<Receiver>, Failed>,
);

/// A connection on which both ends say what they have to; what each makes of the other's confirmation.
fn taken_up(
    at_source: (Known<'_>, Secured, Seed),
    at_receiver: (Known<'_>, Secured, Seed),
) -> Result<Ends, Failed> {
    let (known, seen, own) = at_source;
    let (source, [hello, shares]) = Returning::new(known, seen, text("host-b"), None, own)?;
    let (known, seen, own) = at_receiver;
    let asked = Expecting::new(seen, Some(text("sealift 0.1"))).receive(arrives(&hello))?;
    let Asked::Again(returned) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(returned.session(), SESSION);
    let (receiver, answer) = returned.take_up(known);
    let source = source.receive(arrives(&answer))?;
    let (receiver, [share, from_receiver]) = receiver.receive(arrives(&shares), own)?;
    let (source, from_source) = source.receive(arrives(&share))?;
    Ok((
        source.receive(arrives(&from_receiver)),
        receiver.receive(arrives(&from_source)),
    ))
}

fn source_sees(exporter: u8) -> Secured {
    secured(exporter, SOURCE_CERTIFICATE, RECEIVER_CERTIFICATE)
}

fn receiver_sees(exporter: u8) -> Secured {
    secured(exporter, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE)
}

#[test]
fn both_ends_take_it_up_again_and_again_with_new_keys() {
    let (source, receiver) = agreed();
    let (here, there) = (
        source.keyed.resumption().unwrap(),
        receiver.keyed.resumption().unwrap(),
    );
    let mut keys = (source.keyed, receiver.keyed);
    let mut sealed = vec![];
    for exporter in 4..7 {
        // Lanes, epochs and numbers are the same each time: only the keys tell the batches apart.
        let batch = sealed_by(&mut keys.0);
        assert!(opens(&mut keys.1, &batch));
        assert!(!sealed.contains(&batch));
        sealed.push(batch);
        let (source, receiver) = taken_up(
            (known(&here), source_sees(exporter), seed(exporter)),
            (known(&there), receiver_sees(exporter), seed(exporter + 9)),
        )
        .unwrap();
        keys = (source.unwrap(), receiver.unwrap());
    }
    assert!(!opens(&mut keys.1, &sealed[0]));
}

/// A batch of lane 0's first epoch.
fn sealed_by(keys: &mut Keyed<Source>) -> Vec<u8> {
    let mut batch = vec![7; 60];
    keys.sealer(0).unwrap().seal(0, &mut batch).unwrap();
    batch
}

fn opens(keys: &mut Keyed<Receiver>, sealed: &[u8]) -> bool {
    let mut sealed = sealed.to_vec();
    let (header, body) = sealed.split_first_chunk_mut().unwrap();
    let mut opener = keys.opener(0, 0).unwrap();
    let checked = opener.check(header).unwrap();
    opener.open(checked, body).is_ok()
}

#[test]
fn whoever_was_not_there_at_first_is_not_let_in_under_the_same_name() {
    let (source, receiver) = agreed();
    let (others, _) = agreed_by(1);
    let (here, there) = (
        source.keyed.resumption().unwrap(),
        receiver.keyed.resumption().unwrap(),
    );
    let not_theirs = others.resumption().unwrap();
    let refused = |at_source: (Known<'_>, Secured), at_receiver: (Known<'_>, Secured)| {
        let (known, seen) = at_source;
        let (known_there, seen_there) = at_receiver;
        let (source, receiver) =
            taken_up((known, seen, seed(1)), (known_there, seen_there, seed(2))).unwrap();
        for failed in [source.err().unwrap(), receiver.err().unwrap()] {
            assert_eq!(
                *failed.reason(),
                Reason::Keys(sealift_seal::Error::Confirmation)
            );
            assert_eq!(failed.kind(), ErrorKind::Identity);
        }
    };
    refused(
        (known(&not_theirs), source_sees(3)),
        (known(&there), receiver_sees(3)),
    );
    // Somebody between the two.
    refused(
        (known(&here), source_sees(3)),
        (known(&there), receiver_sees(4)),
    );
    refused(
        (known(&here), source_sees(3)),
        (known(&there), secured(3, RECEIVER_CERTIFICATE, b"another")),
    );
}

/// A source's and a receiver's keys of another session, with these seeds.
fn agreed_by(byte: u8) -> (Keyed<Source>, Keyed<Receiver>) {
    use sealift_seal::{Context, Initiator, respond};
    let exporter = || {
        Exporter::fill(|bytes| {
            bytes.fill(byte);
            Ok::<_, ()>(())
        })
        .unwrap()
    };
    let context = Context {
        source_hello: b"",
        receiver_hello: b"",
        offer: b"",
        choice: b"",
        admission: b"",
        verdict: b"",
        source_certificate: SOURCE_CERTIFICATE,
        receiver_certificate: RECEIVER_CERTIFICATE,
        tls_client: sealift_seal::Role::Source,
        peer_name: b"",
        guest_uuid: [0; 16],
        guest_name: b"",
        ram_blocks: &[],
        offered: &[0x0101],
    };
    let session = sealift_seal::SessionId(SESSION.0);
    let initiator = Initiator::new(Suite::X25519MlKem768, seed(byte)).unwrap();
    let receiver = respond(Suite::X25519MlKem768, seed(byte + 1), initiator.share()).unwrap();
    let source = initiator.exchange(receiver.share()).unwrap();
    let source = source.derive(exporter(), session, &context).unwrap();
    let receiver = receiver.derive(exporter(), session, &context).unwrap();
    let (ours, theirs) = (
        source.confirmation().unwrap(),
        receiver.confirmation().unwrap(),
    );
    (
        source.confirm(theirs.as_bytes()).unwrap(),
        receiver.confirm(ours.as_bytes()).unwrap(),
    )
}

#[test]
fn a_receiver_that_does_not_have_it_any_more_says_so() {
    let (source, _) = agreed();
    let left = source.keyed.resumption().unwrap();
    let (_, [hello, _]) =
        Returning::new(known(&left), source_sees(3), text("host-b"), None, seed(1)).unwrap();
    let asked = Expecting::new(receiver_sees(3), None).receive(arrives(&hello));
    let Ok(Asked::Again(returned)) = asked else {
        panic!("{asked:?}");
    };
    let failed = returned.refuse();
    assert_eq!(*failed.reason(), Reason::Resume);
    let told = failed.to_tell().unwrap();
    assert_eq!(told.kind, ErrorKind::Incompatible);
    assert!(told.message.as_str().contains("begin a new one"), "{told}");
}

#[test]
fn an_answer_for_another_session_or_a_new_one_is_none() {
    let (source, _) = agreed();
    let left = source.keyed.resumption().unwrap();
    let answered = |session, resume| {
        let returning = Returning::new(known(&left), source_sees(3), text("host-b"), None, seed(1))
            .unwrap()
            .0;
        let hello = super::handshake::hello_of(Role::Receiver, session, resume);
        returning.receive(hello).unwrap_err().reason().clone()
    };
    let found = SessionId([1; 16]);
    assert_eq!(answered(found, true), Reason::Session { found });
    assert_eq!(answered(SESSION, false), Reason::Resume);
}
