//! What a main channel is made of.

use super::command::Command;
use crate::{BlockId, Name, PageSize};

/// One piece of a main channel, in the order in which they stand there.
///
/// An item has exactly one form on the wire, so that its bytes need not be kept to send it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// `QEVM`, version 3.
    FileHeader,
    /// The machine type.
    Configuration(Name<'a>),
    /// A part of the configuration that is only there when it is needed.
    Setting(Setting<'a>),
    /// The start of a section.
    Section(Section<'a>),
    /// The end mark of the section before it, with that section's id.
    Footer(u32),
    /// A command from source to destination.
    Command(Command<'a>),
    /// RAM: the length of all blocks together; the list of blocks follows.
    RamSize(u64),
    /// RAM: a block of the list.
    Block(ListedBlock<'a>),
    /// RAM: a page.
    Page(Page<'a>),
    /// RAM: the multifd channels are to be waited for.
    MultifdFlush,
    /// RAM: the end of this section's body.
    RamEnd,
    /// VFIO: a mark within a device's section.
    Vfio(VfioMark),
    /// virtio-mem: what stands before the bitmap of its plugged blocks, which follows as [`Blob`](Self::Blob).
    VirtioMem(VirtioMem),
    /// The end of the stream, but for the description of the device state.
    EndOfStream,
    /// The description of the device state: so many bytes of JSON follow as [`Blob`](Self::Blob).
    Description(u32),
    /// Bytes whose length was said before, in as many pieces as they came.
    Blob(&'a [u8]),
    /// Bytes that are not understood, from the first [`Surprise`](crate::Surprise) to the end of the channel.
    Opaque(&'a [u8]),
}

/// A subsection of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<'a> {
    /// The page size, where the target has several.
    TargetPageSize(PageSize),
    /// Capabilities that both ends must have, of those that QEMU lists here.
    Capabilities(Capabilities<'a>),
    /// The guest's UUID.
    Uuid([u8; 16]),
}

/// A list of capabilities, each behind its length in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities<'a> {
    pub(super) count: u32,
    pub(super) names: &'a [u8],
}

impl<'a> Capabilities<'a> {
    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = Name<'a>> + use<'a> {
        let mut rest = self.names;
        core::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Name::new(name)
        })
    }
}

/// The start of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section<'a> {
    /// The first section of something that takes many rounds.
    Start(Described<'a>),
    /// More of it, while the guest runs.
    Part(u32),
    /// The last of it, the guest being stopped.
    End(u32),
    /// The only section of something that takes one, such as a device.
    Full(Described<'a>),
}

/// What a section says of itself where it occurs for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described<'a> {
    /// The number by which later sections name it.
    pub id: u32,
    /// Whose state it is, such as `ram` or `0000:00:02.0/virtio-net`.
    pub name: Name<'a>,
    /// Which of several of that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
}

/// A block in RAM's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedBlock<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// Bytes of it in use.
    pub used: u64,
    /// The size of the host pages behind it, if post-copy is to be possible and they are not the usual ones.
    pub host_page: Option<u64>,
    /// Its address in the guest, with `x-ignore-shared`.
    pub address: Option<u64>,
}

/// A page record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// The block that it is in.
    pub block: BlockId,
    /// Its first byte's offset there.
    pub offset: u64,
    /// Whether the record names its block. One that does not belongs to the block of the record before it.
    pub named: bool,
    /// What the record has of the page.
    pub content: Content<'a>,
}

/// What a page record has of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// All bytes are zero.
    Zero,
    /// All bytes, as they are.
    Whole(&'a [u8]),
    /// What changed since the page was sent before, in QEMU's XBZRLE encoding.
    Xbzrle(&'a [u8]),
    /// All bytes, compressed by zlib (up to QEMU 9.0).
    Zlib(&'a [u8]),
}

/// A mark in a VFIO device's section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VfioMark {
    /// The device is being set up.
    Setup,
    /// So many bytes of device data follow as [`Item::Blob`].
    Data(u64),
    /// The end of the section's body: all initial data has been sent.
    InitialDataSent,
    /// The end of the section's body.
    End,
}

/// The fixed part of virtio-mem's early section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMem {
    /// Where its region lies in the guest.
    pub address: u64,
    /// The region's length.
    pub region: u64,
    /// The length of a block, the unit in which memory is plugged.
    pub block: u64,
    /// The NUMA node.
    pub node: u32,
    /// Bytes that are plugged.
    pub plugged: u64,
}

impl VirtioMem {
    /// Bytes of the bitmap that follows: a bit per block, in whole 64-bit words.
    pub fn bitmap_len(&self) -> Option<u64> {
        self.region
            .checked_div(self.block)
            .map(|blocks| blocks.div_ceil(64) * 8)
    }
}
