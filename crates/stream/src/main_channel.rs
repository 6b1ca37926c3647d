//! The main channel: sections, and RAM pages within them.
//!
//! ```text
//!  "QEVM" 3                                        the file header
//!  07 machine type, settings                       the configuration
//!  08 command …                                    open the return path, ping, post-copy advice
//!  01 START id "ram" …      7e id                  sections: a type byte, what it says of itself,
//!  02 PART  id body         7e id                  a body without a length, and a footer
//!  03 END   id body         7e id
//!  04 FULL  id "timer" … device state, opaque from its body on
//! ```
//!
//! A RAM section's body is a run of records, each a be64 of the page's offset and flags in its low twelve bits:
//!
//! ```text
//!  ┌ offset ──────────┬ flags ┐
//!  │ 0000000000401000 │  008  │ [n, name: unless CONTINUE] [4096 bytes]     a page
//!  │ 0000000000402000 │  022  │ 00                                          a page of zeros, same block
//!  │ 0000000000000000 │  010  │                                             the end of the body
//!  └──────────────────┴───────┘
//! ```
//!
//! What is parsed: the configuration, commands, RAM, VFIO's data and virtio-mem's early section (which stands before RAM's pages).
//! Every other section turns the rest of the channel opaque. In QEMU's order these come after the last RAM page, but for guests
//! with block dirty bitmaps and the like, which lose savings and nothing else.

mod command;
mod device;
mod emit;
mod item;
mod ram;
mod weave;

use alloc::vec::Vec;

pub use command::{Advice, Command, Discard};
pub use emit::Emitter;
pub use item::{
    Capabilities, Content, Described, Item, ListedBlock, Page, Section, Setting, VfioMark,
    VirtioMem,
};
pub use weave::{Misplaced, Weaver};

use crate::cursor::{Cursor, Outcome, Progress, Read, Stop, malformed, unknown};
use crate::surprise::{Cause, Found};
use crate::{BlockId, Blocks, Name, NameBuf, PageSize, Surprise};

/// The channel's first four bytes: `QEVM`.
pub const MAGIC: u32 = u32::from_be_bytes(*b"QEVM");
/// The only version of the format.
const VERSION: u32 = 3;

/// The most iterable sections that are told apart: one for RAM and one per VFIO device, of which a PCI topology holds fewer.
pub const MAX_SECTIONS: usize = 1024;

/// The most bytes that an item takes: with as many at hand, [`Parser::pull`] always returns one.
///
/// The largest is a zlib record: offset and flags, a name, a length, and a page that deflate could only make larger.
pub const MAX_ITEM: usize = 8 + 1 + Name::MAX_LEN + 4 + ram::max_zlib(PageSize::MAX);

mod tag {
    pub(super) const END_OF_STREAM: u8 = 0x00;
    pub(super) const START: u8 = 0x01;
    pub(super) const PART: u8 = 0x02;
    pub(super) const END: u8 = 0x03;
    pub(super) const FULL: u8 = 0x04;
    pub(super) const SUBSECTION: u8 = 0x05;
    pub(super) const DESCRIPTION: u8 = 0x06;
    pub(super) const CONFIGURATION: u8 = 0x07;
    pub(super) const COMMAND: u8 = 0x08;
    pub(super) const FOOTER: u8 = 0x7e;
}

/// Takes a main channel apart.
///
/// ```
/// use sealift_stream::main_channel::{Item, Parser};
///
/// let mut parser = Parser::new();
/// let mut input = &b"QEVM\0\0\0\x03\x07\0\0\0\x06pc-q35"[..];
/// assert_eq!(parser.pull(&mut input), Some(Item::FileHeader));
/// assert!(matches!(parser.pull(&mut input), Some(Item::Configuration(_))));
/// assert_eq!(parser.pull(&mut input), None); // bring more
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parser {
    progress: Progress,
    reader: Reader,
}

