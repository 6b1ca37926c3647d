//! A multifd channel: packets of pages beside the main channel.
//!
//! ```text
//!  hello, once, 64 bytes
//!   ┌──────────┬─────────┬──────────┬────┬───────────┐
//!   │ 11223344 │ 1 be32  │ uuid 16  │ id │ 39 unused │
//!   └──────────┴─────────┴──────────┴────┴───────────┘
//!  then packets: of RAM, 320 bytes and 8 for each of the 512 KiB / page size pages that would fit, however many there are
//!   ┌──────────┬────────┬───────┬───────┬────────┬──────────┬────────┬───────────┬───────┬────────┬───────────┬─────────┐
//!   │ 11223344 │ 1 be32 │ flags │ alloc │ normal │ size of  │ number │ zero be32 │ 28    │ block  │ offset    │ pages … │
//!   │          │        │ be32  │ be32  │ be32   │ payload  │ be64   │ (9.0 on)  │ unused│ 256    │ be64 each │         │
//!   └──────────┴────────┴───────┴───────┴────────┴──────────┴────────┴───────────┴───────┴────────┴───────────┴─────────┘
//!  or of a device's state (10.0 on)
//!   ┌──────────┬────────┬───────┬──────────┬───────────────┬──────────────┬─────────┐
//!   │ 11223344 │ 1 be32 │ flags │ name 256 │ instance be32 │ size be32    │ state … │
//!   └──────────┴────────┴───────┴──────────┴───────────────┴──────────────┴─────────┘
//! ```
//!
//! The offsets of normal pages come first, then those of zero pages, then whatever an earlier packet left there. Pages that are
//! compressed (by one compressor for the whole channel) are carried as they are.

mod packet;

use alloc::boxed::Box;

pub use packet::{Compression, DevicePacket, RamPacket};

use crate::cursor::{Cursor, Outcome, Progress, Read, malformed, unknown};
use crate::{PageSize, Surprise};
use packet::flag;

/// The first four bytes of the channel, and of each packet.
pub const MAGIC: u32 = 0x1122_3344;
/// The only version of the format.
const VERSION: u32 = 1;
/// Bytes of the [hello](Hello) that the channel begins with.
pub const HELLO_LEN: usize = 64;
/// Bytes of guest memory that a packet has room for: QEMU's `MULTIFD_PACKET_SIZE`.
const PACKET_MEMORY: usize = 512 * 1024;
/// Most pages of a packet: with the smallest page size.
const MAX_PAGES: usize = PACKET_MEMORY / PageSize::KIB_4.bytes();

/// The most bytes that an item takes: with as many at hand, [`Parser::pull`] always returns one.
pub const MAX_ITEM: usize = PageSize::MAX.bytes();

/// One piece of a multifd channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The first bytes of the channel.
    Hello(Hello<'a>),
    /// The head of a packet of pages; these follow as [`Page`](Self::Page) or, compressed, as [`Payload`](Self::Payload).
    Ram(RamPacket<'a>),
    /// A normal page of the packet before it, the next of its [offsets](RamPacket::normal_pages).
    Page {
        /// The page's offset in the packet's block.
        offset: u64,
        /// The page.
        bytes: &'a [u8],
    },
    /// The head of a packet with a device's state, which follows as [`Payload`](Self::Payload).
    Device(DevicePacket<'a>),
    /// Bytes of compressed pages or of a device's state, in as many pieces as they came.
    Payload(&'a [u8]),
    /// Bytes that are not understood, from the first [`Surprise`] to the end of the channel.
    Opaque(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The item's bytes: to emit a channel is to write these.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Hello(hello) => hello.bytes,
            Self::Ram(packet) => packet.as_bytes(),
            Self::Device(packet) => packet.as_bytes(),
            Self::Page { bytes, .. } | Self::Payload(bytes) | Self::Opaque(bytes) => bytes,
        }
    }
}

/// What a channel says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The guest's UUID, which must be the destination's.
    pub uuid: [u8; 16],
    /// The channel's number.
    pub channel: u8,
    bytes: &'a [u8],
}

impl<'a> Hello<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Read<Self> {
        let bytes = cursor.clone().take(HELLO_LEN)?;
        cursor.exactly_be32(MAGIC, "multifd's magic")?;
        cursor.exactly_be32(VERSION, "version 1 of multifd")?;
        let uuid = cursor.bytes16()?;
        let channel = cursor.u8()?;
        cursor.take(39)?;
        Ok(Self {
            uuid,
            channel,
            bytes,
        })
    }
}

/// Takes a multifd channel apart.
#[derive(Clone, Debug)]
pub struct Parser {
    progress: Progress,
    reader: Reader,
}

