//! A session, from outside: the handshake, lanes' hellos, the books of batches, and the hand-off.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod again;
mod correspondence;
mod ends;
mod flight;
mod handshake;
mod lane;
