//! The guest: which of its pages hold what, and when they are sent.
//!
//! ```text
//!  page     0   1 …   30   31 │  32 …   63 │ …      one in 32 has content
//!  holds    0   0     0    c0 │   0     c1 │ …      c: made-up memory, with the page's number and the walk in it
//! ```

use sealift_lab::Error;
use sealift_stream::main_channel::{
    Command, Described, Emitter, Item, ListedBlock, Parser, Section,
};
use sealift_stream::{BlockId, Name};

use crate::guest::{self, PAGE};

/// One page of so many has content: at 256 GiB far more than what the budget remembers.
const EACH: u64 = 32;
/// One of so many pages with content is rewritten before a walk.
const REWRITTEN: [u64; 3] = [1, 4, 16];
/// Contents that differ by more than their number: 64 MiB, far more than any batch or cache holds.
const POOL: usize = 64 << 20;
/// Bytes of state that the guest's devices have: a few network cards' worth.
const DEVICES: usize = 64 << 10;
/// Of RAM's section.
pub(super) const RAM: u32 = 2;

/// A guest of some size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) gib: u64,
}

/// What pages with content are made of.
#[derive(Debug)]
pub(super) struct Pool(Vec<u8>);

/// A page as it is sent once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Held {
    Zeros,
    Content,
}

impl Shape {
    /// The walk with the guest stopped.
    pub(super) const LAST: usize = REWRITTEN.len() - 1;

    pub(super) const fn bytes(self) -> u64 {
        self.gib << 30
    }

    pub(super) const fn pages(self) -> u64 {
        self.bytes() / PAGE as u64
    }

    /// Pages with content that a walk sends, and before them in the pair those of zeros.
    pub(super) fn counts(self, walk: usize) -> (u64, u64) {
        let content = self.pages() / (EACH * rewritten(walk));
        match walk {
            0 => (self.pages() - content, content),
            _ => (0, content),
        }
    }

    /// The pages of a walk, upwards.
    pub(super) fn walk(self, walk: usize) -> impl Iterator<Item = (u64, Held)> {
        let last = EACH * rewritten(walk) - 1;
        let first = if walk == 0 { 0 } else { last };
        let step = if walk == 0 { 1 } else { last + 1 };
        let mut next = first;
        std::iter::from_fn(move || {
            let page = (next < self.pages()).then_some(next)?;
            next += step;
            let held = match Self::has_content(page) {
                true => Held::Content,
                false => Held::Zeros,
            };
            Some((page, held))
        })
    }

    /// Whether a page has content from the first walk on.
    pub(super) const fn has_content(page: u64) -> bool {
        page % EACH == EACH - 1
    }

    /// Everything before the first page; what knows the block of RAM by then, and that block as records name it.
    pub(super) fn beginning(self) -> Result<(Vec<u8>, Emitter, BlockId), Error> {
        let (mut emitter, mut bytes) = (Emitter::new(), Vec::new());
        for item in [
            Item::FileHeader,
            Item::Configuration(name(b"pc-q35-10.0")?),
            Item::Command(Command::OpenReturnPath),
            Item::Command(Command::Ping(1)),
            Item::Section(Section::Start(Described {
                id: RAM,
                name: name(b"ram")?,
                instance: 0,
                version: 4,
            })),
            Item::RamSize(self.bytes()),
            Item::Block(ListedBlock {
                name: name(b"pc.ram")?,
                used: self.bytes(),
                host_page: None,
                address: None,
            }),
            Item::RamEnd,
            Item::Footer(RAM),
        ] {
            emitter.emit(&item, &mut bytes);
        }
        let (mut parser, mut rest) = (Parser::new(), bytes.as_slice());
        while parser.pull(&mut rest).is_some() {}
        let block = parser.blocks().id(0);
        let block = block.ok_or_else(|| Error::new("the made-up stream lists no block of RAM"))?;
        Ok((bytes, emitter, block))
    }

