//! What the `decode` target and its seeds share: a layout, the batch before, and digests that fit.

use std::convert::Infallible;

use sealift_pages::{
    Address, Agreed, Algorithm, Body, BodyWriter, Codecs, Decoder, Draft, Encoder, Entry, External,
    Full, Layout, PAGE_SIZE_MIN, PageDigest, PageSize, Patch, Record, Resolved,
};

/// The number of the batch that an input is.
pub const BATCH: u64 = 1;
/// How many batches back it may look: to the one before.
pub const OLDEST: u64 = 1;

/// Two blocks of small pages. There are no windows: the `windows` target is for these.
#[must_use]
pub fn layout() -> Layout {
    let page_size = PageSize::new(PAGE_SIZE_MIN).expect("the least page size");
    let agreed = Agreed {
        digest: Algorithm::Sha256,
        codecs: Codecs::ALL,
        oldest: OLDEST,
        ..Agreed::default()
    };
    let layout = Layout::new(page_size, vec![8, 1 << 20]).expect("two blocks");
    layout.with_agreed(agreed)
}

/// Drafts what arrived. None where it is fuller than any that is drafted: a draft keeps room for records that do not compress.
#[must_use]
pub fn drafted(resolved: &Resolved, layout: &Layout) -> Option<Draft> {
    let mut draft = Draft::new(layout.page_size());
    for entry in resolved.entries() {
        let drafted = match entry {
            Entry::Zero { first, run, .. } => (0..run).try_for_each(|more| {
                let page = first.page + more;
                draft.zero(Address { page, ..first })
            }),
            Entry::Page { at, content, .. } => draft.page(at, content),
            Entry::Opaque { channel, bytes } => match draft.opaque(channel, bytes) {
                Ok(taken) if taken < bytes.len() => Err(Full),
                other => other.map(drop),
            },
            Entry::Barrier => draft.barrier(),
        };
        drafted.ok()?;
    }
    Some(draft)
}

/// The batch before: eight pages, each full of its number.
#[must_use]
pub fn before(layout: &Layout) -> Vec<u8> {
    let mut draft = Draft::new(layout.page_size());
    for page in 0..8 {
        let at = Address { block: 0, page };
        draft.page(at, &fill(page)).expect("eight pages");
    }
    let mut body = Vec::new();
    Encoder::new(1)
        .encode(&draft, BATCH - 1, layout, &mut body)
        .expect("eight pages");
    body
}

/// The batch before, placed in a guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Placed;

impl External for Placed {
    type Lost = Infallible;

    fn content(&mut self, page: Address, batch: u64, into: &mut [u8]) -> Result<bool, Infallible> {
        let there = batch == BATCH - 1 && page.block == 0 && page.page < 8;
        if there {
            into.copy_from_slice(&fill(page.page));
        }
        Ok(there)
    }
}

/// A page of the batch before.
fn fill(page: u64) -> [u8; PAGE_SIZE_MIN] {
    [u8::try_from(page + 1).unwrap_or(0); PAGE_SIZE_MIN]
}

/// The same records with the digest of the literals and zeros among them, as far as they are no group.
#[must_use]
pub fn with_digest(body: &[u8], layout: &Layout) -> Vec<u8> {
    let mut body = body.to_vec();
    let Ok(parsed) = Body::parse(&body, layout) else {
        return body;
    };
    let mut digest = PageDigest::new(Algorithm::Sha256, layout.page_size());
    for record in parsed.records(layout, BATCH).map_while(Result::ok) {
        put(&mut digest, &record);
    }
    let value = digest.finish().value;
    body[1..1 + value.len()].copy_from_slice(&value);
    body
}

