//! The records of a batch, as they travel inside a sealed batch: `proto/WIRE.md` §3.
//!
//! ```text
//!             body of a batch, opened
//!  +-----------+--------------+--------+--------+--------+--
//!  | algorithm | digest value | record | record | record | …
//!  +-----------+--------------+--------+--------+--------+--
//!        1            32       |
//!                              +--> zero · literal · same-as · delta · opaque · barrier
//!                              +--> group: compressed; inside it records again, but no groups
//! ```
//!
//! The way out: a [`BodyWriter`] appends [`Record`]s to a buffer, chooses each page's addressing and leaves room
//! for the [`Digest`] in front. The way in: [`Body::parse`] splits a body, its [`Reader`] yields the records as
//! views into it. A literal page is never copied by either reading or resolving it.
//!
//! There is exactly one encoding for each list of records, and a reader takes nothing else: whatever it accepts,
//! a writer turns into the same bytes again. Everything else is [`Refused`], with the offset and the reason.
//!
//! ```text
//!  source     Draft ──▶ Finder ──▶ Encoder ──▶ body                 any thread, in any order
//!                        │ Store                                     behind a lock
//!  receiver   body ──▶ Decoder (any thread) ──▶ Mirror (serial, in batch order) ──▶ Resolved::verify (any thread) ──▶ entries
//!                                                │ External          guest memory
//! ```
//!
//! Around the records stands the pipeline. A [`Draft`] gathers a batch and copies each page once; a [`Finder`] finds the pages that the
//! [`Store`] has, unchanged or changed a little; an [`Encoder`] compresses and writes the body. At the other end a [`Decoder`] undoes that, the
//! [`Mirror`] looks up what a batch names of earlier ones, and [`Resolved`] is what goes into the guest. What is serial does nothing but
//! look-ups and copies: the source decides, the receiver follows.
//!
//! A batch is compressed alone, or within a window ([`Packing`], [`Unpacking`]) behind the batches that went into it before: that finds what repeats far
//! away, and takes memory at both ends.
//!
//! The crate has no sockets, clocks, threads or randomness. That is what `no_std` is for: the compiler checks it.

#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod agreed;
mod body;
mod budget;
mod contents;
mod cursor;
mod decoder;
mod digest;
mod draft;
mod encoder;
mod finder;
mod fingerprint;
mod kind;
mod layout;
mod listing;
mod mirror;
mod patch;
mod planes;
mod reader;
mod record;
mod redacted;
mod refusal;
mod store;
mod tally;
pub mod varint;
mod window;
mod writer;
mod writing;

pub use agreed::{Agreed, Codecs};
pub use body::{BODY_MAX, Body, GROUP_MAX};
pub use budget::{CONTENT_MAX, RAW_MAX, RECORDS_MAX, ZEROS_MAX};
pub use decoder::{DecodeError, Decoded, Decoder};
pub use digest::{Algorithm, DIGEST_LEN, Digest, Hasher, PageDigest};
pub use draft::{Draft, Full, Unread};
pub use encoder::{EncodeError, Encoder};
pub use finder::Finder;
pub use layout::{
    Address, BLOCKS_MAX, Layout, LayoutError, PAGE_SIZE_MAX, PAGE_SIZE_MIN, PageSize,
};
pub use listing::{Entry, ITEM_LEN};
pub use mirror::{Altered, External, Mirror, Nowhere, Resolved, Unresolvable, Unresolved};
pub use patch::{Diff, Patch, Run, Runs, WrongLength};
pub use reader::{GroupReader, Reader};
pub use record::{Codec, Group, Origin, Record};
pub use refusal::{Refusal, Refused};
pub use store::{Sent, Store};
pub use tally::{Share, Tally};
pub use window::{OutOfTurn, Packing, Place, Unpacking, WINDOW_LEN, WINDOW_MEMORY};
pub use writer::{BodyWriter, GroupWriter, Unwritable};
