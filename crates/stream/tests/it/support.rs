//! Driving a parser as a connection does, and writing streams by hand.
use sealift_stream::main_channel::Content;
use sealift_stream::{Surprise, main_channel, multifd, return_path};

/// What the three parsers have in common, for tests that hold for each.
pub(crate) trait Channel: Sized {
    /// A bound on what an item takes.
    const MAX_ITEM: usize;
    /// Pulls one item: its bytes as emitted and its text, or `None`.
    fn pull(&mut self, input: &mut &[u8]) -> Option<(Vec<u8>, String)>;
    /// Ends the channel.
    fn finish(&mut self, rest: &[u8]) -> Option<(Vec<u8>, String)>;
    fn offset(&self) -> u64;
    fn surprise(&self) -> Option<&Surprise>;
}

#[derive(Default)]
pub(crate) struct Main {
    parser: main_channel::Parser,
    emitter: main_channel::Emitter,
}

impl Main {
    fn show(&mut self, item: &main_channel::Item<'_>) -> (Vec<u8>, String) {
        let mut out = Vec::new();
        self.emitter.emit(item, &mut out);
        let text = match item {
            main_channel::Item::Page(page) => {
                let (block, offset, named) = (page.block, page.offset, page.named);
                let content = match page.content {
                    Content::Whole(bytes) => format!("Whole({})", short(bytes)),
                    Content::Xbzrle(bytes) => format!("Xbzrle({})", short(bytes)),
                    Content::Zlib(bytes) => format!("Zlib({})", short(bytes)),
                    Content::Zero => "Zero".to_owned(),
                };
                format!("Page({block:?}, offset: {offset}, named: {named}, {content})")
            }
            other => format!("{other:?}"),
        };
        (out, text)
    }
}

/// Bytes in few words: pages are many.
fn short(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    format!("{} bytes, {sum:08x}", bytes.len())
}

impl Channel for Main {
    const MAX_ITEM: usize = main_channel::MAX_ITEM;

    fn pull(&mut self, input: &mut &[u8]) -> Option<(Vec<u8>, String)> {
        let item = self.parser.pull(input)?;
        Some(self.show(&item))
    }

    fn finish(&mut self, rest: &[u8]) -> Option<(Vec<u8>, String)> {
        let item = self.parser.finish(rest)?;
        Some(self.show(&item))
    }

    fn offset(&self) -> u64 {
        self.parser.offset()
    }

    fn surprise(&self) -> Option<&Surprise> {
        self.parser.surprise()
    }
}

pub(crate) struct Multifd(pub(crate) multifd::Parser);

impl Multifd {
    fn show(item: &multifd::Item<'_>) -> (Vec<u8>, String) {
        let text = match item {
            multifd::Item::Ram(packet) => {
                let pages: Vec<u64> = packet.normal_pages().chain(packet.zero_pages()).collect();
                let (number, bytes) = (packet.number(), short(packet.as_bytes()));
                format!("Ram({number}, {:?}, {pages:?}, {bytes})", packet.block())
            }
            multifd::Item::Page { offset, bytes } => format!("Page({offset}, {})", short(bytes)),
            other => format!("{other:?}"),
        };
        (item.as_bytes().to_vec(), text)
    }
}

impl Channel for Multifd {
    const MAX_ITEM: usize = multifd::MAX_ITEM;

    fn pull(&mut self, input: &mut &[u8]) -> Option<(Vec<u8>, String)> {
        self.0.pull(input).map(|item| Self::show(&item))
    }

    fn finish(&mut self, rest: &[u8]) -> Option<(Vec<u8>, String)> {
        self.0.finish(rest).map(|item| Self::show(&item))
    }

    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn surprise(&self) -> Option<&Surprise> {
        self.0.surprise()
    }
}

#[derive(Default)]
pub(crate) struct Return(return_path::Parser);

impl Channel for Return {
    const MAX_ITEM: usize = return_path::MAX_ITEM;

    fn pull(&mut self, input: &mut &[u8]) -> Option<(Vec<u8>, String)> {
        let item = self.0.pull(input)?;
        let mut out = Vec::new();
        item.emit(&mut out);
        Some((out, format!("{item:?}")))
    }

    fn finish(&mut self, rest: &[u8]) -> Option<(Vec<u8>, String)> {
        let item = self.0.finish(rest)?;
        let mut out = Vec::new();
        item.emit(&mut out);
        Some((out, format!("{item:?}")))
    }

    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn surprise(&self) -> Option<&Surprise> {
        self.0.surprise()
    }
}

