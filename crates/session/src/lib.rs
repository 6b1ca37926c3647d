//! A session: one migration of one guest, between one source and one receiver.
//!
//! So far this is the [`control`] channel's language alone: its messages, their bounds, and how they are cut out of the
//! bytes of a TLS connection. The stage machines follow.
//!
//! The crate has no sockets, clocks, threads or randomness; bytes go in and messages come out. `no_std` proves it.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod clock;
pub mod control;
pub mod flight;
pub mod handoff;
pub mod handshake;
pub mod lane;
