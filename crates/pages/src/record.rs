//! What a batch says: one value per record.
//!
//! ```text
//!   tag: +---------+------------+
//!        | kind: 4 | address: 4 |      0x1a zero   0x2a literal   0x3a same-as   0x4a delta
//!        +---------+------------+      0x50 opaque 0x60 barrier   0x70 group     0x8a planes
//! ```

use core::fmt;

use crate::layout::Address;
use crate::patch::Patch;
use crate::redacted::Redacted;

/// One record. Pages, patches and other bytes are views into the body that they were read from, or into
/// whatever the source wants to send.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Record<'a> {
    /// Pages of nothing but zeros, one after the other.
    Zero {
        /// The first of them.
        first: Address,
        /// How many; at least one.
        run: u64,
    },
    /// A page as it is.
    Literal {
        /// Which page.
        page: Address,
        /// Its bytes, exactly a page.
        content: &'a [u8],
    },
    /// A page of words with its bytes taken apart: the lowest byte of every word of 8 bytes, then the next of every word, and so on.
    Planes {
        /// Which page.
        page: Address,
        /// Its bytes in that order, exactly a page.
        planes: &'a [u8],
    },
    /// A page with the content that another, or the same, had when it was sent.
    SameAs {
        /// Which page.
        page: Address,
        /// Where its content is.
        origin: Origin,
    },
    /// A page that differs a little from a content that was sent.
    Delta {
        /// Which page.
        page: Address,
        /// The content to begin with.
        origin: Origin,
        /// What to change in it.
        patch: Patch<'a>,
    },
    /// Bytes of a channel of QEMU's that are not pages.
    Opaque {
        /// 0 is the main channel, n the n-th of multifd.
        channel: u16,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// All before it is placed and verified before anything after it is used.
    Barrier,
    /// Compressed records.
    Group(Group<'a>),
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { first, run } => f
                .debug_struct("Zero")
                .field("first", first)
                .field("run", run)
                .finish(),
            Self::Literal { page, content } => f
                .debug_struct("Literal")
                .field("page", page)
                .field("content", &Redacted(content))
                .finish(),
            Self::Planes { page, planes } => f
                .debug_struct("Planes")
                .field("page", page)
                .field("planes", &Redacted(planes))
                .finish(),
            Self::SameAs { page, origin } => f
                .debug_struct("SameAs")
                .field("page", page)
                .field("origin", origin)
                .finish(),
            Self::Delta {
                page,
                origin,
                patch,
            } => f
                .debug_struct("Delta")
                .field("page", page)
                .field("origin", origin)
                .field("patch", patch)
                .finish(),
            Self::Opaque { channel, bytes } => f
                .debug_struct("Opaque")
                .field("channel", channel)
                .field("bytes", &Redacted(bytes))
                .finish(),
            Self::Barrier => f.write_str("Barrier"),
            Self::Group(group) => group.fmt(f),
        }
    }
}

/// A content that was sent before, named by where it went and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The page that got it.
    pub page: Address,
    /// How many batches ago; 0 is earlier in the same batch.
    pub age: u64,
}

/// Compressed records. Carried as they are: whoever owns the compression contexts inflates them and reads the
/// result with [`Reader::group`](crate::Reader::group).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Group<'a> {
    /// How they are compressed.
    pub codec: Codec,
    /// Which of its window's groups it is, counted from 1; 0 without one.
    pub slot: u64,
    /// The window that it goes on, counted from 1; 0 for none: it is compressed alone.
    pub window: u64,
    /// Bytes that must come out: 1 to [`GROUP_MAX`](crate::GROUP_MAX).
    pub raw_len: usize,
    /// The compressed bytes; at least one.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("codec", &self.codec)
            .field("slot", &self.slot)
            .field("window", &self.window)
            .field("raw_len", &self.raw_len)
            .field("bytes", &Redacted(self.bytes))
            .finish()
    }
}

/// How a group is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Codec {
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Codec {
    /// The codec that a number of `proto/WIRE.md` §3 stands for.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Zstd => 1,
        }
    }
}

/// The kind of a record: the high four bits of its tag.
pub(crate) mod kind {
    pub(crate) const ZERO: u8 = 0x10;
    pub(crate) const LITERAL: u8 = 0x20;
    pub(crate) const SAME_AS: u8 = 0x30;
    pub(crate) const DELTA: u8 = 0x40;
    pub(crate) const OPAQUE: u8 = 0x50;
    pub(crate) const BARRIER: u8 = 0x60;
    pub(crate) const GROUP: u8 = 0x70;
    pub(crate) const PLANES: u8 = 0x80;
}

/// How a page is addressed: the low four bits of its record's tag.
pub(crate) mod addressing {
    /// The page after the last one.
    pub(crate) const NEXT: u8 = 0;
    /// Some pages after that, in the same block.
    pub(crate) const FURTHER: u8 = 1;
    /// Block and page are spelled out.
    pub(crate) const ANYWHERE: u8 = 2;
}
