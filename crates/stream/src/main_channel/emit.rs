//! Putting a main channel together again.

use alloc::vec::Vec;

use super::device::vfio_mark;
use super::item::{Content, Described, Item, ListedBlock, Page, Section, Setting, VfioMark};
use super::ram::{self, flag};
use super::{MAGIC, VERSION, tag};
use crate::{BlockId, Blocks, Name};

/// Writes items as QEMU writes them.
///
/// Given all items of a parsed channel, it writes that channel. Page records may be left out: a record that relies on one that was left out for the
/// name of its block gets a name of its own.
#[derive(Clone, Debug, Default)]
pub struct Emitter {
    blocks: Blocks,
    last_block: Option<BlockId>,
}

impl Emitter {
    /// An emitter at the start of a channel.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an item to `out`.
    #[inline]
    pub fn emit(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        let payload = self.emit_head(item, out);
        out.extend_from_slice(payload);
    }

    /// Appends an item to `out`, but for the bytes that make up most of it (a page, a blob): these are returned, to be sent from where
    /// they are.
    #[inline]
    pub fn emit_head<'a>(&mut self, item: &Item<'a>, out: &mut Vec<u8>) -> &'a [u8] {
        match item {
            Item::Page(page) => return self.page(page, out),
            Item::Blob(bytes) | Item::Opaque(bytes) => return bytes,
            Item::RamEnd => put64(out, flag::EOS),
            Item::MultifdFlush => put64(out, flag::MULTIFD_FLUSH),
            Item::Section(section) => put_section(out, section),
            Item::Footer(id) => {
                out.push(tag::FOOTER);
                put32(out, *id);
            }
            Item::FileHeader => {
                put32(out, MAGIC);
                put32(out, VERSION);
            }
            Item::Configuration(machine) => {
                out.push(tag::CONFIGURATION);
                put32(out, u32::from(machine.wire_len()));
                out.extend_from_slice(machine.as_bytes());
            }
            Item::Setting(setting) => put_setting(out, setting),
            Item::Command(command) => {
                out.push(tag::COMMAND);
                command.emit(out);
            }
            Item::RamSize(total) => put64(out, total | flag::MEM_SIZE),
            Item::Block(block) => self.listed_block(block, out),
            Item::Vfio(mark) => put_vfio_mark(out, *mark),
            Item::VirtioMem(device) => {
                put64(out, device.address);
                put64(out, device.region);
                put64(out, device.block);
                put32(out, device.node);
                put64(out, device.plugged);
            }
            Item::EndOfStream => out.push(tag::END_OF_STREAM),
            Item::Description(len) => {
                out.push(tag::DESCRIPTION);
                put32(out, *len);
            }
        }
        &[]
    }

    #[inline]
    fn page<'a>(&mut self, page: &Page<'a>, out: &mut Vec<u8>) -> &'a [u8] {
        let flags = match page.content {
            Content::Zero => flag::ZERO,
            Content::Whole(_) => flag::PAGE,
            Content::Xbzrle(_) => flag::XBZRLE,
            Content::Zlib(_) => flag::ZLIB,
        };
        if !page.named && self.last_block == Some(page.block) {
            put64(out, page.offset | flags | flag::CONTINUE);
        } else {
            put64(out, page.offset | flags);
            if let Some(block) = self.blocks.block(page.block) {
                put_name(out, block.name());
            }
            self.last_block = Some(page.block);
        }
        match page.content {
            Content::Zero => {
                out.push(0);
                &[]
            }
            Content::Whole(bytes) => bytes,
            Content::Xbzrle(bytes) => {
                out.push(ram::ENCODING_XBZRLE);
                // The parser takes none that is longer than a page, 64 KiB at the most.
                let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&len.to_be_bytes());
                bytes
            }
            Content::Zlib(bytes) => {
                put32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                bytes
            }
        }
    }

    fn listed_block(&mut self, block: &ListedBlock<'_>, out: &mut Vec<u8>) {
        self.blocks.push(block.name, block.used);
        put_name(out, block.name);
        put64(out, block.used);
        for number in [block.host_page, block.address].into_iter().flatten() {
            put64(out, number);
        }
    }
}

fn put_section(out: &mut Vec<u8>, section: &Section<'_>) {
    let (tag, described) = match section {
        Section::Start(described) => (tag::START, described),
        Section::Full(described) => (tag::FULL, described),
        Section::Part(id) | Section::End(id) => {
            let part = matches!(section, Section::Part(_));
            out.push(if part { tag::PART } else { tag::END });
            put32(out, *id);
            return;
        }
    };
    let Described {
        id,
        name,
        instance,
        version,
    } = *described;
    out.push(tag);
    put32(out, id);
    put_name(out, name);
    put32(out, instance);
    put32(out, version);
}

fn put_setting(out: &mut Vec<u8>, setting: &Setting<'_>) {
    let mut head = |name: &str| {
        out.push(tag::SUBSECTION);
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
        put32(out, 1);
    };
    match setting {
        Setting::TargetPageSize(size) => {
            head("configuration/target-page-bits");
            put32(out, size.bytes().trailing_zeros());
        }
        Setting::Capabilities(capabilities) => {
            head("configuration/capabilities");
            put32(out, capabilities.count);
            out.extend_from_slice(capabilities.names);
        }
        Setting::Uuid(uuid) => {
            head("configuration/uuid");
            out.extend_from_slice(uuid);
        }
    }
}

fn put_vfio_mark(out: &mut Vec<u8>, mark: VfioMark) {
    match mark {
        VfioMark::Setup => put64(out, vfio_mark::SETUP),
        VfioMark::Data(size) => {
            put64(out, vfio_mark::DATA);
            put64(out, size);
        }
        VfioMark::InitialDataSent => put64(out, vfio_mark::INITIAL_DATA_SENT),
        VfioMark::End => put64(out, vfio_mark::END),
    }
}

fn put_name(out: &mut Vec<u8>, name: Name<'_>) {
    out.push(name.wire_len());
    out.extend_from_slice(name.as_bytes());
}

fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

#[inline]
fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}
