//! The return path, from destination to source: be16 type, be16 length, payload.
//!
//! ```text
//!  0002 0004 00000001          PONG 1
//!  0007 0000                   SWITCHOVER_ACK: the guest may be stopped now
//!  0001 0004 00000000          SHUT: loaded, without an error
//! ```

use alloc::vec::Vec;

use crate::cursor::{Cursor, Outcome, Progress, Read, malformed, unknown};
use crate::{Name, Surprise};

const SHUT: u16 = 1;
const PONG: u16 = 2;
const REQ_PAGES_ID: u16 = 3;
const REQ_PAGES: u16 = 4;
const RECV_BITMAP: u16 = 5;
const RESUME_ACK: u16 = 6;
const SWITCHOVER_ACK: u16 = 7;

/// Stands after a bitmap of received pages.
const BITMAP_END: u64 = 0x0123_4567_89ab_cdef;

/// The most bytes that an item takes: with as many at hand, [`Parser::pull`] always returns one.
pub const MAX_ITEM: usize = 4 + 12 + 1 + Name::MAX_LEN;

/// One message of the return path, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The destination is done: 0, or what went wrong.
    Shut(u32),
    /// The answer to a ping of this number.
    Pong(u32),
    /// The guest waits for these bytes of a block, of the same one as before if none is named.
    RequestPages {
        /// The block.
        block: Option<Name<'a>>,
        /// The first byte.
        start: u64,
        /// How many.
        len: u32,
    },
    /// Which pages of a block have arrived: so many bytes of bitmap follow as [`Bitmap`](Self::Bitmap), and then
    /// [`BitmapEnd`](Self::BitmapEnd).
    ReceivedBitmap {
        /// The block.
        block: Name<'a>,
        /// Bytes of bitmap.
        len: u64,
    },
    /// A piece of a bitmap.
    Bitmap(&'a [u8]),
    /// The mark after a bitmap.
    BitmapEnd,
    /// A post-copy goes on after it was interrupted.
    ResumeAck(u32),
    /// The guest may be stopped now (QEMU 8.1 and later).
    SwitchoverAck,
    /// Bytes that are not understood, from the first [`Surprise`] to the end of the channel.
    Opaque(&'a [u8]),
}

impl Item<'_> {
    /// Appends the item's bytes to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u16, len: usize, payload: &[&[u8]]| {
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            for part in payload {
                out.extend_from_slice(part);
            }
        };
        match self {
            Self::Shut(value) => put(SHUT, 4, &[&value.to_be_bytes()]),
            Self::Pong(value) => put(PONG, 4, &[&value.to_be_bytes()]),
            Self::RequestPages { block, start, len } => {
                let (start, len) = (start.to_be_bytes(), len.to_be_bytes());
                match block {
                    None => put(REQ_PAGES, 12, &[&start, &len]),
                    Some(block) => put(
                        REQ_PAGES_ID,
                        13 + block.as_bytes().len(),
                        &[&start, &len, &[block.wire_len()], block.as_bytes()],
                    ),
                }
            }
            Self::ReceivedBitmap { block, len } => put(
                RECV_BITMAP,
                1 + block.as_bytes().len(),
                &[&[block.wire_len()], block.as_bytes(), &len.to_be_bytes()],
            ),
            Self::ResumeAck(value) => put(RESUME_ACK, 4, &[&value.to_be_bytes()]),
            Self::SwitchoverAck => put(SWITCHOVER_ACK, 0, &[]),
            Self::BitmapEnd => out.extend_from_slice(&BITMAP_END.to_be_bytes()),
            Self::Bitmap(bytes) | Self::Opaque(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Takes a return path apart.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    progress: Progress,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Message,
    Bitmap {
        left: u64,
    },
    BitmapEnd,
}

impl Parser {
    /// A parser at the start of a return path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next item off the front of `input`; `None` if it holds no whole one, and then nothing is taken.
    pub fn pull<'a>(&mut self, input: &mut &'a [u8]) -> Option<Item<'a>> {
        let place = &mut self.place;
        match self.progress.read(input, |cursor| place.read(cursor)) {
            Outcome::Item(item) => Some(item),
            Outcome::Opaque(bytes) => Some(Item::Opaque(bytes)),
            Outcome::Incomplete => None,
        }
    }

    /// The channel has ended. What is left of it, too little for an item, is opaque.
    pub fn finish<'a>(&mut self, rest: &'a [u8]) -> Option<Item<'a>> {
        if rest.is_empty() && matches!(self.place, Place::Message) {
            return None;
        }
        let rest = self.progress.finish(rest, "the rest of a message");
        (!rest.is_empty()).then_some(Item::Opaque(rest))
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.progress.offset()
    }

    /// Why the channel is opaque from here on, if it is.
    pub fn surprise(&self) -> Option<&Surprise> {
        self.progress.surprise()
    }
}

impl Place {
    fn read<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        match *self {
            Self::Message => self.message(cursor),
            Self::Bitmap { left } => {
                let bytes = cursor.take_some(left)?;
                *self = Self::bitmap(left - bytes.len() as u64);
                Ok(Item::Bitmap(bytes))
            }
            Self::BitmapEnd => {
                let at = cursor.offset();
                let mark = cursor.be64()?;
                if mark != BITMAP_END {
                    return Err(malformed(at, "the mark after a bitmap", mark));
                }
                *self = Self::Message;
                Ok(Item::BitmapEnd)
            }
        }
    }

    fn bitmap(left: u64) -> Self {
        match left {
            0 => Self::BitmapEnd,
            left => Self::Bitmap { left },
        }
    }

    fn message<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let kind = cursor.be16()?;
        let len_at = cursor.offset();
        let len = cursor.be16()?;
        let expect_len = |right: usize| {
            (usize::from(len) == right)
                .then_some(())
                .ok_or_else(|| malformed(len_at, "the length of this message's payload", len))
        };
        match kind {
            SHUT | PONG | RESUME_ACK => {
                expect_len(4)?;
                let value = cursor.be32()?;
                Ok(match kind {
                    SHUT => Item::Shut(value),
                    PONG => Item::Pong(value),
                    _ => Item::ResumeAck(value),
                })
            }
            REQ_PAGES | REQ_PAGES_ID => {
                let start = cursor.be64()?;
                let pages = cursor.be32()?;
                let block = if kind == REQ_PAGES_ID {
                    Some(cursor.name()?)
                } else {
                    None
                };
                expect_len(12 + block.map_or(0, |name| 1 + name.as_bytes().len()))?;
                Ok(Item::RequestPages {
                    block,
                    start,
                    len: pages,
                })
            }
            RECV_BITMAP => {
                let block = cursor.name()?;
                expect_len(1 + block.as_bytes().len())?;
                let len = cursor.be64()?;
                *self = Self::bitmap(len);
                Ok(Item::ReceivedBitmap { block, len })
            }
            SWITCHOVER_ACK => {
                expect_len(0)?;
                Ok(Item::SwitchoverAck)
            }
            _ => Err(unknown(at, "a known message", u64::from(kind))),
        }
    }
}
