//! Two ends that have what TLS and the system would give them, and the way of a frame from one to the other.

use std::time::Duration;

use sealift_pages::{Algorithm, Codecs, PageSize};
use sealift_seal::{Exporter, Receiver, Seed, Source, Suite};
use sealift_session::control::{
    Admission, Bytes, Decoder, Destination, Distinct, Frame, LaneCount, MirrorBudget, Offer,
    RamBlock, RamBlocks, Received, SessionId, Text,
};
use sealift_session::handshake::receiver::{self, Abilities, Considering, Expecting};
use sealift_session::handshake::source::{self, Admitting, Greeting, Request};
use sealift_session::handshake::{Agreed, Failed, Secured};

pub(crate) const SESSION: SessionId = SessionId([0x5e; 16]);
pub(crate) const SOURCE_CERTIFICATE: &[u8] = b"source's, DER";
pub(crate) const RECEIVER_CERTIFICATE: &[u8] = b"receiver's, DER";

pub(crate) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new("", text.into()).unwrap()
}

/// What arrives of a frame at the other end.
pub(crate) fn arrives(frame: &Frame) -> Received {
    let mut decoder = Decoder::new();
    decoder.accept_hello();
    decoder.next(&mut frame.as_bytes()).unwrap().unwrap()
}

pub(crate) fn seed(byte: u8) -> Seed {
    Seed::fill(|bytes| {
        bytes.fill(byte);
        Ok::<_, ()>(())
    })
    .unwrap()
}

pub(crate) fn secured(exporter: u8, own: &[u8], peer: &[u8]) -> Secured {
    Secured {
        exporter: Exporter::fill(|bytes| {
            bytes.fill(exporter);
            Ok::<_, ()>(())
        })
        .unwrap(),
        own_certificate: own.to_vec(),
        peer_certificate: peer.to_vec(),
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        // 0x7f01 is a later version's.
        suites: Distinct::new("", vec![0x7f01, 0x0101, 0x0001]).unwrap(),
        digests: Distinct::new("", vec![2, 1]).unwrap(),
        codecs: Distinct::new("", vec![9, 1]).unwrap(),
        lanes: LaneCount::new("", 8).unwrap(),
        page_size: PageSize::new(4096).unwrap(),
        mirror: MirrorBudget::new(64 << 20, 0, 5).unwrap(),
        verify_full: false,
        resume_for: Duration::from_secs(60),
    }
}

pub(crate) fn request() -> Request {
    Request {
        session: SESSION,
        peer_name: text("host-b.example.org"),
        software: Some(text("sealift 0.1")),
        offer: offer(),
    }
}

pub(crate) fn abilities() -> Abilities {
    Abilities {
        suites: Suite::ALL.to_vec(),
        digests: vec![Algorithm::Blake3],
        codecs: Codecs::ALL,
        lanes: LaneCount::new("", 4).unwrap(),
        mirror: MirrorBudget::new(32 << 20, 7, 7).unwrap(),
        destination: Destination {
            managed: true,
            switchover_ack: true,
            qemu: Some(text("10.0.2")),
        },
    }
}

pub(crate) fn admission() -> Admission {
    let block = |name: &[u8], length| {
        RamBlock::new(Bytes::new("", name.to_vec()).unwrap(), length, 4096).unwrap()
    };
    Admission {
        name: text("db1"),
        uuid: [7; 16],
        machine: text("pc-q35-10.0"),
        blocks: RamBlocks::new(vec![block(b"pc.ram", 1 << 20), block(b"pc.bios", 1 << 18)])
            .unwrap(),
        memory_needed: 2 << 20,
    }
}

/// A receiver that was asked to begin a session.
pub(crate) fn begins(asked: receiver::Asked) -> (receiver::Greeted, Frame) {
    match asked {
        receiver::Asked::First(greeted, frame) => (greeted, frame),
        receiver::Asked::Again(again) => panic!("{again:?}"),
    }
}

/// A source that has asked, and its share, which is still to arrive.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) source: Admitting,
    pub(crate) shares: Frame,
}

/// Both ends up to the receiver's decision.
pub(crate) fn considering(
    request: Request,
    abilities: &Abilities,
    at_source: Secured,
    at_receiver: Secured,
) -> Result<(Asked, Considering), Failed> {
    let (source, [hello, offer]) = Greeting::new(at_source, request);
    let expecting = Expecting::new(at_receiver, Some(text("sealift 0.1")));
    let (receiver, answer) = begins(expecting.receive(arrives(&hello))?);
    let source = source.receive(arrives(&answer))?;
    let (receiver, choice) = receiver.receive(arrives(&offer), abilities)?;
    let source = source.receive(arrives(&choice))?;
    let (source, [admission, shares]) = source.admit(admission(), seed(1))?;
    Ok((
        Asked { source, shares },
        receiver.receive(arrives(&admission))?,
    ))
}

/// Both ends up to their confirmations; the frames are still to arrive.
pub(crate) fn confirming(
    asked: Asked,
    receiver: Considering,
) -> Result<(source::Confirming, Frame, receiver::Confirming, Frame), Failed> {
    let (receiver, verdict) = receiver.accept(3 << 20);
    let source = asked.source.receive(arrives(&verdict))?;
    let (receiver, [answer, from_receiver]) = receiver.receive(arrives(&asked.shares), seed(2))?;
    let (source, from_source) = source.receive(arrives(&answer))?;
    Ok((source, from_source, receiver, from_receiver))
}

/// Both ends with their keys.
pub(crate) fn agreed() -> (Agreed<Source>, Agreed<Receiver>) {
    let (source, receiver) = considering(
        request(),
        &abilities(),
        secured(3, SOURCE_CERTIFICATE, RECEIVER_CERTIFICATE),
        secured(3, RECEIVER_CERTIFICATE, SOURCE_CERTIFICATE),
    )
    .unwrap();
    let (source, from_source, receiver, from_receiver) = confirming(source, receiver).unwrap();
    (
        source.receive(arrives(&from_receiver)).unwrap(),
        receiver.receive(arrives(&from_source)).unwrap(),
    )
}
