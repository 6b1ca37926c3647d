//! What is noted of a multifd channel while its items go by.

use std::collections::HashMap;

use sealift::figures::uuid;
use sealift_stream::PageSize;
use sealift_stream::multifd::{self, Compression};

use super::census::{Census, Kind};
use super::report::{MultifdReport, Opaque};

/// Blocks that are told apart: as many as a guest may have.
const BLOCKS: usize = 1024;

/// Notes on a multifd channel.
pub(super) struct MultifdSurvey {
    page_size: PageSize,
    channel: Option<u8>,
    uuid: Option<String>,
    packets: u64,
    device_packets: u64,
    device_bytes: u64,
    syncs: u64,
    compression: Option<Compression>,
    /// Places of the blocks in order of appearance: a channel has no list of them.
    blocks: HashMap<String, usize>,
    block: usize,
    in_device_packet: bool,
    payload_bytes: u64,
    census: Census,
    opaque_bytes: u64,
}

impl MultifdSurvey {
    pub(super) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            channel: None,
            uuid: None,
            packets: 0,
            device_packets: 0,
            device_bytes: 0,
            syncs: 0,
            compression: None,
            blocks: HashMap::new(),
            block: 0,
            in_device_packet: false,
            payload_bytes: 0,
            census: Census::default(),
            opaque_bytes: 0,
        }
    }

    pub(super) fn item(&mut self, item: &multifd::Item<'_>) {
        match item {
            multifd::Item::Hello(hello) => {
                self.channel = Some(hello.channel);
                self.uuid = Some(uuid(&hello.uuid));
            }
            multifd::Item::Ram(packet) => self.packet(packet),
            multifd::Item::Page { offset, bytes } => {
                let page = self.page(*offset);
                self.census.record(self.block, page, Kind::Literal(bytes));
            }
            multifd::Item::Device(_) => {
                self.device_packets += 1;
                self.in_device_packet = true;
            }
            multifd::Item::Payload(bytes) if self.in_device_packet => {
                self.device_bytes += bytes.len() as u64;
            }
            multifd::Item::Payload(bytes) => self.payload_bytes += bytes.len() as u64,
            multifd::Item::Opaque(bytes) => self.opaque_bytes += bytes.len() as u64,
        }
    }

    fn packet(&mut self, packet: &multifd::RamPacket<'_>) {
        self.packets += 1;
        self.in_device_packet = false;
        self.syncs += u64::from(packet.is_sync());
        if let Some(name) = packet.block() {
            let next = self.blocks.len();
            let name = name.to_string();
            if self.blocks.contains_key(&name) || next < BLOCKS {
                self.block = *self.blocks.entry(name).or_insert(next);
            }
        }
        // Within a packet normal pages come before zero pages, each kind upwards.
        if let Some(first) = packet.normal_pages().chain(packet.zero_pages()).min() {
            self.census.walk(self.block, self.page(first));
        }
        if packet.payload_len() > 0 {
            self.compression = packet.compression();
            if self.compression != Some(Compression::None) {
                for offset in packet.normal_pages() {
                    let page = self.page(offset);
                    self.census.record(self.block, page, Kind::Compressed);
                }
            }
        }
        for offset in packet.zero_pages() {
            let page = self.page(offset);
            self.census.record(self.block, page, Kind::Zero);
        }
    }

    fn page(&self, offset: u64) -> u64 {
        offset / self.page_size.bytes() as u64
    }

    pub(super) fn report(self, parser: &multifd::Parser) -> MultifdReport {
        let mut blocks: Vec<_> = self.blocks.into_iter().collect();
        blocks.sort_by_key(|(_, place)| *place);
        let ram = self
            .census
            .report(blocks.into_iter().map(|(name, _)| (name, None)));
        MultifdReport {
            bytes: parser.offset(),
            number: self.channel,
            uuid: self.uuid,
            packets: self.packets,
            syncs: self.syncs,
            compression: self.compression.map(name),
            compressed_bytes: self.payload_bytes,
            device_packets: self.device_packets,
            device_bytes: self.device_bytes,
            ram,
            opaque: Opaque::of(parser.surprise(), self.opaque_bytes),
        }
    }
}

/// A compression as QEMU's parameter `multifd-compression` names it.
fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Zlib => "zlib",
        Compression::Zstd => "zstd",
        Compression::Qpl => "qpl",
        Compression::Uadk => "uadk",
        Compression::Qatzip => "qatzip",
    }
}
