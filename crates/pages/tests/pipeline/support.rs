//! Pages, layouts, and both ends of the pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use sealift_pages::{
    Address, Agreed, Algorithm, Codecs, DecodeError, Decoder, Draft, Encoder, Entry, External,
    Finder, Layout, Mirror, PAGE_SIZE_MIN, PageSize, Resolved, Sent, Store, Tally, Unresolvable,
    Unresolved,
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

/// The same page with `words` of it changed.
pub(crate) fn touched(page: &[u8], seed: u64, words: usize) -> Vec<u8> {
    let mut page = page.to_vec();
    let chance = noise(seed);
    let (chance, _) = chance.as_chunks::<8>();
    let (slots, _) = page.as_chunks_mut::<8>();
    for (number, value) in chance.iter().take(words).enumerate() {
        slots[(number * 97 + usize::from(value[0])) % (PAGE_SIZE_MIN / 8)] = *value;
    }
    page
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

/// All batches that put each page, of those that have their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    put: HashMap<Address, Vec<u64>>,
    /// Blocks whose newest contents the receiver has, however old.
    pub(crate) placed: Vec<u16>,
}

impl History {
    /// Batch `number` has taken these pages.
    pub(crate) fn stamp(&mut self, number: u64, draft: &Draft) {
        for (first, run) in draft.addresses() {
            for page in first.page..first.page + run {
                let at = Address { page, ..first };
                self.put.entry(at).or_default().push(number);
            }
        }
    }

    fn before(&self, number: u64) -> Before<'_> {
        Before {
            number,
            history: self,
        }
    }
}

/// What a batch may name.
struct Before<'h> {
    number: u64,
    history: &'h History,
}

impl Sent for Before<'_> {
    fn newest(&mut self, page: Address) -> Option<u64> {
        let put = self.history.put.get(&page)?;
        put.iter().copied().filter(|&put| put < self.number).max()
    }

    fn reaches(&mut self, page: Address, batch: u64) -> bool {
        self.history.placed.contains(&page.block) || self.number - batch <= OLDEST
    }
}

/// A source.
pub(crate) struct Source {
    pub(crate) layout: Layout,
    pub(crate) store: Store,
    pub(crate) history: History,
    finder: Finder,
    pub(crate) encoder: Encoder,
}

impl Source {
    pub(crate) fn new(layout: Layout) -> Self {
        Self::with_budget(layout, 16 << 20)
    }

    pub(crate) fn with_budget(layout: Layout, budget: u64) -> Self {
        let store = Store::new(budget, 0x5eed, layout.page_size());
        Self {
            layout,
            finder: store.finder(),
            store,
            history: History::default(),
            encoder: Encoder::new(1),
        }
    }

    /// Gives the batch its number, and sends it.
    pub(crate) fn send(&mut self, number: u64, draft: Draft) -> (Draft, Vec<u8>, Tally) {
        self.history.stamp(number, &draft);
        self.send_numbered(number, draft)
    }

    /// Sends a batch that was given its number before, perhaps with others between.
    pub(crate) fn send_numbered(
        &mut self,
        number: u64,
        mut draft: Draft,
    ) -> (Draft, Vec<u8>, Tally) {
        let mut before = self.history.before(number);
        let store = &mut self.store;
        self.finder.find(number, &mut draft, &mut before, || store);
        let mut body = vec![];
        let tally = self
            .encoder
            .encode(&draft, number, &self.layout, &mut body)
            .unwrap();
        assert_eq!(tally.body_bytes, body.len() as u64);
        (draft, body, tally)
    }
}

/// A guest's memory at the receiver: for each page of some blocks the newest content, and the batch that it is of.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    pub(crate) placed: Vec<u16>,
    pages: HashMap<Address, (u64, Vec<u8>)>,
    /// It can no longer be read.
    pub(crate) lost: bool,
}

impl External for Guest {
    type Lost = &'static str;

    fn content(
        &mut self,
        page: Address,
        batch: u64,
        into: &mut [u8],
    ) -> Result<bool, &'static str> {
        if self.lost {
            return Err("the guest is gone");
        }
        let newest = self
            .pages
            .get(&page)
            .filter(|&&(newest, _)| newest == batch);
        if let Some((_, content)) = newest {
            into.copy_from_slice(content);
        }
        Ok(newest.is_some())
    }
}

impl Guest {
    fn place(&mut self, batch: &Resolved) {
        if self.placed.is_empty() {
            return;
        }
        for said in said(batch.entries()) {
            if let Said::Page(_, at, content) = said
                && self.placed.contains(&at.block)
            {
                self.pages.insert(at, (batch.number(), content));
            }
        }
    }
}

/// A receiver.
pub(crate) struct Receiver {
    pub(crate) layout: Layout,
    pub(crate) decoder: Decoder,
    pub(crate) mirror: Mirror,
    pub(crate) guest: Guest,
}

impl Receiver {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            decoder: Decoder::new(),
            mirror: Mirror::new(OLDEST),
            guest: Guest::default(),
        }
    }

    pub(crate) fn take(&mut self, number: u64, body: &[u8]) -> Result<Arc<Resolved>, DecodeError> {
        let decoded = self.decoder.decode(body, number, &self.layout)?;
        assert_eq!(decoded.number(), number);
        let alone = !decoded.needs_others();
        let resolved = match self.mirror.resolve(decoded, &mut self.guest) {
            Ok(resolved) => resolved,
            Err(Unresolved::Unresolvable(unresolvable)) => return Err(unresolvable.into()),
            Err(Unresolved::Lost(lost)) => panic!("{lost}"),
        };
        assert_eq!(
            resolved.is_verified(),
            alone,
            "verified where it can be, once"
        );
        resolved.verify()?;
        self.guest.place(&resolved);
        Ok(resolved)
    }
}

pub(crate) fn unresolvable(result: Result<Arc<Resolved>, DecodeError>) -> Unresolvable {
    match result {
        Err(DecodeError::Unresolvable(unresolvable)) => unresolvable,
        other => panic!("{other:?}"),
    }
}
