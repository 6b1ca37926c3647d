//! For every page, the batch with its newest content.
//!
//! ```text
//!   block 0   | 0 | 7 | 7 | 0 | … 65,536 pages … | 3 | … |     0: never sent; otherwise the batch's number and one
//!             └──────────── chunk 0 ─────────────┘ └ chunk 1
//!
//!   digest = H( be16 block ‖ be64 chunk ‖ H(be32 page ‖ be32 page ‖ …), for every chunk of which something was sent, in order )
//! ```
//!
//! Both ends keep one. An older content never replaces a newer one, and equal digests before the hand-off say that no page is missing or
//! stale. A chunk that was not touched since it was last hashed is not hashed again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use sealift_pages::{Address, Algorithm, DIGEST_LEN, Hasher};

/// Pages of a chunk: 256 MiB of the smallest. Hashing one takes 0.1 ms, so that what was touched in the last round costs little.
pub const CHUNK_PAGES: u64 = 1 << 16;
const CHUNK: usize = 1 << 16;
const _: () = assert!(CHUNK as u64 == CHUNK_PAGES);

/// Versions that are turned into bytes at a time: 4 KiB of them.
const STRIDE: usize = 1 << 10;

/// The batch with the newest content of every page.
#[derive(Clone)]
pub struct VersionMap {
    blocks: Vec<Block>,
}

#[derive(Clone)]
struct Block {
    pages: u64,
    /// Taken when something in them is stamped.
    chunks: Vec<Option<Chunk>>,
}

#[derive(Clone)]
struct Chunk {
    /// The last chunk of a block may be shorter.
    versions: Box<[u32]>,
    digest: Option<(Algorithm, [u8; DIGEST_LEN])>,
}

impl VersionMap {
    /// A map of which nothing was sent, of RAM blocks with so many pages each, which were admitted. It comes to take 4 bytes per page.
    #[must_use]
    pub fn new(pages: &[u64]) -> Self {
        let blocks = pages.iter().map(|&pages| {
            let chunks = usize::try_from(pages.div_ceil(CHUNK_PAGES)).unwrap_or(usize::MAX);
            Block {
                pages,
                chunks: vec![None; chunks],
            }
        });
        Self {
            blocks: blocks.collect(),
        }
    }

    /// `batch` has a content of the page and of `run - 1` behind it. A page that has a newer one keeps that.
    ///
    /// # Errors
    /// When the map does not have all of the pages, or the session has gone on for too many batches; nothing is stamped then.
    pub fn stamp(&mut self, first: Address, run: u64, batch: u64) -> Result<(), StampError> {
        let version = batch
            .checked_add(1)
            .and_then(|version| u32::try_from(version).ok())
            .ok_or(StampError::BatchTooHigh { batch })?;
        let no_such_page = StampError::NoSuchPage { first, run };
        let end = first.page.checked_add(run).ok_or(no_such_page)?;
        let block = self
            .blocks
            .get_mut(usize::from(first.block))
            .filter(|block| end <= block.pages)
            .ok_or(no_such_page)?;
        let mut page = first.page;
        while page < end {
            let (chunk, within) = place(page);
            let chunk_end = end.min((page / CHUNK_PAGES + 1) * CHUNK_PAGES);
            let (_, last) = place(chunk_end - 1);
            block.stamp(chunk, within..=last, version);
            page = chunk_end;
        }
        Ok(())
    }

    /// The batch with the page's newest content, if there is one.
    #[must_use]
    pub fn newest(&self, page: Address) -> Option<u64> {
        let block = self.blocks.get(usize::from(page.block))?;
        let (chunk, within) = place(page.page);
        let version = *block.chunks.get(chunk)?.as_ref()?.versions.get(within)?;
        u64::from(version).checked_sub(1)
    }

    /// The newest batch with a content of any of these pages, if there is one; of what the map does not have there is none.
    #[must_use]
    pub fn newest_of(&self, first: Address, run: u64) -> Option<u64> {
        let block = self.blocks.get(usize::from(first.block))?;
        let end = first.page.checked_add(run)?.min(block.pages);
        let mut newest = 0;
        let mut page = first.page;
        while page < end {
            let (chunk, within) = place(page);
            let chunk_end = end.min((page / CHUNK_PAGES + 1) * CHUNK_PAGES);
            let (_, last) = place(chunk_end - 1);
            if let Some(Some(chunk)) = block.chunks.get(chunk) {
                let versions = chunk.versions.get(within..=last).unwrap_or_default();
                newest = versions.iter().copied().fold(newest, u32::max);
            }
            page = chunk_end;
        }
        u64::from(newest).checked_sub(1)
    }

