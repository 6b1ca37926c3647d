//! From what QEMU handed over to what the other QEMU gets: draft, store, encoder; decoder, mirror.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod arranged;
mod bounds;
mod found;
mod hostile;
mod order;
mod reading;
mod roundtrip;
mod store;
mod support;
mod windows;