impl Parser {
    /// A parser at the start of a channel.
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser that knows the target's page size from elsewhere, such as QMP. The stream's word counts more.
    pub fn with_page_size(page_size: PageSize) -> Self {
        let mut parser = Self::new();
        parser.reader.page_size = Some(page_size);
        parser
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
        if rest.is_empty() && self.reader.may_end() {
            return None;
        }
        let rest = self.progress.finish(rest, self.reader.expects());
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

    /// The RAM blocks listed so far.
    pub fn blocks(&self) -> &Blocks {
        &self.reader.blocks
    }

    /// The target's page size, as soon as it is known.
    pub fn page_size(&self) -> Option<PageSize> {
        self.reader.page_size
    }

    /// Where the next item stands.
    pub fn stand(&self) -> Stand {
        match self.progress.surprise() {
            Some(_) => Stand::Elsewhere,
            None => self.reader.stand(),
        }
    }
}

/// Where in a channel an item stands, for whoever has something of its own to put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// In the body of a RAM section whose blocks are listed: a record may come.
    Ram,
    /// Behind the end of such a body, and before what follows it, which may be its footer.
    RamEnd,
    /// Between two sections: another one, or a command, may come.
    Between,
    /// Where nothing else can stand.
    Elsewhere,
}

/// What has been learnt from the channel so far.
#[derive(Clone, Debug, Default)]
struct Reader {
    place: Place,
    machine: Option<NameBuf>,
    page_size: Option<PageSize>,
    ignore_shared: bool,
    mapped_ram: bool,
    postcopy_advised: bool,
    sections: Vec<(u32, Kind)>,
    /// The section that is open, or whose footer may come.
    section: Option<u32>,
    blocks: Blocks,
    /// The block of the last page record: it outlives a section.
    last_block: Option<BlockId>,
    /// The section whose body is not known.
    unknown: Option<NameBuf>,
}

/// Where in the channel the next item stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    FileHeader,
    Configuration,
    Settings,
    Sections,
    Body(Kind),
    /// In RAM's list of blocks, which is complete when as many bytes have been listed.
    BlockList {
        left: u64,
    },
    /// In bytes of known number.
    Blob {
        left: u64,
        after: After,
    },
    /// In virtio-mem's early section.
    VirtioMem,
    /// In a section whose body is not known.
    UnknownBody(Cause),
    EndOfStream,
    Nothing,
}

/// What follows a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Sections,
    Vfio,
    Nothing,
}

/// Iterable sections whose bodies are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ram,
    Vfio,
}