/// What a record puts, as far as it can be told without other batches than the one before.
pub(crate) fn put(digest: &mut PageDigest, record: &Record<'_>) {
    match *record {
        Record::Zero { first, run } => digest.zero(first, run),
        Record::Literal { page, content } => digest.page(page, content).expect("a page"),
        // What the batch before holds, each page full of its number.
        Record::SameAs { page, origin } if origin.age == 1 => {
            digest.page(page, &fill(origin.page.page)).expect("a page");
        }
        Record::Delta {
            page,
            origin,
            patch,
        } if origin.age == 1 => {
            let mut content = [0; PAGE_SIZE_MIN];
            let applied = patch.apply(&fill(origin.page.page), &mut content);
            applied.expect("both are a page");
            digest.page(page, &content).expect("a page");
        }
        _ => {}
    }
}

/// What entries put, page by page, opaque bytes of a channel joined.
#[must_use]
pub fn flat<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<(u16, Option<Address>, Vec<u8>)> {
    let mut all: Vec<(u16, Option<Address>, Vec<u8>)> = Vec::new();
    for entry in entries {
        match entry {
            // Runs can be long: one entry for each page, without its zeros.
            Entry::Zero {
                channel,
                first,
                run,
            } => all.extend((0..run).map(|more| {
                let page = first.page + more;
                (channel, Some(Address { page, ..first }), Vec::new())
            })),
            Entry::Page {
                channel,
                at,
                content,
            } => {
                let zero = content.iter().all(|&byte| byte == 0);
                let content = if zero { Vec::new() } else { content.to_vec() };
                all.push((channel, Some(at), content));
            }
            Entry::Opaque { channel, bytes } => match all.last_mut() {
                Some((last, None, before)) if *last == channel && !before.is_empty() => {
                    before.extend_from_slice(bytes);
                }
                _ => all.push((channel, None, bytes.to_vec())),
            },
            Entry::Barrier => all.push((0, None, Vec::new())),
        }
    }
    all
}

/// Bodies to start from: each kind of record, plain and in a group, and references to the batch before.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let layout = layout();
    let encode = |fill: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new(layout.page_size());
        fill(&mut draft);
        let mut body = Vec::new();
        Encoder::new(1)
            .encode(&draft, BATCH, &layout, &mut body)
            .expect("a small batch");
        body
    };
    let at = |page| Address { block: 1, page };
    let zeros = encode(&|draft| {
        for page in 0..40 {
            draft.zero(at(page * page)).expect("a small batch");
        }
    });
    let grouped = encode(&|draft| {
        draft.opaque(1, b"a packet's head").expect("a small batch");
        for page in 0..4 {
            draft.page(at(page), &[9; PAGE_SIZE_MIN]).expect("room");
        }
        draft.barrier().expect("room");
        draft.opaque(0, b"what follows").expect("room");
        draft.zero(at(9)).expect("room");
    });
    let mut named = Vec::new();
    let mut writer = BodyWriter::new(&mut named, &layout, BATCH);
    for page in 0..4 {
        let origin = sealift_pages::Origin {
            page: Address { block: 0, page },
            age: 1,
        };
        let same = Record::SameAs {
            page: at(page),
            origin,
        };
        writer.append(&same).expect("a small batch");
        let (base, mut changed) = (fill(page), fill(page));
        changed[100..108].fill(0xee);
        changed[3000 + usize::try_from(page).expect("a small number")] = 0;
        let mut patch = Vec::new();
        Patch::diff(&base, &changed, layout.page_size(), 100, &mut patch).expect("two pages");
        let delta = Record::Delta {
            page: at(100 + page),
            origin,
            patch: Patch::parse(&patch, layout.page_size()).expect("a patch that was just made"),
        };
        writer.append(&delta).expect("a small batch");
    }
    let nothing = PageDigest::new(Algorithm::Sha256, layout.page_size()).finish();
    writer.finish(&nothing).expect("the agreed digest");
    let named = with_digest(&named, &layout);
    for body in [&zeros, &grouped] {
        let decoded = Decoder::new().decode(body, BATCH, &layout);
        decoded.expect("a seed gets through");
    }
    vec![("zeros", zeros), ("grouped", grouped), ("named", named)]
}
