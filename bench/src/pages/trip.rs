//! One trip of all pages: out as a worker takes them, and back as the other end does.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use sealift_lab::both_ends::BothEnds;
use sealift_pages::{
    Address, Agreed, Body, Codecs, Decoder, Draft, Encoder, Entry, External, Finder, Layout,
    Mirror, Packing, PageSize, Record, Resolved, Sent, Store, Unpacking,
};
use sealift_seal::{Header, Ledger, Opener, Sealer, TAG_LENGTH};

use super::recorded::Recorded;
use super::{Trip, Way};
use crate::guest::PAGE;

/// Pages of a batch: 1 MiB.
const BATCH: usize = 256;
/// Batches that are on their way at once: more than caches hold, as on a link.
const UNDERWAY: usize = 64;
/// X25519 with ML-KEM-768; it does not matter to what is measured.
const SUITE: u16 = 0x0101;

type Failed = Box<dyn std::error::Error>;

/// Takes all pages there and back.
///
/// # Errors
/// When what arrives is not what was sent, which does not occur.
pub fn trip(recorded: &Recorded, way: &Way) -> Result<Trip, Failed> {
    let page_size = PageSize::new(PAGE)?;
    let layout = Layout::new(page_size, recorded.blocks.clone())?.with_agreed(Agreed {
        digest: way.digest,
        codecs: if way.level.is_some() {
            Codecs::ALL
        } else {
            Codecs::NONE
        },
        windows: way.windows,
        ..Agreed::default()
    });
    let BothEnds {
        mut source,
        mut receiver,
        ..
    } = BothEnds::agree(SUITE, &[], |bytes| {
        bytes.fill(3);
        Ok(())
    })?;
    let sealer = source.sealer(0)?;
    let opener = receiver.opener(0, sealer.epoch())?;
    let store = Store::new(way.store, 0x5eed, page_size);
    let mut out = Out {
        layout: &layout,
        draft: Draft::new(page_size),
        arranges: way.level.is_some(),
        spare: Vec::new(),
        finder: store.finder(),
        store,
        versions: Versions::new(&recorded.blocks),
        own: way.own,
        encoder: Encoder::new(way.level.unwrap_or(1)),
        windows: (1..=way.windows)
            .map(|window| Packing::new(window, way.level.unwrap_or(1)))
            .collect(),
        sealer,
        zstd: zstd::bulk::Compressor::new(way.level.unwrap_or(1))?,
        packed: Vec::new(),
    };
    let mut back = Back {
        layout: &layout,
        opener,
        ledger: Ledger::new(),
        decoder: Decoder::new(),
        windows: (1..=way.windows).map(Unpacking::new).collect(),
        mirror: Mirror::new(0),
        guest: Guest::new(&recorded.blocks),
    };
    let mut trip = Trip::default();
    let mut buffers = vec![Vec::new(); UNDERWAY];
    let batches: Vec<_> = recorded.sent.chunks(BATCH).collect();
    let mut number = 0;
    for underway in batches.chunks(UNDERWAY) {
        let first = number;
        for (pages, buffer) in underway.iter().zip(&mut buffers) {
            out.send(number, pages, recorded, buffer, &mut trip)?;
            number += 1;
        }
        for (number, buffer) in (first..number).zip(&mut buffers) {
            back.take(number, buffer, &mut trip)?;
        }
    }
    back.guest.compare(recorded)?;
    Ok(trip)
}

/// Times a part.
fn timed<T>(total: &mut Duration, part: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let made = part();
    *total += start.elapsed();
    made
}