    /// The digest over all versions, as `proto/WIRE.md` says.
    pub fn digest(&mut self, algorithm: Algorithm) -> [u8; DIGEST_LEN] {
        let mut whole = Hasher::new(algorithm);
        for (number, block) in (0u16..).zip(&mut self.blocks) {
            for (index, chunk) in (0u64..).zip(&mut block.chunks) {
                if let Some(chunk) = chunk {
                    whole.update(&number.to_be_bytes());
                    whole.update(&index.to_be_bytes());
                    whole.update(&chunk.digest(algorithm));
                }
            }
        }
        whole.finish()
    }
}

/// A page's chunk, and its place there.
fn place(page: u64) -> (usize, usize) {
    let chunk = usize::try_from(page / CHUNK_PAGES).unwrap_or(usize::MAX);
    let within = usize::try_from(page % CHUNK_PAGES).unwrap_or(usize::MAX);
    (chunk, within)
}

impl Block {
    fn stamp(&mut self, index: usize, pages: core::ops::RangeInclusive<usize>, version: u32) {
        let before = index as u64 * CHUNK_PAGES;
        let len = usize::try_from((self.pages - before).min(CHUNK_PAGES)).unwrap_or(CHUNK);
        let Some(chunk) = self.chunks.get_mut(index) else {
            return;
        };
        let chunk = chunk.get_or_insert_with(|| Chunk {
            versions: vec![0; len].into_boxed_slice(),
            digest: None,
        });
        for page in chunk.versions.get_mut(pages).unwrap_or_default() {
            if *page < version {
                *page = version;
                chunk.digest = None;
            }
        }
    }
}

impl Chunk {
    fn digest(&mut self, algorithm: Algorithm) -> [u8; DIGEST_LEN] {
        if let Some((made, digest)) = self.digest
            && made == algorithm
        {
            return digest;
        }
        let mut hasher = Hasher::new(algorithm);
        let mut bytes = [0; 4 * STRIDE];
        for stride in self.versions.chunks(STRIDE) {
            let (words, _) = bytes.as_chunks_mut::<4>();
            for (word, version) in words.iter_mut().zip(stride) {
                *word = version.to_be_bytes();
            }
            hasher.update(bytes.get(..4 * stride.len()).unwrap_or_default());
        }
        let digest = hasher.finish();
        self.digest = Some((algorithm, digest));
        digest
    }
}

impl fmt::Debug for VersionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionMap")
            .field("blocks", &self.blocks.len())
            .finish_non_exhaustive()
    }
}

/// Why a page was not stamped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StampError {
    /// The guest does not have these pages: whoever named them is at fault, this host's QEMU at the source, the peer at the receiver.
    NoSuchPage {
        /// The first of them.
        first: Address,
        /// How many.
        run: u64,
    },
    /// Four bytes do not hold this number: the session has gone on for some petabytes and must be begun again.
    BatchTooHigh {
        /// The number.
        batch: u64,
    },
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPage { first, run } => write!(
                f,
                "{run} pages from page {} of RAM block {} on: the guest does not have all of them",
                first.page, first.block
            ),
            Self::BatchTooHigh { batch } => write!(
                f,
                "batch {batch}: a session has at most {} batches; begin another one",
                u32::MAX
            ),
        }
    }
}

