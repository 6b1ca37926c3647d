//! The hand-off, from outside: the table of its transitions, and both ends against each other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod pair;
mod table;
mod world;

use sealift_session::control::{ErrorKind, Failure, Fault, Verification};
use sealift_session::handoff::Drain;

pub(crate) const DRAIN: Drain = Drain {
    batches: 40,
    version_map: [4; 32],
};

pub(crate) const READ: Verification = Verification {
    digest: [6; 32],
    bytes: 1 << 30,
    ranges: 3,
};

/// Another content of as much memory.
pub(crate) const OTHER: Verification = Verification {
    digest: [7; 32],
    ..READ
};

pub(crate) fn why(what: &str) -> Failure {
    Failure::new(ErrorKind::Internal, Fault::Network, what)
}