impl Reader {
    /// Reads one item, and changes what is known only after it is whole.
    #[inline]
    fn read<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        match self.place {
            Place::Body(Kind::Ram) => self.ram_record(cursor),
            Place::Body(Kind::Vfio) => self.vfio_mark(cursor),
            Place::BlockList { left } => self.listed_block(left, cursor),
            Place::VirtioMem => self.virtio_mem(cursor),
            Place::UnknownBody(cause) => Err(self.unknown_body(cause, cursor)),
            Place::Blob { left, after } => self.blob(left, after, cursor),
            Place::FileHeader => {
                cursor.exactly_be32(MAGIC, "QEMU's magic, \"QEVM\"")?;
                cursor.exactly_be32(VERSION, "version 3 of the stream")?;
                self.place = Place::Configuration;
                Ok(Item::FileHeader)
            }
            Place::Configuration
            | Place::Settings
            | Place::Sections
            | Place::EndOfStream
            | Place::Nothing => self.between_sections(cursor),
        }
    }

    fn between_sections<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let tag = cursor.u8()?;
        match (self.place, tag) {
            (Place::Configuration, tag::CONFIGURATION) => self.configuration(cursor),
            (Place::Settings, tag::SUBSECTION) => self.setting(cursor),
            (Place::EndOfStream, tag::DESCRIPTION) => {
                let len = cursor.be32()?;
                self.enter_blob(u64::from(len), After::Nothing);
                Ok(Item::Description(len))
            }
            (Place::EndOfStream | Place::Nothing, _) => {
                Err(malformed(at, "the end of the channel", tag))
            }
            (_, tag::START) => self.start(cursor),
            (_, tag::FULL) => self.full(cursor),
            (_, tag::PART) => self.again(cursor, Section::Part),
            (_, tag::END) => self.again(cursor, Section::End),
            (_, tag::COMMAND) => self.command(cursor),
            (_, tag::FOOTER) => self.footer(cursor),
            (_, tag::END_OF_STREAM) => {
                self.place = Place::EndOfStream;
                Ok(Item::EndOfStream)
            }
            _ => Err(unknown(at, "a section's type", u64::from(tag))),
        }
    }

    fn configuration<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let len = cursor.be32()?;
        let too_long = || malformed(at, "a machine type of 1 to 255 bytes", len);
        let len = usize::try_from(len).map_err(|_| too_long())?;
        if len > Name::MAX_LEN {
            return Err(too_long());
        }
        let machine = Name::new(cursor.take(len)?).ok_or_else(too_long)?;
        self.page_size = PageSize::of_machine(machine).or(self.page_size);
        self.machine = Some(machine.into());
        self.place = Place::Settings;
        Ok(Item::Configuration(machine))
    }

    fn setting<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let name = cursor.name()?;
        cursor.exactly_be32(1, "version 1 of a part of the configuration")?;
        let setting = match name.as_bytes() {
            b"configuration/target-page-bits" => {
                let bits = cursor.be32()?;
                let size = PageSize::from_bits(bits)
                    .ok_or_else(|| unknown(at, "a page size of 12 to 16 bits", u64::from(bits)))?;
                self.page_size = Some(size);
                Setting::TargetPageSize(size)
            }
            b"configuration/capabilities" => {
                let capabilities = Capabilities::read(cursor)?;
                for name in capabilities.iter() {
                    self.ignore_shared |= name.as_bytes() == b"x-ignore-shared";
                    self.mapped_ram |= name.as_bytes() == b"mapped-ram";
                }
                Setting::Capabilities(capabilities)
            }
            b"configuration/uuid" => Setting::Uuid(cursor.bytes16()?),
            _ => return Err(unknown(at, "a known part of the configuration", name)),
        };
        Ok(Item::Setting(setting))
    }

    fn command<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let command = Command::read(cursor)?;
        self.place = Place::Sections;
        self.section = None;
        match command {
            Command::PostcopyAdvise(_) => self.postcopy_advised = true,
            Command::Packaged(len) => self.enter_blob(u64::from(len), After::Sections),
            _ => {}
        }
        Ok(Item::Command(command))
    }

    fn start<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let described = Described::read(cursor)?;
        let kind = match described.name.as_bytes() {
            // mapped-ram is a file with pages at fixed places, not a stream of records.
            b"ram" if described.version == ram::VERSION && !self.mapped_ram => Some(Kind::Ram),
            name if name.ends_with(b"/vfio") && described.version == device::VFIO_VERSION => {
                Some(Kind::Vfio)
            }
            _ => None,
        };
        if self.sections.iter().any(|(id, _)| *id == described.id) {
            return Err(malformed(at, "a section id not used before", described.id));
        }
        if self.sections.len() >= MAX_SECTIONS {
            return Err(unknown(at, "one of at most 1024 sections", described.name));
        }
        self.section = Some(described.id);
        if let Some(kind) = kind {
            self.sections.push((described.id, kind));
            self.place = Place::Body(kind);
        } else {
            self.enter_unknown(Cause::Unknown, described.name);
        }
        Ok(Item::Section(Section::Start(described)))
    }

    fn full<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let described = Described::read(cursor)?;
        self.section = Some(described.id);
        if device::is_virtio_mem_early(&described) {
            self.place = Place::VirtioMem;
        } else {
            self.enter_unknown(Cause::DeviceState, described.name);
        }
        Ok(Item::Section(Section::Full(described)))
    }

    /// A section's start was understood, its body will not be.
    fn enter_unknown(&mut self, cause: Cause, name: Name<'_>) {
        self.place = Place::UnknownBody(cause);
        self.unknown = Some(name.into());
    }

    fn unknown_body(&self, cause: Cause, cursor: &Cursor<'_>) -> Stop {
        Stop::Surprise(Surprise {
            offset: cursor.offset(),
            cause,
            expected: "a section with a known body",
            found: match &self.unknown {
                Some(name) => Found::Name(name.clone()),
                None => Found::End(0),
            },
        })
    }

    fn again<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        section: fn(u32) -> Section<'a>,
    ) -> Read<Item<'a>> {
        let at = cursor.offset();
        let id = cursor.be32()?;
        let kind = self.sections.iter().find(|(known, _)| *known == id);
        let &(_, kind) =
            kind.ok_or_else(|| malformed(at, "the id of a section that has started", id))?;
        self.section = Some(id);
        self.place = Place::Body(kind);
        Ok(Item::Section(section(id)))
    }

    fn footer<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let id = cursor.be32()?;
        if self.section != Some(id) {
            return Err(malformed(at, "the id of the section before", id));
        }
        self.section = None;
        Ok(Item::Footer(id))
    }

    fn blob<'a>(&mut self, left: u64, after: After, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let bytes = cursor.take_some(left)?;
        self.enter_blob(left - bytes.len() as u64, after);
        Ok(Item::Blob(bytes))
    }

    fn enter_blob(&mut self, left: u64, after: After) {
        self.place = match (left, after) {
            (1.., _) => Place::Blob { left, after },
            (0, After::Sections) => Place::Sections,
            (0, After::Vfio) => Place::Body(Kind::Vfio),
            (0, After::Nothing) => Place::Nothing,
        };
    }

    fn stand(&self) -> Stand {
        match (self.place, self.section) {
            (Place::Body(Kind::Ram), _) if !self.blocks.is_empty() => Stand::Ram,
            (Place::Sections, None) => Stand::Between,
            (Place::Sections, Some(open)) if self.sections.contains(&(open, Kind::Ram)) => {
                Stand::RamEnd
            }
            _ => Stand::Elsewhere,
        }
    }

    /// Whether a channel may end here.
    fn may_end(&self) -> bool {
        matches!(self.place, Place::EndOfStream | Place::Nothing)
    }

    /// What a channel that ends here has left out.
    fn expects(&self) -> &'static str {
        match self.place {
            Place::FileHeader => "the file header",
            Place::Configuration | Place::Settings => "the configuration or a section",
            Place::Sections => "a section or the end of the stream",
            Place::Body(Kind::Ram) => "a RAM record",
            Place::BlockList { .. } => "a RAM block",
            Place::Body(Kind::Vfio) | Place::VirtioMem | Place::UnknownBody(_) => "device state",
            Place::Blob { .. } => "the rest of a blob",
            Place::EndOfStream | Place::Nothing => "the description of the device state",
        }
    }
}

impl<'a> Described<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Read<Self> {
        Ok(Self {
            id: cursor.be32()?,
            name: cursor.name()?,
            instance: cursor.be32()?,
            version: cursor.be32()?,
        })
    }
}

impl<'a> Capabilities<'a> {
    /// The most capabilities in a list: QEMU has fewer than 30 in all.
    const MAX: u32 = 64;

    fn read(cursor: &mut Cursor<'a>) -> Read<Self> {
        let at = cursor.offset();
        let count = cursor.be32()?;
        if count > Self::MAX {
            return Err(malformed(at, "at most 64 capabilities", count));
        }
        let all = cursor.ahead();
        let start = cursor.offset();
        for _ in 0..count {
            cursor.name()?;
        }
        let len = cursor.offset() - start;
        Ok(Self {
            count,
            names: all.get(..usize::try_from(len).unwrap_or(0)).unwrap_or(&[]),
        })
    }
}