impl core::error::Error for StampError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// One block with a chunk and a bit, one with less than a chunk.
    const PAGES: [u64; 2] = [CHUNK_PAGES + 3, 10];

    fn stamp() -> impl Strategy<Value = (Address, u64, u64)> {
        let page = prop_oneof![0u64..12, CHUNK_PAGES - 4..CHUNK_PAGES + 5];
        (0u16..3, page, 0u64..8, 0u64..20)
            .prop_map(|(block, page, run, batch)| (Address { block, page }, run, batch))
    }

    /// The digest as the specification says it, from a model.
    fn specified(model: &BTreeMap<Address, u64>, algorithm: Algorithm) -> [u8; DIGEST_LEN] {
        let mut whole = Hasher::new(algorithm);
        for (block, pages) in (0u16..).zip(PAGES) {
            for chunk in 0..pages.div_ceil(CHUNK_PAGES) {
                let pages = chunk * CHUNK_PAGES..pages.min((chunk + 1) * CHUNK_PAGES);
                let versions: Vec<u32> = pages
                    .map(|page| {
                        let batch = model.get(&Address { block, page });
                        batch.map_or(0, |&batch| u32::try_from(batch + 1).unwrap())
                    })
                    .collect();
                if versions.iter().any(|&version| version > 0) {
                    let mut hasher = Hasher::new(algorithm);
                    for version in versions {
                        hasher.update(&version.to_be_bytes());
                    }
                    whole.update(&block.to_be_bytes());
                    whole.update(&chunk.to_be_bytes());
                    whole.update(&hasher.finish());
                }
            }
        }
        whole.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_keeps_the_newest_and_hashes_as_specified(rounds in vec(vec(stamp(), 0..8), 1..4)) {
            let mut map = VersionMap::new(&PAGES);
            let mut model: BTreeMap<Address, u64> = BTreeMap::new();
            for stamps in rounds {
                for (first, run, batch) in stamps {
                    let there = PAGES.get(usize::from(first.block)).is_some_and(|&pages| first.page + run <= pages);
                    prop_assert_eq!(map.stamp(first, run, batch).is_ok(), there);
                    for page in (first.page..first.page + run).filter(|_| there) {
                        let newest = model.entry(Address { page, ..first }).or_default();
                        *newest = batch.max(*newest);
                    }
                }
                for (&page, &batch) in &model {
                    prop_assert_eq!(map.newest(page), Some(batch));
                }
                let first = Address { block: 0, page: 2 };
                for run in [0, 1, 9, CHUNK_PAGES, u64::MAX - 2] {
                    let pages = model.range(first..).take_while(|(page, _)| page.block == 0 && page.page - 2 < run);
                    let newest = pages.map(|(_, &batch)| batch).max();
                    prop_assert_eq!(map.newest_of(first, run), newest);
                }
                // Both, so that a cached digest of one is not taken for the other's.
                for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
                    prop_assert_eq!(map.digest(algorithm), specified(&model, algorithm));
                }
            }
        }
    }

    #[test]
    fn the_order_of_stamps_does_not_matter() {
        let (mut one, mut other) = (VersionMap::new(&PAGES), VersionMap::new(&PAGES));
        let at = Address { block: 0, page: 7 };
        one.stamp(at, 1, 5).unwrap();
        one.stamp(at, 2, 3).unwrap();
        other.stamp(at, 2, 3).unwrap();
        assert_ne!(
            one.digest(Algorithm::Blake3),
            other.digest(Algorithm::Blake3)
        );
        other.stamp(at, 1, 5).unwrap();
        assert_eq!(
            one.digest(Algorithm::Blake3),
            other.digest(Algorithm::Blake3)
        );
        assert_eq!(one.newest(at), Some(5));
    }

    #[test]
    fn a_page_that_was_never_sent_has_no_version() {
        let mut map = VersionMap::new(&PAGES);
        let at = Address { block: 1, page: 4 };
        map.stamp(at, 1, 0).unwrap();
        assert_eq!(map.newest(at), Some(0));
        for page in [
            Address { page: 5, ..at },
            Address { page: 10, ..at },
            Address { block: 2, page: 0 },
        ] {
            assert_eq!(map.newest(page), None);
        }
    }

    #[test]
    fn a_number_beyond_four_bytes_is_refused() {
        let mut map = VersionMap::new(&PAGES);
        let at = Address { block: 0, page: 0 };
        let last = u64::from(u32::MAX) - 1;
        map.stamp(at, 1, last).unwrap();
        assert_eq!(map.newest(at), Some(last));
        for batch in [last + 1, u64::MAX] {
            let refused = Err(StampError::BatchTooHigh { batch });
            assert_eq!(map.stamp(at, 1, batch), refused);
        }
        let far = Address {
            page: u64::MAX,
            ..at
        };
        assert!(map.stamp(far, 2, 0).is_err());
    }
}
