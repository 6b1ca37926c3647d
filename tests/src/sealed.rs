//! A captured stream through the inner crates, from one end to the other:
//!
//! ```text
//!  stream ─▶ Parser ─▶ records ─▶ body + digest ─▶ Sealer ═ sealed batches ═▶ Opener ─▶ Ledger ─▶ body
//!    ║ must be equal                                                                        digest │ records
//!  stream ◀─ Emitter ◀─ pages, and what Parser makes of the bytes between them ◀───────────────────┘
//! ```
//!
//! Pages become records; what stands between them travels as opaque bytes and is a stream of its own, one without pages, from which the
//! other end learns the blocks.

use std::fs::File;
use std::io::Read as _;

use sealift_pages::{Address, Algorithm, Body, BodyWriter, Layout, PageDigest, PageSize, Record};
use sealift_seal::{Header, Keyed, Ledger, RamBlock, Receiver, Sealer, Suite};
use sealift_stream::main_channel::{Content, Emitter, Item, Page, Parser};

use crate::both_ends::BothEnds;
use crate::{Context, Error};

/// Bytes of records after which a batch is sealed.
const BATCH: usize = 256 << 10;

/// X25519 with ML-KEM-768.
const SUITE: u16 = 0x0101;

/// The only lane.
const LANE: u8 = 0;

/// What a stream became.
#[derive(Debug)]
pub struct Sealed {
    /// Sealed batches, in order.
    pub batches: Vec<Vec<u8>>,
    /// The cipher suite.
    pub suite: Suite,
    /// Pages with content.
    pub literal: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Bytes between the pages.
    pub other: u64,
    layout: Layout,
    receiver: Keyed<Receiver>,
}

