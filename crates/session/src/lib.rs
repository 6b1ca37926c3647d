//! A session: one migration of one guest, between one source and one receiver.
//!
//! ```text
//!   TLS ─▶ handshake ─▶ Agreed: keys, layout, terms
//!                          ├─▶ lane      hellos of the connections that carry batches
//!                          ├─▶ flight    which batches are under way, which have arrived
//!                          ├─▶ correspondence   what must be heard although connections break
//!                          ├─▶ clock     how far the hosts' clocks are apart
//!                          └─▶ handoff   stop, drain, check, prepare, commit, continue: or not at all
//!                 control: the messages of all of these
//!
//!   saved: the beginning and the end of a file that a guest is kept in, which stands in for all of this
//! ```
//!
//! Each part is a machine or a book of its own: whoever drives a session feeds them what happens and does what they say. The
//! crate has no sockets, clocks, threads or randomness; `no_std` proves it. Times, seeds and ids are handed in.

#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod clock;
pub mod control;
pub mod correspondence;
pub mod flight;
pub mod handoff;
pub mod handshake;
pub mod lane;
pub mod saved;
