//! The heads of multifd packets: views of their bytes.
//!
//! A head is passed on as it came, because QEMU leaves in its unused places whatever was there before.

use super::PACKET_MEMORY;
use crate::cursor::{Cursor, Read, malformed};
use crate::{Name, PageSize};

pub(super) mod flag {
    pub(in super::super) const SYNC: u32 = 0x01;
    pub(in super::super) const ZLIB: u32 = 0x02;
    pub(in super::super) const ZSTD: u32 = 0x04;
    pub(in super::super) const QPL: u32 = 0x08;
    pub(in super::super) const UADK: u32 = 0x10;
    pub(in super::super) const QATZIP: u32 = 0x20;
    pub(in super::super) const DEVICE_STATE: u32 = 0x40;
    pub(in super::super) const COMPRESSION: u32 = ZLIB | ZSTD | QPL | UADK | QATZIP;
    pub(in super::super) const KNOWN: u32 = SYNC | COMPRESSION;
}

/// Bytes of a block's or device's name: zeros fill it up.
const NAME_LEN: usize = 256;
/// Bytes of a RAM packet's head before its offsets.
const RAM_FIXED: usize = 320;
/// Bytes of a device packet's head.
const DEVICE_LEN: usize = 276;

/// How a packet's pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib, one stream per channel.
    Zlib,
    /// zstd, one stream per channel.
    Zstd,
    /// Intel's QPL.
    Qpl,
    /// Huawei's UADK.
    Uadk,
    /// Intel's `QATzip`.
    Qatzip,
}

/// The head of a packet of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamPacket<'a> {
    bytes: &'a [u8],
    flags: u32,
    normal: usize,
    zero: usize,
    payload: u32,
    number: u64,
}

impl<'a> RamPacket<'a> {
    /// Reads a head that starts at `start`, and of which `cursor` has passed the flags.
    pub(super) fn read(
        mut start: Cursor<'a>,
        flags: u32,
        cursor: &mut Cursor<'a>,
        page: PageSize,
    ) -> Read<Self> {
        let room = PACKET_MEMORY / page.bytes();
        let bytes = start.take(RAM_FIXED + 8 * room)?;
        let at = cursor.offset();
        let alloc = cursor.be32()?;
        // A packet that only synchronises may leave this 0 (9.0 and later).
        if alloc != 0 && usize::try_from(alloc) != Ok(room) {
            return Err(malformed(at, "the number of pages in 512 KiB", alloc));
        }
        let at = cursor.offset();
        let normal = cursor.be32()?;
        let payload_at = cursor.offset();
        let payload = cursor.be32()?;
        let number = cursor.be64()?;
        let zero = cursor.be32()?;
        cursor.take(4 + 3 * 8)?;
        cursor.take(NAME_LEN)?;
        let too_many = || malformed(at, "normal and zero pages that fit a packet", normal);
        let normal = usize::try_from(normal).map_err(|_| too_many())?;
        let zero = usize::try_from(zero).map_err(|_| too_many())?;
        if normal.checked_add(zero).is_none_or(|pages| pages > room) {
            return Err(too_many());
        }
        // Of a packet without normal pages the size says nothing: 7.2 leaves the one before there.
        let raw = flags & flag::COMPRESSION == 0;
        if raw && normal > 0 && usize::try_from(payload) != Ok(normal * page.bytes()) {
            return Err(malformed(
                payload_at,
                "the size of this packet's pages",
                payload,
            ));
        }
        for _ in 0..normal + zero {
            let at = cursor.offset();
            let offset = cursor.be64()?;
            if !page.is_aligned(offset) {
                return Err(malformed(at, "the offset of a page", offset));
            }
        }
        cursor.take(8 * (room - normal - zero))?;
        Ok(Self {
            bytes,
            flags,
            normal,
            zero,
            payload,
            number,
        })
    }

    /// The head's bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the channels are to be in step after this packet.
    pub fn is_sync(&self) -> bool {
        self.flags & flag::SYNC != 0
    }

    /// How the pages are compressed; `None` if the packet claims several ways at once.
    pub fn compression(&self) -> Option<Compression> {
        Some(match self.flags & flag::COMPRESSION {
            0 => Compression::None,
            flag::ZLIB => Compression::Zlib,
            flag::ZSTD => Compression::Zstd,
            flag::QPL => Compression::Qpl,
            flag::UADK => Compression::Uadk,
            flag::QATZIP => Compression::Qatzip,
            _ => return None,
        })
    }

    /// The packet's number among those of all channels.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of pages that follow the head.
    pub fn payload_len(&self) -> u32 {
        if self.normal == 0 { 0 } else { self.payload }
    }

    /// The block that the pages are in; `None` in a packet without pages.
    pub fn block(&self) -> Option<Name<'a>> {
        let name = self.bytes.get(RAM_FIXED - NAME_LEN..RAM_FIXED)?;
        padded_name(name)
    }

    /// The offsets of the pages that follow.
    pub fn normal_pages(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.offsets(0, self.normal)
    }

    /// The offsets of pages that are zero (9.0 and later; before, these are in the main channel).
    pub fn zero_pages(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.offsets(self.normal, self.zero)
    }

    fn offsets(&self, first: usize, count: usize) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        let start = RAM_FIXED + 8 * first;
        let bytes = self.bytes.get(start..start + 8 * count).unwrap_or(&[]);
        let (offsets, _) = bytes.as_chunks::<8>();
        offsets.iter().map(|offset| u64::from_be_bytes(*offset))
    }
}

/// The head of a packet with a device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePacket<'a> {
    bytes: &'a [u8],
    payload: u32,
}

impl<'a> DevicePacket<'a> {
    /// Reads a head that starts at `start`, and of which `cursor` has passed the flags.
    pub(super) fn read(mut start: Cursor<'a>, cursor: &mut Cursor<'a>) -> Read<Self> {
        let bytes = start.take(DEVICE_LEN)?;
        cursor.take(NAME_LEN + 4)?;
        let payload = cursor.be32()?;
        Ok(Self { bytes, payload })
    }

    /// The head's bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The device.
    pub fn device(&self) -> Option<Name<'a>> {
        padded_name(self.bytes.get(12..12 + NAME_LEN)?)
    }

    /// Bytes of state that follow the head.
    pub fn payload_len(&self) -> u32 {
        self.payload
    }
}

/// A name that zeros fill up.
fn padded_name(bytes: &[u8]) -> Option<Name<'_>> {
    Name::new(bytes.split(|byte| *byte == 0).next()?)
}