/// What came of a whole channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The emitted bytes.
    pub(crate) emitted: Vec<u8>,
    /// The items, but for those that may be cut anywhere.
    pub(crate) items: Vec<String>,
    /// Why the channel turned opaque.
    pub(crate) surprise: Option<Surprise>,
}

/// Feeds a channel in pieces of these lengths, repeated, as a connection would bring them.
pub(crate) fn run<C: Channel>(mut channel: C, input: &[u8], pieces: &[usize]) -> Run {
    let mut emitted = Vec::new();
    let mut items = Vec::new();
    let mut keep = |(bytes, text): (Vec<u8>, String)| {
        assert!(!bytes.is_empty(), "an item of no bytes: {text}");
        emitted.extend(bytes);
        let cut = ["Opaque(", "Blob(", "Payload(", "Bitmap("];
        if !cut.iter().any(|kind| text.starts_with(kind)) {
            items.push(text);
        }
    };
    let mut at_hand: Vec<u8> = Vec::new();
    let mut arriving = input;
    let mut lengths = pieces.iter().cycle();
    while !arriving.is_empty() {
        let len = lengths.next().map_or(arriving.len(), |len| (*len).max(1));
        let (piece, later) = arriving.split_at(len.min(arriving.len()));
        at_hand.extend_from_slice(piece);
        arriving = later;
        let mut rest = &at_hand[..];
        while let Some(item) = channel.pull(&mut rest) {
            keep(item);
        }
        assert!(
            rest.len() < C::MAX_ITEM,
            "nothing was taken of {} bytes",
            rest.len()
        );
        at_hand = rest.to_vec();
    }
    if let Some(item) = channel.finish(&at_hand) {
        keep(item);
    }
    assert_eq!(channel.offset(), input.len() as u64);
    Run {
        emitted,
        items,
        surprise: channel.surprise().cloned(),
    }
}

/// Writes a main channel byte by byte from the format's description, without the crate's own emitter.
#[derive(Clone, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn start(machine: &str) -> Self {
        Self::default()
            .bytes(b"QEVM\0\0\0\x03\x07")
            .be32(machine.len())
            .bytes(machine.as_bytes())
    }

    /// Up to and including RAM's START section with these blocks, its body left open.
    pub(crate) fn with_ram(blocks: &[(&str, u64)]) -> Self {
        let total: u64 = blocks.iter().map(|(_, used)| used).sum();
        let mut writer = Self::start("pc-q35-10.0")
            .section(1, 2, "ram", 4)
            .be64(total | 4);
        for (name, used) in blocks {
            writer = writer.name(name).be64(*used);
        }
        writer
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn be16(self, number: usize) -> Self {
        self.bytes(&u16::try_from(number).unwrap().to_be_bytes())
    }

    pub(crate) fn be32(self, number: usize) -> Self {
        self.bytes(&u32::try_from(number).unwrap().to_be_bytes())
    }

    pub(crate) fn be64(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn name(self, name: &str) -> Self {
        self.bytes(&[u8::try_from(name.len()).unwrap()])
            .bytes(name.as_bytes())
    }

    pub(crate) fn section(self, tag: u8, id: usize, name: &str, version: usize) -> Self {
        self.bytes(&[tag]).be32(id).name(name).be32(0).be32(version)
    }

    pub(crate) fn part(self, id: usize) -> Self {
        self.bytes(&[2]).be32(id)
    }

    pub(crate) fn footer(self, id: usize) -> Self {
        self.bytes(&[0x7e]).be32(id)
    }

    pub(crate) fn end_of_ram(self) -> Self {
        self.be64(0x10)
    }

    pub(crate) fn setting(self, name: &str, body: &[u8]) -> Self {
        self.bytes(&[5]).name(name).be32(1).bytes(body)
    }

    pub(crate) fn command(self, number: usize, payload: &[u8]) -> Self {
        self.bytes(&[8])
            .be16(number)
            .be16(payload.len())
            .bytes(payload)
    }

    pub(crate) fn page(self, offset: u64, block: Option<&str>, fill: u8) -> Self {
        let writer = match block {
            Some(name) => self.be64(offset | 0x8).name(name),
            None => self.be64(offset | 0x28),
        };
        writer.bytes(&[fill; 4096])
    }

    pub(crate) fn zero(self, offset: u64, block: Option<&str>) -> Self {
        let writer = match block {
            Some(name) => self.be64(offset | 0x2).name(name),
            None => self.be64(offset | 0x22),
        };
        writer.bytes(&[0])
    }
}
