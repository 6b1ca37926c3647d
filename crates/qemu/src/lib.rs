//! How sealift talks to a QEMU process.
//!
//! So far this is QMP, QEMU's control protocol: one JSON object a line, over a unix or TCP socket.
//!
//! ```text
//!   QEMU ── greeting ─────────────────────────────▶ client
//!        ◀─ {"execute":"qmp_capabilities","id":1} ─
//!        ── {"return":{},"id":1} ────────────────▶        the monitor now takes commands
//!        ◀─ {"execute":"query-status","id":2} ────
//!        ── {"event":"STOP", …} ─────────────────▶        events may come at any point
//!        ── {"return":{…},"id":2} ───────────────▶
//! ```
//!
//! The client is small and tolerant on purpose: it knows the frame of a message and nothing of its
//! content, so that one client talks to every QEMU version. It blocks, with a deadline on everything;
//! whoever must not block runs it on a thread of its own.

mod address;
pub mod channel;
mod client;
mod descriptors;
mod error;
pub mod machine;
pub mod shim;
mod transport;
mod wire;

pub use address::{Address, AddressError};
pub use channel::{Channel, ChannelError, Closer, Listener, ReadHalf, ReadOutcome, WriteHalf};
pub use client::{Event, Qmp, Version};
pub use error::Error;
pub use machine::Machine;