struct Out<'l> {
    layout: &'l Layout,
    draft: Draft,
    arranges: bool,
    spare: Vec<u8>,
    finder: Finder,
    store: Store,
    versions: Versions,
    own: bool,
    encoder: Encoder,
    /// The one whose turn it is first.
    windows: VecDeque<Packing>,
    sealer: Sealer,
    zstd: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl Out<'_> {
    fn send(
        &mut self,
        number: u64,
        pages: &[(Address, Option<usize>)],
        recorded: &Recorded,
        buffer: &mut Vec<u8>,
        trip: &mut Trip,
    ) -> Result<(), Failed> {
        let [read, find, encode, seal] = &mut trip.out;
        let (mut places, mut contents) = (Vec::new(), Vec::new());
        timed(read, || {
            self.draft.clear();
            for &(at, content) in pages {
                match content {
                    Some(content) => {
                        places.push(at);
                        contents.push(content);
                    }
                    None => self.draft.zero(at)?,
                }
            }
            let filled = self.draft.read_scattered(&places, |into| {
                for (into, &content) in into.chunks_exact_mut(PAGE).zip(&contents) {
                    into.copy_from_slice(recorded.content(content));
                }
                Ok::<_, Infallible>(())
            });
            // Only what is compressed gains by it, as in a worker of the way out.
            if self.arranges {
                self.draft.arrange(&mut self.spare);
            }
            filled.map_err(Failed::from)
        })?;
        trip.content += self.draft.content_len() as u64;
        if !self.own {
            self.versions.hidden = places.into_iter().collect();
        }
        timed(find, || {
            let (store, versions) = (&mut self.store, &mut self.versions);
            self.finder
                .find(number, &mut self.draft, versions, || store);
        });
        self.versions.stamp(number, &self.draft);
        trip.tally += timed(encode, || {
            buffer.clear();
            buffer.resize(Header::LENGTH, 0);
            let (encoder, draft) = (&mut self.encoder, &self.draft);
            let tally = match self.windows.front_mut() {
                Some(window) => encoder.encode_within(draft, number, self.layout, window, buffer),
                None => encoder.encode(draft, number, self.layout, buffer),
            };
            self.windows.rotate_left(1.min(self.windows.len()));
            buffer.resize(buffer.len() + TAG_LENGTH, 0);
            tally
        })?;
        trip.zstd += self.alone(number, &buffer[Header::LENGTH..buffer.len() - TAG_LENGTH])?;
        timed(seal, || self.sealer.seal(number, buffer))?;
        trip.sealed += buffer.len() as u64;
        Ok(())
    }

    /// What zstd takes for what reached it.
    fn alone(&mut self, number: u64, body: &[u8]) -> Result<Duration, Failed> {
        let mut took = Duration::ZERO;
        for record in Body::parse(body, self.layout)?.records(self.layout, number) {
            // One of a window is no frame by itself.
            if let Record::Group(group) = record?
                && group.window == 0
            {
                let raw = zstd::bulk::decompress(group.bytes, group.raw_len)?;
                self.packed.clear();
                self.packed
                    .reserve(zstd::zstd_safe::compress_bound(raw.len()));
                timed(&mut took, || {
                    self.zstd.compress_to_buffer(&raw, &mut self.packed)
                })?;
            }
        }
        Ok(took)
    }
}

struct Back<'l> {
    layout: &'l Layout,
    opener: Opener,
    ledger: Ledger,
    decoder: Decoder,
    windows: Vec<Unpacking>,
    mirror: Mirror,
    guest: Guest,
}

impl Back<'_> {
    fn take(&mut self, number: u64, buffer: &mut [u8], trip: &mut Trip) -> Result<(), Failed> {
        let [open, decode, resolve, verify, place] = &mut trip.back;
        let (header, body) = buffer.split_first_chunk_mut().ok_or("no header")?;
        let body = timed(open, || {
            let checked = self.opener.check(header)?;
            self.opener.open(checked, body)?.accept(&mut self.ledger)
        })?;
        let decoded = timed(decode, || {
            let (decoder, layout) = (&mut self.decoder, self.layout);
            let place = Body::parse(body, layout)?.window(layout, number);
            let window = self
                .windows
                .iter_mut()
                .find(|window| Some(window.next()) == place);
            match window {
                Some(window) => decoder.decode_within(body, number, layout, window),
                None => decoder.decode(body, number, layout),
            }
        })?;
        let resolved = timed(resolve, || self.mirror.resolve(decoded, &mut self.guest))
            .map_err(|_| "a reference to what is not there")?;
        timed(verify, || resolved.verify())?;
        timed(place, || self.guest.place(&resolved));
        // What frees a batch is a part of it.
        timed(place, || drop(resolved));
        Ok(())
    }
}

