//! What a guest's memory comes to: layouts, pages, drafts of every kind, and what they say.

use std::sync::Arc;

use sealift_pages::{
    Address, Agreed, Algorithm, Codecs, Draft, Entry, Layout, PAGE_SIZE_MIN, PageSize,
};
use sealift_precopy::VersionMap;

/// Pages of the guest's two blocks: a small one, so that addresses meet, and one as large as a guest's.
pub(crate) const BLOCKS: [u64; 2] = [128, 1 << 20];

/// How many batches back both ends look for the same content.
pub(crate) const OLDEST: u64 = 8;

pub(crate) fn page_size() -> PageSize {
    PageSize::new(PAGE_SIZE_MIN).unwrap()
}

pub(crate) fn layout() -> Arc<Layout> {
    let layout = Layout::new(page_size(), BLOCKS.to_vec()).unwrap();
    Arc::new(layout.with_agreed(Agreed {
        digest: Algorithm::Blake3,
        codecs: Codecs::ALL,
        windows: 2,
        oldest: OLDEST,
    }))
}

pub(crate) fn versions() -> VersionMap {
    VersionMap::new(&BLOCKS)
}

/// Numbers that look like chance and are the same each time.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(2).wrapping_add(1));
        // A few steps, so that near seeds are far from each other.
        for _ in 0..8 {
            chance.next();
        }
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A page that does not compress.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    Chance::new(seed).bytes(PAGE_SIZE_MIN)
}

/// A page that compresses well.
pub(crate) fn text(seed: u64) -> Vec<u8> {
    let line = format!("line {seed} of a page that somebody wrote\n");
    line.bytes().cycle().take(PAGE_SIZE_MIN).collect()
}

/// A batch that is full of pages that do not compress: 1 MiB, wherever it is.
pub(crate) fn full(seed: u64) -> Draft {
    let mut draft = Draft::new(page_size());
    let mut page = 0;
    while draft
        .page(Address { block: 1, page }, &noise(seed + page))
        .is_ok()
    {
        page += 1;
    }
    draft
}

/// A small batch: one page.
pub(crate) fn small(seed: u64) -> Draft {
    let mut draft = Draft::new(page_size());
    let at = Address {
        block: 1,
        page: seed % BLOCKS[1],
    };
    draft.page(at, &noise(seed)).unwrap();
    draft
}

/// A batch with as many records as one may have, in few bytes: pages of zeros, each for itself.
pub(crate) fn scattered_zeros() -> Draft {
    let mut draft = Draft::new(page_size());
    let mut page = 0;
    while draft.zero(Address { block: 1, page }).is_ok() {
        page += 2;
    }
    draft
}

/// A batch of anything that there is: zeros, noise, text, the same again, bytes of several channels, barriers.
pub(crate) fn anything(chance: &mut Chance) -> Draft {
    let mut draft = Draft::new(page_size());
    for _ in 0..chance.below(200) {
        let block = chance.below(2);
        let at = Address {
            block: u16::try_from(block).unwrap(),
            page: chance.below(BLOCKS[usize::try_from(block).unwrap()] - 64),
        };
        let put = match chance.below(16) {
            0..4 => draft.page(at, &noise(chance.next())),
            // Few of them, so that most were sent before.
            4..8 => draft.page(at, &noise(chance.below(20))),
            8..11 => draft.page(at, &text(chance.below(1000))),
            11..14 => (0..chance.below(64) + 1).try_for_each(|further| {
                let page = at.page + further;
                draft.zero(Address { page, ..at })
            }),
            14 => draft.barrier(),
            _ => {
                let channel = u16::try_from(chance.below(4)).unwrap();
                let length = usize::try_from(chance.below(2000)).unwrap();
                draft.opaque(channel, &chance.bytes(length)).map(drop)
            }
        };
        if put.is_err() {
            break;
        }
    }
    draft
}

/// An entry that owns its bytes.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Zero(u16, Address),
    Page(u16, Address, Vec<u8>),
    Opaque(u16, Vec<u8>),
    Barrier,
}

/// What entries come to, however runs and opaque bytes are cut.
pub(crate) fn said<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::new();
    for entry in entries {
        match entry {
            Entry::Zero {
                channel,
                first,
                run,
            } => all.extend((0..run).map(|further| {
                let page = first.page + further;
                Said::Zero(channel, Address { page, ..first })
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

/// The same with the pages between two other things in the order of their addresses: between them they may be in any, unless one comes twice.
pub(crate) fn in_order(mut all: Vec<Said>) -> Vec<Said> {
    let is_page = |said: &Said| matches!(said, Said::Zero(..) | Said::Page(..));
    for stretch in all.chunk_by_mut(|one, next| is_page(one) && is_page(next)) {
        // Stable: which of two contents of a page comes last counts.
        stretch.sort_by_key(|said| match said {
            Said::Zero(_, at) | Said::Page(_, at, _) => Some(*at),
            Said::Opaque(..) | Said::Barrier => None,
        });
    }
    all
}
