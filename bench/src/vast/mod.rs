//! What a large guest costs sealift itself: private memory at either end, and time as the guest grows.
//!
//! ```text
//!  source ─ unix ─▶ sealift send ═ TCP within this host ═▶ sealift receive ─ unix ─▶ destination
//!  plays QEMU: a stream as QEMU writes it                               plays QEMU: every page is looked at
//!
//!  walk 0   all pages, zeros but for one in 32
//!  walk 1   a quarter of those with content, a little changed
//!  walk 2   a sixteenth of them, with the guest stopped
//! ```
//!
//! No QEMU takes part, so that a guest may be far larger than this machine: nobody holds its memory, and what either end of sealift takes is what
//! it keeps of the guest; the receiver's host is made to say that it has room. Figures are told only of a guest of which the destination got each page, each time, byte by byte.
//!
//! By the stream, that is: direct access takes a QEMU's memory. What its pre-copy keeps beside that is measured by itself ([`book`]).

pub mod book;
mod destination;
mod figures;
mod private;
mod run;
mod shape;
mod source;

pub use figures::{Figures, Turn, Verdict, text, verdicts};
pub use run::Bench;
