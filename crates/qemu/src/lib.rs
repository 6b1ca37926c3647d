//! How sealift talks to a QEMU process.
//!
//! - [`Qmp`]: QEMU's control protocol, one JSON object a line, over a unix or TCP socket; [`machine`]: typed questions and
//!   orders over it; [`memory`]: reading a still guest's memory over it; [`ram`]: reaching a guest's RAM from outside;
//! - [`channel`]: the migration channels, over which QEMU sends and takes its stream; [`shim`]: what stands behind `exec:`.
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
//! content, so that one client talks to every QEMU version. Everything here blocks, with a deadline or a way to end it from
//! another thread; whoever must not block runs it on a thread of its own.

mod address;
pub mod channel;
mod client;
mod descriptors;
mod error;
pub mod machine;
pub mod memory;
mod process;
pub mod ram;
pub mod shim;
mod transport;
mod wire;

pub use address::{Address, AddressError};
pub use channel::{Channel, ChannelError, Closer, Listener, ReadHalf, ReadOutcome, WriteHalf};
pub use client::{Event, Qmp, Version};
pub use error::Error;
pub use machine::Machine;
pub use memory::MemoryError;
pub use process::Process;
pub use ram::{Lost, Reach, ReachError};
