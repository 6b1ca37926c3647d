//! Commands: be16 number, be16 length, payload.

use alloc::vec::Vec;

use crate::Name;
use crate::cursor::{Cursor, Read, malformed, unknown};

const OPEN_RETURN_PATH: u16 = 1;
const PING: u16 = 2;
const POSTCOPY_ADVISE: u16 = 3;
const POSTCOPY_LISTEN: u16 = 4;
const POSTCOPY_RUN: u16 = 5;
const POSTCOPY_RAM_DISCARD: u16 = 6;
const PACKAGED: u16 = 7;
const ENABLE_COLO: u16 = 8;
const POSTCOPY_RESUME: u16 = 9;
const RECV_BITMAP: u16 = 10;
const SWITCHOVER_START: u16 = 11;

/// A command from source to destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Open the return path.
    OpenReturnPath,
    /// Answer with this number.
    Ping(u32),
    /// Post-copy may follow.
    PostcopyAdvise(Option<Advice>),
    /// Prepare for page faults.
    PostcopyListen,
    /// Run the guest, its memory being still at the source.
    PostcopyRun,
    /// Throw these ranges away: they changed after they were sent.
    PostcopyRamDiscard(Discard<'a>),
    /// A stream within the stream: so many bytes follow as [`Item::Blob`](super::Item::Blob).
    Packaged(u32),
    /// Run both guests in lock-step from here on.
    EnableColo,
    /// Resume a post-copy that was interrupted.
    PostcopyResume,
    /// Say which pages of this block have arrived.
    RecvBitmap(Name<'a>),
    /// The guest has been stopped; what follows is the last of it (QEMU 10.0 and later).
    SwitchoverStart,
}

/// Page sizes that both ends of a post-copy must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// All host page sizes, or-ed together.
    pub host_pages: u64,
    /// The target's page size.
    pub target_page: u64,
}

/// Ranges of a block that are to be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard<'a> {
    /// The block.
    pub block: Name<'a>,
    ranges: &'a [u8],
}

impl<'a> Discard<'a> {
    /// Bytes on the wire per range: its start and its length.
    const RANGE: usize = 16;

    /// The ranges: start and length in bytes.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + use<'a> {
        self.ranges.chunks_exact(Self::RANGE).map(|range| {
            let (start, length) = range.split_at(Self::RANGE / 2);
            (be64(start), be64(length))
        })
    }
}

fn be64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl<'a> Command<'a> {
    /// Reads what follows the section type.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Read<Self> {
        let at = cursor.offset();
        let number = cursor.be16()?;
        let length_at = cursor.offset();
        let len = cursor.be16()?;
        let expect_len = |right: bool| {
            right
                .then_some(())
                .ok_or_else(|| malformed(length_at, "the length of this command's payload", len))
        };
        let empty = |command| expect_len(len == 0).map(|()| command);
        match number {
            OPEN_RETURN_PATH => empty(Self::OpenReturnPath),
            PING => {
                expect_len(len == 4)?;
                cursor.be32().map(Self::Ping)
            }
            POSTCOPY_ADVISE if len == 0 => Ok(Self::PostcopyAdvise(None)),
            POSTCOPY_ADVISE => {
                expect_len(len == 16)?;
                Ok(Self::PostcopyAdvise(Some(Advice {
                    host_pages: cursor.be64()?,
                    target_page: cursor.be64()?,
                })))
            }
            POSTCOPY_LISTEN => empty(Self::PostcopyListen),
            POSTCOPY_RUN => empty(Self::PostcopyRun),
            POSTCOPY_RAM_DISCARD => {
                cursor.exactly_u8(0, "version 0 of a list to discard")?;
                let block = cursor.name()?;
                cursor.exactly_u8(0, "the zero after a block's name")?;
                let before = 3 + block.as_bytes().len();
                let ranges = usize::from(len).checked_sub(before);
                let ranges = ranges.filter(|len| len % Discard::RANGE == 0);
                expect_len(ranges.is_some())?;
                let ranges = cursor.take(ranges.unwrap_or(0))?;
                Ok(Self::PostcopyRamDiscard(Discard { block, ranges }))
            }
            PACKAGED => {
                expect_len(len == 4)?;
                cursor.be32().map(Self::Packaged)
            }
            ENABLE_COLO => empty(Self::EnableColo),
            POSTCOPY_RESUME => empty(Self::PostcopyResume),
            RECV_BITMAP => {
                let block = cursor.name()?;
                expect_len(usize::from(len) == 1 + block.as_bytes().len())?;
                Ok(Self::RecvBitmap(block))
            }
            SWITCHOVER_START => empty(Self::SwitchoverStart),
            _ => Err(unknown(at, "a known command", u64::from(number))),
        }
    }

    /// Writes what [`read`](Self::read) reads.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let mut put = |number: u16, payload: &[&[u8]]| {
            let len: usize = payload.iter().map(|part| part.len()).sum();
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            for part in payload {
                out.extend_from_slice(part);
            }
        };
        match self {
            Self::OpenReturnPath => put(OPEN_RETURN_PATH, &[]),
            Self::Ping(number) => put(PING, &[&number.to_be_bytes()]),
            Self::PostcopyAdvise(None) => put(POSTCOPY_ADVISE, &[]),
            Self::PostcopyAdvise(Some(advice)) => put(
                POSTCOPY_ADVISE,
                &[
                    &advice.host_pages.to_be_bytes(),
                    &advice.target_page.to_be_bytes(),
                ],
            ),
            Self::PostcopyListen => put(POSTCOPY_LISTEN, &[]),
            Self::PostcopyRun => put(POSTCOPY_RUN, &[]),
            Self::PostcopyRamDiscard(discard) => put(
                POSTCOPY_RAM_DISCARD,
                &[
                    &[0, discard.block.wire_len()],
                    discard.block.as_bytes(),
                    &[0],
                    discard.ranges,
                ],
            ),
            Self::Packaged(len) => put(PACKAGED, &[&len.to_be_bytes()]),
            Self::EnableColo => put(ENABLE_COLO, &[]),
            Self::PostcopyResume => put(POSTCOPY_RESUME, &[]),
            Self::RecvBitmap(block) => {
                put(RECV_BITMAP, &[&[block.wire_len()], block.as_bytes()]);
            }
            Self::SwitchoverStart => put(SWITCHOVER_START, &[]),
        }
    }
}
