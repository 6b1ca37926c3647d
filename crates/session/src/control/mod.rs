//! The control channel: what the two ends say to each other beside the lanes, in `proto/sealift/control/v1`.
//!
//! ```text
//!   TLS bytes                                                                          checked message
//!  +-------------+--------------------+      +-----------+      +------------+      +---------+
//!  | be32 length | Envelope           | ───▶ | Outline   | ───▶ | wire types | ───▶ | Message |
//!  +-------------+--------------------+      +-----------+      +------------+      +---------+
//!   length bound: 4 KiB before the            one kind,          prost               bounds of every
//!   peer's hello was accepted, then 512       field count                            list and string
//! ```
//!
//! [`Decoder`] takes bytes in any chunks and returns messages; [`Frame`] is the way out. A [`Message`] holds only what
//! `.proto` allows: its types cannot be made otherwise, so nothing behind this module checks a length again.
//!
//! What decoding can cost is bounded before prost runs. A message is held once as bytes and once as types. Lists of
//! messages are bounded by [`Outline`](outline)'s count of fields, 2,048 entries of less than 100 bytes; lists of
//! numbers take at most 4 bytes for each byte received, twice that while they grow; all else is as long as it was on the
//! wire. Nesting is four deep in the schema, and prost ends it at 100.

mod admission;
mod bounded;
mod enumeration;
mod failure;
mod flow;
mod frame;
mod handshake;
mod invalid;
mod message;
mod outline;
mod stage;

pub use admission::{Admission, RamBlock, RamBlocks, RefusalKind, Refused, Verdict};
pub use bounded::{Bytes, Distinct, Text};
pub use failure::{ErrorKind, Failure, Fault};
pub use flow::{BatchRange, BatchRanges, LaneToken, LaneTokens, Pong, Void};
pub use frame::{Decoder, Frame, FrameError, LEN_MAX, LEN_MAX_BEFORE_HELLO, Received};
pub use handshake::{Choice, Hello, LaneCount, MirrorBudget, Offer, Role, SessionId, Shares};
pub use invalid::{Invalid, Why};
pub use message::Message;
pub use outline::FIELDS_MAX;
pub use stage::{RunState, StageChange};

/// The types that prost makes of the `.proto` files; unchecked. Only the plainest of them go further than this module.
#[expect(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated; documented in the .proto files"
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/sealift.control.v1.rs"));
}
