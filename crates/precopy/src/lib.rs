//! The pre-copy engine: which pages are still to be sent, which content of each was sent last, how the walk over memory goes on, and when
//! QEMU may stop the guest.
//!
//! ```text
//!                                     wants more?
//!   QEMU's stream ─▶ addresses ─▶ Rounds ─┬─ a walk over memory has ended ──▶ Gate ─▶ hold · open ─▶ Convergence ─▶ throttle · abort
//!                        │                ▼                                    ▲ ▲
//!                        ├─▶ Engine   what is to be sent, what waits, costs ───┘ │ delivered, in flight
//!                        │                │ take                                 └── the session
//!                        │                ▼
//!                        └─▶ VersionMap   4 bytes per page: sent in batch …
//!                                └─ its digest, compared at both ends before the hand-off
//! ```
//!
//! A source to which QEMU's stream brings pages needs no [`Engine`]: QEMU owns the pre-copy, and the [`Forecast`] goes by rounds. One that reads
//! guest memory itself owns it: it tells the engine what QEMU hands over, takes from it what to send, and hands the engine's [`Costs`] to the forecast as often
//! as it samples what was delivered.
//!
//! The crate has no sockets, clocks, threads or randomness: times are handed in, as durations since the session's start. Of the other inner
//! crates it uses `sealift-pages`, for pages' addresses and for the digest algorithm that both ends agreed on.

#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod convergence;
mod cost;
mod dirty;
mod engine;
mod forecast;
mod gate;
mod heat;
mod rate;
mod rounds;
mod version;
mod why;

pub use convergence::{Convergence, IfNotConverging, Remedy};
pub use cost::{Costs, Encoded};
pub use dirty::{Counts, NoSuchPage, Taken};
pub use engine::Engine;
pub use forecast::{Forecast, QemuView, Sample};
pub use gate::{Decision, Gate};
pub use rounds::{Round, Rounds};
pub use version::{CHUNK_PAGES, StampError, VersionMap};
pub use why::Why;
