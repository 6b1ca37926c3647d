//! The network: the control channel's connection, the lanes, and the threads that work between them and QEMU.
//!
//! ```text
//!  source                                                                              receiver
//!  ┌─────────────────────────────────────────┐                  ┌─────────────────────────────────────────┐
//!  │ Feed ─▶ [jobs] ─▶ workers ─▶ [bodies] ─▶ lanes ══════════▶ lanes ─▶ [jobs] ─▶ workers ─▶ sequencer ─▶ Placement
//!  │  ▲ window                    encode      seal              open      decode, verify   in batch order  │
//!  │  └──────────── acknowledge ◀── control ◀─────── TLS ──────────── control ◀── placed ◀─────────────────┘
//!  └─────────────────────────────────────────┘                  └─────────────────────────────────────────┘
//! ```
//!
//! Who owns what: the control channel lives on the reactor and only moves messages; a lane is a thread with a socket and the keys of its
//! epoch; workers have a compressor each and no state between batches; one sequencer puts batches in order. Nothing that costs time
//! runs on the reactor.

pub mod control;
pub mod door;
mod error;
pub mod inbound;
pub mod lane;
pub mod lock;
pub mod outbound;
pub mod target;
mod threads;

pub use error::Error;
