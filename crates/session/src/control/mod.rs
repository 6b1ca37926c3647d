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
//! What decoding can cost is bounded before prost runs. A message is held once as bytes and once as types. Its fields are
//! counted first, [`FIELDS_MAX`] at most, so lists of messages stay below 80 KiB (entries of 40 bytes). Lists of numbers
//! take up to 8 bytes for each byte received while they grow: 32 KiB before the hello is accepted, when only a hello or an
//! error is decoded at all. All else is as long as it was on the wire. The schema nests four deep; prost ends at 100.

mod admission;
mod bounded;
mod enumeration;
mod epoch;
mod failure;
mod flow;
mod frame;
mod handshake;
pub(crate) mod invalid;
mod message;
pub(crate) mod outline;
mod redacted;
mod stage;

pub use admission::{Admission, RamBlock, RamBlocks, RefusalKind, Refused, Verdict};
pub use bounded::{Bytes, Distinct, Text};
pub use epoch::{Direction, Epoch};
pub use failure::{ErrorKind, Failure, Fault};
pub use flow::{BatchRange, BatchRanges, LaneToken, LaneTokens, Placing, Pong, Resume};
pub use frame::{Decoder, Frame, FrameError, LEN_MAX, LEN_MAX_BEFORE_HELLO, Received};
pub use handshake::{
    Choice, Destination, Hello, LaneCount, MirrorBudget, Offer, RESUME_FOR_MAX, Role, SessionId,
    Shares,
};
pub use invalid::{Invalid, Why};
pub use message::Message;
pub use outline::FIELDS_MAX;
pub use stage::{RunState, StageChange, Verification};

/// The types that prost makes of the `.proto` files; unchecked. Only the plainest of them go further than this module.
#[expect(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated; documented in the .proto files"
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/sealift.control.v1.rs"));
}
