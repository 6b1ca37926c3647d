//! Pages, layouts, and both ends of the pipeline.

use std::sync::Arc;

use sealift_pages::{
    Address, Agreed, Algorithm, Codecs, DecodeError, Decoder, Draft, Duplicates, Encoder, Entry,
    Layout, Mirror, PAGE_SIZE_MIN, PageSize, Resolved, Tally, Unresolvable,
};

/// How many batches back the tests' ends look.
pub(crate) const OLDEST: u64 = 3;

pub(crate) fn size() -> PageSize {
    PageSize::new(PAGE_SIZE_MIN).unwrap()
}

/// Two blocks: a small one, so that addresses meet, and one that is as large as a guest.
pub(crate) fn layout() -> Layout {
    Layout::new(size(), vec![64, 1 << 20])
        .unwrap()
        .with_agreed(Agreed {
            digest: Algorithm::Blake3,
            codecs: Codecs::ALL,
            oldest: OLDEST,
            ..Agreed::default()
        })
}

pub(crate) fn at(page: u64) -> Address {
    Address { block: 1, page }
}

/// A page that does not compress.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    // A few steps, so that near seeds are far from each other.
    words.skip(8).take(PAGE_SIZE_MIN / 8).flatten().collect()
}

/// A page that compresses well.
pub(crate) fn text(seed: u64) -> Vec<u8> {
    let line = format!("line {seed} of a page that somebody wrote\n");
    line.bytes().cycle().take(PAGE_SIZE_MIN).collect()
}

/// An entry that owns its bytes, one for each page of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Page(u16, Address, Vec<u8>),
    Opaque(u16, Vec<u8>),
    Barrier,
}

/// What entries come to, however pages are recorded and opaque bytes are cut.
pub(crate) fn said<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<Said> {
    let mut all: Vec<Said> = vec![];
    for entry in entries {
        match entry {
            Entry::Zero {
                channel,
                first,
                run,
            } => all.extend((0..run).map(|more| {
                let page = first.page + more;
                Said::Page(channel, Address { page, ..first }, vec![0; PAGE_SIZE_MIN])
            })),
            Entry::Page {
                channel,
                at,
                content,
            } => all.push(Said::Page(channel, at, content.to_vec())),
            Entry::Opaque { channel, bytes } => match all.last_mut() {
                Some(Said::Opaque(last, before)) if *last == channel => {
                    before.extend_from_slice(bytes);
                }
                _ => all.push(Said::Opaque(channel, bytes.to_vec())),
            },
            Entry::Barrier => all.push(Said::Barrier),
        }
    }
    all
}

/// A source.
pub(crate) struct Source {
    pub(crate) layout: Layout,
    pub(crate) duplicates: Duplicates,
    pub(crate) encoder: Encoder,
}

impl Source {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            duplicates: Duplicates::new(OLDEST, 0x5eed),
            encoder: Encoder::new(1),
        }
    }

    pub(crate) fn send(&mut self, number: u64, draft: Draft) -> (Arc<Draft>, Vec<u8>, Tally) {
        let draft = self.duplicates.resolve(number, draft);
        let mut body = vec![];
        let tally = self
            .encoder
            .encode(&draft, number, &self.layout, &mut body)
            .unwrap();
        assert_eq!(tally.body_bytes, body.len() as u64);
        (draft, body, tally)
    }
}

/// A receiver.
pub(crate) struct Receiver {
    pub(crate) layout: Layout,
    pub(crate) decoder: Decoder,
    pub(crate) mirror: Mirror,
}

impl Receiver {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            decoder: Decoder::new(),
            mirror: Mirror::new(OLDEST),
        }
    }

    pub(crate) fn take(&mut self, number: u64, body: &[u8]) -> Result<Arc<Resolved>, DecodeError> {
        let decoded = self.decoder.decode(body, number, &self.layout)?;
        assert_eq!(decoded.number(), number);
        let alone = !decoded.needs_others();
        let resolved = self.mirror.resolve(decoded)?;
        assert_eq!(
            resolved.is_verified(),
            alone,
            "verified where it can be, once"
        );
        resolved.verify()?;
        Ok(resolved)
    }
}

pub(crate) fn unresolvable(result: Result<Arc<Resolved>, DecodeError>) -> Unresolvable {
    match result {
        Err(DecodeError::Unresolvable(unresolvable)) => unresolvable,
        other => panic!("{other:?}"),
    }
}
