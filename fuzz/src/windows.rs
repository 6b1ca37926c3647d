//! What the `windows` target and its seeds share: several batches in one input, and an inflater of its own.
//!
//! ```text
//!   input    length (2 bytes) · body of batch 1 · length · body of batch 2 · …
//! ```

use sealift_pages::{
    Address, Agreed, Algorithm, BODY_MAX, Body, BodyWriter, Draft, Encoder, Group, Layout,
    PAGE_SIZE_MIN, Packing, PageDigest, Place, Record,
};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::decoding::{self, BATCH};

/// Windows that are agreed on.
pub const WINDOWS: u64 = 2;
/// Batches that an input is at most: enough for a window to begin, go on and begin anew.
pub const BATCHES: usize = 6;
/// What a window looks back, as a power of two (WIRE.md §3).
const WINDOW_LOG: u32 = 25;
/// What a frame of zstd's begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The layout of [`decoding`], with windows.
#[must_use]
pub fn layout() -> Layout {
    let layout = decoding::layout();
    let agreed = Agreed {
        windows: WINDOWS,
        ..*layout.agreed()
    };
    layout.with_agreed(agreed)
}

/// The bodies of an input, with their numbers.
pub fn bodies(mut input: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let bodies = std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (body, rest) = rest.split_at(length);
        input = rest;
        Some(body)
    });
    (BATCH..).zip(bodies.take(BATCHES))
}

/// Inflates groups, those that go on windows and others, as WIRE.md §3 says it.
pub struct Inflater {
    windows: Vec<(u64, DCtx<'static>)>,
}

impl Default for Inflater {
    fn default() -> Self {
        let windows = (0..WINDOWS).map(|_| {
            let mut zstd = DCtx::create();
            let limited = zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
            limited.expect("within zstd's bounds");
            (1, zstd)
        });
        Self {
            windows: windows.collect(),
        }
    }
}

impl Inflater {
    /// What a group inflates to, if it is its turn and zstd takes it.
    fn inflate(&mut self, place: Place, bytes: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let mut raw = vec![0; raw_len];
        if place.window == 0 {
            let len = zstd_safe::decompress(&mut raw[..], bytes).ok()?;
            return (len == raw_len).then_some(raw);
        }
        let window = usize::try_from(place.window - 1).ok()?;
        let (next, zstd) = self.windows.get_mut(window)?;
        if place.slot != *next {
            return None;
        }
        *next += 1;
        if bytes.starts_with(&MAGIC) {
            zstd.reset(ResetDirective::SessionOnly).ok()?;
        }
        let mut from = InBuffer::around(bytes);
        let mut to = OutBuffer::around(&mut raw[..]);
        loop {
            let before = (from.pos(), to.pos());
            zstd.decompress_stream(&mut to, &mut from).ok()?;
            if (from.pos(), to.pos()) == before {
                break;
            }
        }
        (from.pos() == bytes.len() && to.pos() == raw_len).then_some(raw)
    }

    /// The same body with the digest of what its records put, its groups' included; and, where it is one group and nothing else, the body of the
    /// same records without a group.
    pub fn complete(
        &mut self,
        body: &[u8],
        number: u64,
        layout: &Layout,
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut complete = body.to_vec();
        let Ok(parsed) = Body::parse(body, layout) else {
            return (complete, None);
        };
        let mut digest = PageDigest::new(Algorithm::Sha256, layout.page_size());
        let mut records = parsed.records(layout, number);
        let (mut plain, mut others) = (None, 0);
        while let Some(record) = records.next() {
            let Ok(record) = record else {
                others += 1;
                break;
            };
            let Record::Group(group) = record else {
                decoding::put(&mut digest, &record);
                others += 1;
                continue;
            };
            let place = Place {
                window: group.window,
                slot: group.slot,
            };
            let Some(raw) = self.inflate(place, group.bytes, group.raw_len) else {
                others += 1;
                continue;
            };
            if let Ok(within) = records.group(&group, &raw) {
                for record in within.map_while(Result::ok) {
                    decoding::put(&mut digest, &record);
                }
            }
            others += usize::from(plain.replace(raw).is_some());
        }
        let value = digest.finish().value;
        let head = 1 + value.len();
        complete[1..head].copy_from_slice(&value);
        let plain = plain.filter(|_| others == 0);
        let plain = plain.map(|raw| [&complete[..head], &raw].concat());
        // What a group inflates to may be longer than a body may be.
        let plain = plain.filter(|plain| plain.len() <= BODY_MAX);
        (complete, plain)
    }
}

/// Inputs to start from: a window that goes on, two in turn, one that begins anew, and batches without one between.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let layout = layout();
    let input = |turns: &[usize]| {
        let mut windows = [1, 2].map(|window| Packing::new(window, 3));
        let mut encoder = Encoder::new(1);
        let mut input = Vec::new();
        for (number, turn) in (BATCH..).zip(turns) {
            let mut draft = Draft::new(layout.page_size());
            draft.opaque(0, b"a section's head").expect("room");
            for page in 0..2 {
                let at = Address {
                    block: 1,
                    page: 7 * number + page,
                };
                draft.page(at, &text(page)).expect("room");
            }
            draft.zero(Address { block: 0, page: 3 }).expect("room");
            let mut body = Vec::new();
            let encoded = match windows.get_mut(*turn) {
                Some(window) => encoder.encode_within(&draft, number, &layout, window, &mut body),
                None => encoder.encode(&draft, number, &layout, &mut body),
            };
            encoded.expect("a small batch");
            append(&mut input, &body);
        }
        input
    };
    // Behind two groups of the first window comes one that begins a frame.
    let (mut anew, first) = (input(&[0, 0]), input(&[0]));
    let (number, first) = bodies(&first).next().expect("a body");
    append(&mut anew, &with_slot(first, number, 3, &layout));
    let seeds = vec![
        ("one", input(&[0, 0, 0])),
        ("two", input(&[0, 1, 1, 0])),
        ("between", input(&[0, 9, 0])),
        ("anew", anew),
    ];
    for (name, seed) in &seeds {
        let mut inflater = Inflater::default();
        for (number, body) in bodies(seed) {
            let (complete, _) = inflater.complete(body, number, &layout);
            assert!(complete == body, "a body of the seed {name} inflates");
        }
    }
    seeds
}

fn append(input: &mut Vec<u8>, body: &[u8]) {
    let length = u16::try_from(body.len()).expect("a short body");
    input.extend_from_slice(&length.to_le_bytes());
    input.extend_from_slice(body);
}

/// The same body with another slot in its group.
fn with_slot(body: &[u8], number: u64, slot: u64, layout: &Layout) -> Vec<u8> {
    let parsed = Body::parse(body, layout).expect("a body");
    let mut changed = Vec::new();
    let mut writer = BodyWriter::new(&mut changed, layout, number);
    for record in parsed.records(layout, number) {
        let record = match record.expect("a record") {
            Record::Group(group) => Record::Group(Group { slot, ..group }),
            other => other,
        };
        writer.append(&record).expect("a small batch");
    }
    writer.finish(parsed.digest()).expect("the agreed digest");
    changed
}

fn text(seed: u64) -> Vec<u8> {
    let line = format!("line {seed} of a page that somebody wrote\n");
    line.bytes().cycle().take(PAGE_SIZE_MIN).collect()
}