/// Takes a main channel apart and seals it.
pub fn seal(stream: &[u8]) -> Result<Sealed, Error> {
    let (pieces, parser) = take_apart(stream)?;
    let layout = layout(&parser)?;
    let BothEnds {
        suite,
        mut source,
        receiver,
    } = agree(&parser)?;
    let mut sealer = source.sealer(LANE).context("the first epoch")?;
    let mut batches = Vec::new();
    let mut waiting = &pieces[..];
    while !waiting.is_empty() {
        let number = batches.len() as u64;
        let mut buffer = vec![0; Header::LENGTH];
        let taken = write_body(&mut buffer, waiting, &layout, number)?;
        waiting = &waiting[taken..];
        buffer.resize(buffer.len() + Sealer::OVERHEAD - Header::LENGTH, 0);
        sealer.seal(number, &mut buffer).context("sealing")?;
        batches.push(buffer);
    }
    let count = |counts: fn(&Piece<'_>) -> u64| pieces.iter().map(counts).sum();
    Ok(Sealed {
        literal: count(|piece| u64::from(matches!(piece, Piece::Literal(..)))),
        zero: count(|piece| u64::from(matches!(piece, Piece::Zero(_)))),
        other: count(|piece| match piece {
            Piece::Other(bytes) => bytes.len() as u64,
            _ => 0,
        }),
        batches,
        suite,
        layout,
        receiver,
    })
}

/// Opens the batches, verifies them, and puts the main channel together again.
pub fn open(mut sealed: Sealed) -> Result<Vec<u8>, Error> {
    let mut opener = sealed.receiver.opener(LANE, 0).context("the first epoch")?;
    let mut ledger = Ledger::new();
    let mut together = Together::default();
    for (number, batch) in sealed.batches.iter_mut().enumerate() {
        let (header, body) = batch
            .split_first_chunk_mut()
            .ok_or_else(|| Error::new("a batch without a header"))?;
        let checked = opener.check(header).context("opening")?;
        let opened = opener.open(checked, body).context("opening")?;
        let body = opened.accept(&mut ledger).context("opening")?;
        together.body(body, &sealed.layout, number as u64)?;
    }
    together.finish()
}

/// A record's worth of the stream.
enum Piece<'a> {
    Zero(Address),
    Literal(Address, &'a [u8]),
    Other(Vec<u8>),
}

fn take_apart(mut stream: &[u8]) -> Result<(Vec<Piece<'_>>, Parser), Error> {
    let (mut parser, mut emitter) = (Parser::new(), Emitter::new());
    let mut pieces = Vec::new();
    let mut other = |item: &Item<'_>, pieces: &mut Vec<Piece<'_>>| {
        let mut bytes = match pieces.pop() {
            Some(Piece::Other(bytes)) if bytes.len() < BATCH / 2 => bytes,
            Some(piece) => {
                pieces.push(piece);
                Vec::new()
            }
            None => Vec::new(),
        };
        emitter.emit(item, &mut bytes);
        pieces.push(Piece::Other(bytes));
    };
    while let Some(item) = parser.pull(&mut stream) {
        match item {
            Item::Page(page) => {
                let page_size = page_size(&parser)?.bytes() as u64;
                let address = Address {
                    block: u16::try_from(page.block.index()).context("a block's number")?,
                    page: page.offset / page_size,
                };
                pieces.push(match page.content {
                    Content::Zero => Piece::Zero(address),
                    Content::Whole(bytes) => Piece::Literal(address, bytes),
                    _ => return Err(Error::new("only streams with plain pages are shown")),
                });
            }
            // Opaque bytes come in one piece from a stream that is all there; a record takes less.
            Item::Opaque(bytes) => {
                for bytes in bytes.chunks(BATCH / 2) {
                    other(&Item::Opaque(bytes), &mut pieces);
                }
            }
            item => other(&item, &mut pieces),
        }
    }
    if let Some(item) = parser.finish(stream) {
        other(&item, &mut pieces);
    }
    Ok((pieces, parser))
}

fn page_size(parser: &Parser) -> Result<PageSize, Error> {
    let size = parser
        .page_size()
        .ok_or_else(|| Error::new("the page size is not known"))?;
    PageSize::new(size.bytes()).context("the page size")
}

fn layout(parser: &Parser) -> Result<Layout, Error> {
    let page_size = page_size(parser)?;
    let bytes = page_size.bytes() as u64;
    let blocks = parser
        .blocks()
        .iter()
        .map(|block| block.used().div_ceil(bytes));
    let layout = Layout::new(page_size, blocks.collect()).context("the RAM blocks")?;
    Ok(layout.with_agreed(sealift_pages::Agreed {
        digest: Algorithm::Blake3,
        ..sealift_pages::Agreed::default()
    }))
}

/// Writes as many pieces as make a batch, and returns how many.
fn write_body(
    buffer: &mut Vec<u8>,
    pieces: &[Piece<'_>],
    layout: &Layout,
    number: u64,
) -> Result<usize, Error> {
    let mut digest = PageDigest::new(Algorithm::Blake3, layout.page_size());
    let mut body = BodyWriter::new(buffer, layout, number);
    let mut taken = 0;
    for piece in pieces {
        let record = match piece {
            Piece::Zero(first) => {
                digest.zero(*first, 1);
                Record::Zero {
                    first: *first,
                    run: 1,
                }
            }
            Piece::Literal(page, content) => {
                digest.page(*page, content).context("a page's length")?;
                Record::Literal {
                    page: *page,
                    content,
                }
            }
            Piece::Other(bytes) => Record::Opaque { channel: 0, bytes },
        };
        body.append(&record).context("writing a batch")?;
        taken += 1;
        if body.len() >= BATCH {
            break;
        }
    }
    body.finish(&digest.finish()).context("ending a batch")?;
    Ok(taken)
}

/// The stream as it grows at the other end.
#[derive(Default)]
struct Together {
    parser: Parser,
    emitter: Emitter,
    /// Bytes between pages that are not a whole item yet.
    between: Vec<u8>,
    stream: Vec<u8>,
}

impl Together {
    fn body(&mut self, body: &[u8], layout: &Layout, number: u64) -> Result<(), Error> {
        let body = Body::parse(body, layout).context("a body")?;
        let mut digest = PageDigest::new(body.digest().algorithm, layout.page_size());
        for record in body.records(layout, number) {
            match record.context("a record")? {
                Record::Zero { first, run } => {
                    digest.zero(first, run);
                    for place in 0..run {
                        let page = first.page + place;
                        self.page(Address { page, ..first }, Content::Zero, layout)?;
                    }
                }
                Record::Literal { page, content } => {
                    digest.page(page, content).context("a page's length")?;
                    self.page(page, Content::Whole(content), layout)?;
                }
                Record::Opaque { bytes, .. } => self.between(bytes),
                other => return Err(Error::new(format!("nobody sent {other:?}"))),
            }
        }
        if digest.finish() != *body.digest() {
            return Err(Error::new(format!("batch {number} is not what was sent")));
        }
        Ok(())
    }

    fn page(&mut self, at: Address, content: Content<'_>, layout: &Layout) -> Result<(), Error> {
        let block = self.parser.blocks().id(usize::from(at.block));
        let page = Page {
            block: block.ok_or_else(|| Error::new("a page of a block that is not listed"))?,
            offset: at.page * layout.page_size().bytes() as u64,
            named: false,
            content,
        };
        self.emitter.emit(&Item::Page(page), &mut self.stream);
        Ok(())
    }

    fn between(&mut self, bytes: &[u8]) {
        self.between.extend_from_slice(bytes);
        let mut rest = &self.between[..];
        while let Some(item) = self.parser.pull(&mut rest) {
            self.emitter.emit(&item, &mut self.stream);
        }
        self.between = rest.to_vec();
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        if let Some(item) = self.parser.finish(&self.between) {
            self.emitter.emit(&item, &mut self.stream);
        }
        Ok(self.stream)
    }
}

fn agree(parser: &Parser) -> Result<BothEnds, Error> {
    let page_size = page_size(parser)?.bytes() as u64;
    let blocks: Vec<RamBlock<'_>> = parser
        .blocks()
        .iter()
        .map(|block| RamBlock {
            name: block.name().as_bytes(),
            length: block.used(),
            page_size,
        })
        .collect();
    BothEnds::agree(SUITE, &blocks, random)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let source = "/dev/urandom";
    File::open(source)
        .and_then(|mut file| file.read_exact(bytes))
        .context(format!("cannot read {source}"))
}
