//! Files that hold a guest: how they are begun, ended, opened, and kept from being there by half.
//!
//! ```text
//!  save:     recipient's certificate ─▶ Saving ── lane ──▶ [batches] ─▶ finish: end, fsync, the file's name
//!  restore:  this host's key ─▶ Opened: header, end ── lane ──▶ [batches]
//!  export:   the same
//! ```
//!
//! `proto/WIRE.md` §6 has the bytes. What flows between QEMU and the lane is the business of `source` and `receiver`, as with a lane
//! that leads to another host.
//!
//! A file shows nothing of who saved it: whoever has the recipient's certificate can seal for it. What it holds is believed as far as
//! the way by which it came is.

mod opened;
mod saving;
mod unfinished;

pub(crate) use opened::Opened;
pub(crate) use saving::{Begun, Saving, not_written, take_back};
pub(crate) use unfinished::Unfinished;
