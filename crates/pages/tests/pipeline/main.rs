//! From what QEMU handed over to what the other QEMU gets: draft, duplicates, encoder; decoder, mirror.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod bounds;
mod duplicates;
mod hostile;
mod roundtrip;
mod support;