/// The version map of a source.
struct Versions {
    blocks: Vec<Vec<Option<u64>>>,
    /// Pages of the batch at hand whose contents before are not to be named.
    hidden: HashSet<Address>,
}

impl Versions {
    fn new(blocks: &[u64]) -> Self {
        let pages = blocks.iter().map(|&pages| {
            let pages = usize::try_from(pages).unwrap_or(0);
            vec![None; pages]
        });
        Self {
            blocks: pages.collect(),
            hidden: HashSet::new(),
        }
    }

    fn place(&mut self, page: Address) -> Option<&mut Option<u64>> {
        let block = self.blocks.get_mut(usize::from(page.block))?;
        block.get_mut(usize::try_from(page.page).ok()?)
    }

    fn stamp(&mut self, number: u64, draft: &Draft) {
        for (first, run) in draft.addresses() {
            for page in first.page..first.page + run {
                if let Some(version) = self.place(Address { page, ..first }) {
                    *version = Some(number);
                }
            }
        }
    }
}

impl Sent for Versions {
    fn newest(&mut self, page: Address) -> Option<u64> {
        if self.hidden.contains(&page) {
            return None;
        }
        *self.place(page)?
    }

    fn reaches(&mut self, _: Address, _: u64) -> bool {
        true
    }
}

/// The guest's memory at the other end, where pages are placed.
struct Guest {
    blocks: Vec<Vec<u8>>,
    versions: Versions,
}

impl Guest {
    fn new(blocks: &[u64]) -> Self {
        let memory = blocks.iter().map(|&pages| {
            let pages = usize::try_from(pages).unwrap_or(0);
            let mut memory = vec![0; pages * PAGE];
            // Touched: what the kernel takes to clear it is not the pipeline's.
            std::hint::black_box(&mut memory).fill(0);
            memory
        });
        Self {
            blocks: memory.collect(),
            versions: Versions::new(blocks),
        }
    }

    fn page(&mut self, at: Address) -> Option<&mut [u8]> {
        let start = usize::try_from(at.page).ok()? * PAGE;
        let block = self.blocks.get_mut(usize::from(at.block))?;
        block.get_mut(start..start + PAGE)
    }

    fn place(&mut self, batch: &Resolved) {
        for entry in batch.entries() {
            match entry {
                Entry::Page { at, content, .. } => {
                    if let Some(page) = self.page(at) {
                        page.copy_from_slice(content);
                    }
                    if let Some(version) = self.versions.place(at) {
                        *version = Some(batch.number());
                    }
                }
                Entry::Zero { first, run, .. } => {
                    for page in first.page..first.page + run {
                        let at = Address { page, ..first };
                        // Nothing was ever written to most of them.
                        if let Some(version) = self.versions.place(at)
                            && version.replace(batch.number()).is_some()
                            && let Some(page) = self.page(at)
                        {
                            page.fill(0);
                        }
                    }
                }
                Entry::Opaque { .. } | Entry::Barrier => {}
            }
        }
    }

    /// Each page has what was sent of it last.
    fn compare(&mut self, recorded: &Recorded) -> Result<(), Failed> {
        let mut seen = HashSet::new();
        for &(at, content) in recorded.sent.iter().rev() {
            if seen.insert(at) {
                let zeros = [0; PAGE];
                let expected = content.map_or(&zeros[..], |content| recorded.content(content));
                if self.page(at).as_deref() != Some(expected) {
                    return Err(format!("{at:?} did not arrive as it was sent").into());
                }
            }
        }
        Ok(())
    }
}

impl External for Guest {
    type Lost = Infallible;

    fn content(&mut self, page: Address, batch: u64, into: &mut [u8]) -> Result<bool, Infallible> {
        let newest = self.versions.place(page).copied().flatten();
        let Some(content) = self.page(page).filter(|_| newest == Some(batch)) else {
            return Ok(false);
        };
        into.copy_from_slice(content);
        Ok(true)
    }
}
