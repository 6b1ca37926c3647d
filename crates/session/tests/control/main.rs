//! The control channel, from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod fields;
mod fields_admission;
mod fields_setup;
mod frames;
mod roundtrip;

use prost::Message as _;
use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{
    Decoder, Distinct, FrameError, Hello, Invalid, Received, Role, SessionId, Text, Why,
};

pub(crate) fn hello() -> Hello {
    Hello {
        wire_versions: Distinct::new("", vec![1]).unwrap(),
        role: Role::Source,
        session: SessionId([7; 16]),
        resume: false,
        software: None,
        peer_name: Some(Text::new("", "host-b".into()).unwrap()),
    }
}

pub(crate) fn frame(envelope: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(envelope.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(envelope);
    bytes
}

pub(crate) fn envelope(kind: Kind) -> Vec<u8> {
    wire::Envelope {
        critical: true,
        kind: Some(kind),
    }
    .encode_to_vec()
}

pub(crate) fn accepted() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.accept_hello();
    decoder
}

pub(crate) fn receive(
    decoder: &mut Decoder,
    envelope: &[u8],
) -> Result<Option<Received>, FrameError> {
    decoder.next(&mut frame(envelope).as_slice())
}

/// The error that an envelope meets after the hello.
pub(crate) fn refused(envelope: &[u8]) -> FrameError {
    receive(&mut accepted(), envelope).unwrap_err()
}

pub(crate) fn offer() -> wire::Offer {
    wire::Offer {
        suites: vec![0x0101],
        digests: vec![1],
        codecs: vec![1],
        lanes: 4,
        page_size: 4096,
        mirror: Some(wire::MirrorBudget::default()),
        verify_full: false,
        resume_for_ms: 0,
    }
}

/// After the hello, this kind meets that error.
#[track_caller]
pub(crate) fn invalid(kind: Kind, field: &'static str, why: Why) {
    assert_eq!(
        refused(&envelope(kind)),
        FrameError::Invalid(Invalid { field, why })
    );
}