impl Parser {
    /// A parser at the start of a channel. The page size is the main channel's.
    pub fn new(page_size: PageSize) -> Self {
        Self {
            progress: Progress::default(),
            reader: Reader {
                place: Place::Hello,
                page_size,
                offsets: Box::new([0; MAX_PAGES]),
            },
        }
    }

    /// Takes the next item off the front of `input`; `None` if it holds no whole one, and then nothing is taken.
    #[inline]
    pub fn pull<'a>(&mut self, input: &mut &'a [u8]) -> Option<Item<'a>> {
        let reader = &mut self.reader;
        match self.progress.read(input, |cursor| reader.read(cursor)) {
            Outcome::Item(item) => Some(item),
            Outcome::Opaque(bytes) => Some(Item::Opaque(bytes)),
            Outcome::Incomplete => None,
        }
    }

    /// The channel has ended. What is left of it, too little for an item, is opaque.
    pub fn finish<'a>(&mut self, rest: &'a [u8]) -> Option<Item<'a>> {
        if rest.is_empty() && matches!(self.reader.place, Place::Packet) {
            return None;
        }
        let rest = self.progress.finish(rest, self.reader.expects());
        (!rest.is_empty()).then_some(Item::Opaque(rest))
    }

    /// Whether what comes next begins a packet, or belongs to none: a packet whose pages have not all come is not over.
    pub fn between_packets(&self) -> bool {
        matches!(self.reader.place, Place::Hello | Place::Packet) || self.surprise().is_some()
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

#[derive(Clone, Debug)]
struct Reader {
    place: Place,
    page_size: PageSize,
    /// Where the packet's normal pages belong.
    offsets: Box<[u64; MAX_PAGES]>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Hello,
    Packet,
    /// In a packet's pages: the next one and how many there are.
    Pages {
        next: usize,
        count: usize,
    },
    /// In bytes of known number.
    Payload {
        left: u32,
    },
}

impl Reader {
    #[inline]
    fn read<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        match self.place {
            Place::Pages { next, count } => {
                let bytes = cursor.page(self.page_size)?;
                let offset = self.offsets.get(next).copied().unwrap_or(0);
                self.place = pages_from(next + 1, count);
                Ok(Item::Page { offset, bytes })
            }
            Place::Payload { left } => {
                let bytes = cursor.take_some(u64::from(left))?;
                // Not more than `left` were taken.
                let taken = u32::try_from(bytes.len()).unwrap_or(left);
                self.place = payload_of(left - taken);
                Ok(Item::Payload(bytes))
            }
            Place::Packet => self.packet(cursor),
            Place::Hello => {
                let hello = Hello::read(cursor)?;
                self.place = Place::Packet;
                Ok(Item::Hello(hello))
            }
        }
    }

    fn packet<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let start = cursor.clone();
        cursor.exactly_be32(MAGIC, "multifd's magic at the start of a packet")?;
        cursor.exactly_be32(VERSION, "version 1 of multifd")?;
        let at = cursor.offset();
        let flags = cursor.be32()?;
        if flags & flag::DEVICE_STATE != 0 {
            let packet = DevicePacket::read(start, cursor)?;
            self.place = payload_of(packet.payload_len());
            return Ok(Item::Device(packet));
        }
        if flags & !flag::KNOWN != 0 {
            return Err(unknown(
                at,
                "known flags of a multifd packet",
                u64::from(flags),
            ));
        }
        let packet = RamPacket::read(start, flags, cursor, self.page_size)?;
        let count = packet.normal_pages().len();
        self.place = match packet.compression() {
            _ if count == 0 => Place::Packet,
            Some(Compression::None) => {
                for (slot, offset) in self.offsets.iter_mut().zip(packet.normal_pages()) {
                    *slot = offset;
                }
                pages_from(0, count)
            }
            Some(_) => payload_of(packet.payload_len()),
            None => return Err(malformed(at, "one compression", flags)),
        };
        Ok(Item::Ram(packet))
    }

    /// What a channel that ends here has left out.
    fn expects(&self) -> &'static str {
        match self.place {
            Place::Hello => "multifd's first 64 bytes",
            Place::Packet => "a packet",
            Place::Pages { .. } => "a page",
            Place::Payload { .. } => "the rest of a packet",
        }
    }
}

fn pages_from(next: usize, count: usize) -> Place {
    if next < count {
        Place::Pages { next, count }
    } else {
        Place::Packet
    }
}

fn payload_of(left: u32) -> Place {
    match left {
        0 => Place::Packet,
        left => Place::Payload { left },
    }
}
