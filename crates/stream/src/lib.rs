//! QEMU's migration stream, taken apart and put together again without losing a byte.
//!
//! QEMU sends a guest through up to three kinds of channel:
//!
//! ```text
//!  main channel     source ──▶ destination   sections: RAM pages, commands, device state
//!  multifd channel  source ──▶ destination   packets of RAM pages, 0 to 255 of these
//!  return path      source ◀── destination   on the main channel's socket
//! ```
//!
//! Each has a parser here ([`main_channel`], [`multifd`], [`return_path`]) that works the same way: it owns no buffer and
//! no socket. The caller holds the bytes that have arrived and pulls [items](main_channel::Item) off their front; what an
//! item contains is borrowed from those bytes, so a page is never copied. When the bytes end within an item the parser
//! takes nothing, and the caller comes back with more.
//!
//! Two promises hold for every input, in whatever pieces it comes:
//!
//! - **Lossless.** Emitting the items gives the input again, byte for byte.
//! - **Never guessed.** Most of QEMU's sections carry no length, so one that is not known cannot be skipped. The first
//!   thing that is not known turns the rest of the channel into [opaque bytes](main_channel::Item::Opaque). That is no
//!   failure: every ordinary migration ends in device state that only QEMU can read. [`Surprise`] says where, why,
//!   what was expected and what was found.
//!
//! Memory is bounded by constants ([`Blocks::MAX`], [`main_channel::MAX_SECTIONS`]), not by what the stream claims.
#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod blocks;
mod cursor;
pub mod main_channel;
pub mod multifd;
mod name;
mod page_size;
pub mod return_path;
mod surprise;

pub use blocks::{Block, BlockId, Blocks};
pub use name::{Name, NameBuf};
pub use page_size::PageSize;
pub use surprise::{Cause, Found, Surprise};

/// What a connection turned out to be, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The main channel: it starts with `QEVM`.
    Main,
    /// A multifd channel: it starts with its own magic.
    Multifd,
    /// Neither, such as the post-copy preempt channel, which starts with bare RAM records.
    Other,
}

impl ChannelKind {
    /// Bytes that [`detect`](Self::detect) wants to see.
    pub const MAGIC_LEN: usize = 4;

    /// Tells the kind from a connection's first bytes; `None` while fewer than four have come and they fit more than one.
    ///
    /// A connection that stays silent is none of these until it speaks: QEMU 7.2 tells its channels apart by the order
    /// in which they connect, so whoever stands in the middle keeps that order and waits for no one.
    pub fn detect(first: &[u8]) -> Option<Self> {
        let matches = |magic: u32| {
            let magic = magic.to_be_bytes();
            let seen = first.len().min(magic.len());
            first[..seen] == magic[..seen]
        };
        let complete = first.len() >= Self::MAGIC_LEN;
        match (matches(main_channel::MAGIC), matches(multifd::MAGIC)) {
            (true, _) if complete => Some(Self::Main),
            (_, true) if complete => Some(Self::Multifd),
            (false, false) => Some(Self::Other),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_apart_by_their_first_bytes() {
        assert_eq!(ChannelKind::detect(b""), None);
        assert_eq!(ChannelKind::detect(b"QEV"), None);
        assert_eq!(ChannelKind::detect(b"QEVM\0"), Some(ChannelKind::Main));
        assert_eq!(
            ChannelKind::detect(&[0x11, 0x22, 0x33, 0x44]),
            Some(ChannelKind::Multifd)
        );
        assert_eq!(ChannelKind::detect(&[0x00]), Some(ChannelKind::Other));
        assert_eq!(ChannelKind::detect(b"QEMU"), Some(ChannelKind::Other));
    }
}