    /// Everything behind RAM's last section.
    pub(super) fn ending() -> Result<Vec<u8>, Error> {
        /// Any number that RAM does not have.
        const DEVICE: u32 = 7;
        let description = br#"{"devices": [{"name": "made-up"}]}"#;
        let length = u32::try_from(description.len()).unwrap_or(u32::MAX);
        let (mut emitter, mut bytes) = (Emitter::new(), Vec::new());
        for item in [
            Item::Section(Section::Full(Described {
                id: DEVICE,
                name: name(b"made-up")?,
                instance: 0,
                version: 1,
            })),
            Item::Opaque(&guest::memory(DEVICES)),
            Item::Footer(DEVICE),
            Item::EndOfStream,
            Item::Description(length),
            Item::Blob(description),
        ] {
            emitter.emit(&item, &mut bytes);
        }
        Ok(bytes)
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        Self(guest::memory(POOL))
    }

    /// Makes a page's content as of a walk.
    pub(super) fn content(&self, page: u64, walk: usize, out: &mut [u8; PAGE]) {
        let contents = (self.0.len() / PAGE) as u64;
        let at = usize::try_from(page / EACH % contents).unwrap_or(0) * PAGE;
        if let Some(content) = self.0.get(at..at + PAGE) {
            out.copy_from_slice(content);
        }
        out[..8].copy_from_slice(&page.to_le_bytes());
        out[8..16].copy_from_slice(&(walk as u64).to_le_bytes());
    }

    /// The walk of which this is the page's content.
    pub(super) fn walk(&self, page: u64, content: &[u8]) -> Option<usize> {
        let walk = content.get(8..16)?.try_into().ok()?;
        let walk = usize::try_from(u64::from_le_bytes(walk)).ok()?;
        let mut expected = [0; PAGE];
        self.content(page, walk, &mut expected);
        (walk <= Shape::LAST && content == expected).then_some(walk)
    }
}

fn rewritten(walk: usize) -> u64 {
    REWRITTEN.get(walk).copied().unwrap_or(u64::MAX / EACH)
}

fn name(bytes: &'static [u8]) -> Result<Name<'static>, Error> {
    Name::new(bytes).ok_or_else(|| Error::new("a name without a letter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_has_the_pages_that_it_is_said_to_have() {
        let shape = Shape { gib: 1 };
        for walk in 0..=Shape::LAST {
            let pages: Vec<(u64, Held)> = shape.walk(walk).collect();
            let content = pages.iter().filter(|(_, held)| *held == Held::Content);
            let content = content.count() as u64;
            assert_eq!(shape.counts(walk), (pages.len() as u64 - content, content));
            assert!(pages.is_sorted_by_key(|(page, _)| *page));
            for (page, held) in pages {
                assert_eq!(Shape::has_content(page), held == Held::Content);
            }
        }
    }

    #[test]
    fn contents_are_told_apart_by_page_and_walk() {
        let pool = Pool::new();
        let mut page = [0; PAGE];
        pool.content(63, 2, &mut page);
        assert_eq!(pool.walk(63, &page), Some(2));
        assert_eq!(pool.walk(31, &page), None);
        page[4095] ^= 1;
        assert_eq!(pool.walk(63, &page), None);
    }

    #[test]
    fn the_stream_begins_and_ends_as_qemus_does() {
        let (bytes, _, _) = Shape { gib: 256 }.beginning().unwrap();
        let stream = [bytes, Shape::ending().unwrap()].concat();
        let (mut parser, mut rest) = (Parser::new(), stream.as_slice());
        let mut items = Vec::new();
        while let Some(item) = parser.pull(&mut rest) {
            items.push(item);
        }
        assert!(rest.is_empty());
        assert!(items.contains(&Item::RamSize(256 << 30)));
        assert!(
            matches!(items.last(), Some(Item::Opaque(_))),
            "device state"
        );
    }
}
