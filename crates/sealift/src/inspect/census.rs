//! How many pages of which kind each block has, and what zstd would make of them.

use std::collections::HashMap;

use serde::Serialize;
use zstd::bulk::Compressor;

use super::distinct::Distinct;

/// Pages that one piece of the map of seen pages stands for: 4 KiB of bits for 128 MiB of guest.
const MAP_PIECE: u64 = 8 * 4096;
/// Pieces that are kept: 64 MiB of them at the most, for 2 TiB of guest.
const MAP_PIECES: usize = 16 * 1024;

/// Pages that are compressed together, as sealift's batches do it.
const BATCH: usize = 1 << 20;
/// The level that sealift starts from.
const LEVEL: i32 = 1;

/// What a record brought of a page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Zero,
    Literal(&'a [u8]),
    /// Encoded by QEMU against what it sent before.
    Xbzrle,
    /// Compressed by QEMU.
    Compressed,
}

/// Counts of a block's page records. Each record is of one kind; duplicate and re-sent ones are so beside that.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) zero: u64,
    pub(super) literal: u64,
    /// Literal pages whose content an earlier literal page had, at whatever address.
    pub(super) duplicate: u64,
    pub(super) xbzrle: u64,
    pub(super) compressed: u64,
    /// Records of pages that had come before.
    pub(super) resent: u64,
}

/// Compressing the literal pages in batches.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Zstd {
    pub(super) level: i32,
    pub(super) batch_bytes: usize,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Guest memory.
#[derive(Serialize)]
pub(super) struct Ram {
    pub(super) blocks: Vec<BlockLine>,
    pub(super) passes: u64,
    pub(super) duplicates_exact: bool,
    pub(super) resent_exact: bool,
    pub(super) zstd: Zstd,
}

#[derive(Serialize)]
pub(super) struct BlockLine {
    pub(super) name: String,
    pub(super) bytes: Option<u64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// The census of one channel.
#[derive(Default)]
pub(super) struct Census {
    counts: Vec<Counts>,
    distinct: Distinct,
    seen: HashMap<(usize, u64), Box<[u64]>>,
    map_full: bool,
    last: Option<(usize, u64)>,
    passes: u64,
    batch: Vec<u8>,
    compressor: Option<Compressor<'static>>,
    compressed: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Census {
    /// Takes note of a record: of page number `page` in block number `block`.
    pub(super) fn record(&mut self, block: usize, page: u64, kind: Kind<'_>) {
        let duplicate = match kind {
            Kind::Literal(bytes) => {
                self.compress(bytes);
                self.distinct.repeats(bytes)
            }
            _ => 0,
        };
        let resent = self.seen_before(block, page);
        if self.counts.len() <= block {
            self.counts.resize_with(block + 1, Counts::default);
        }
        let Some(counts) = self.counts.get_mut(block) else {
            return;
        };
        counts.duplicate += duplicate;
        counts.resent += u64::from(resent);
        *match kind {
            Kind::Zero => &mut counts.zero,
            Kind::Literal(_) => &mut counts.literal,
            Kind::Xbzrle => &mut counts.xbzrle,
            Kind::Compressed => &mut counts.compressed,
        } += 1;
    }

    /// QEMU has come to this page. It walks its bitmap upwards, block by block, so that going back is the next pass.
    pub(super) fn walk(&mut self, block: usize, page: u64) {
        if self.last.is_none_or(|last| (block, page) <= last) {
            self.passes += 1;
        }
        self.last = Some((block, page));
    }

    /// What came of it, for blocks of these names and lengths.
    pub(super) fn report(mut self, blocks: impl IntoIterator<Item = (String, Option<u64>)>) -> Ram {
        self.flush();
        let blocks = blocks.into_iter().enumerate();
        let blocks = blocks.map(|(place, (name, bytes))| BlockLine {
            name,
            bytes,
            counts: self.counts.get(place).cloned().unwrap_or_default(),
        });
        Ram {
            blocks: blocks.collect(),
            passes: self.passes,
            duplicates_exact: self.distinct.is_exact(),
            resent_exact: !self.map_full,
            zstd: Zstd {
                level: LEVEL,
                batch_bytes: BATCH,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
            },
        }
    }

    fn seen_before(&mut self, block: usize, page: u64) -> bool {
        let key = (block, page / MAP_PIECE);
        if !self.seen.contains_key(&key) && self.seen.len() >= MAP_PIECES {
            self.map_full = true;
            return false;
        }
        let piece = self
            .seen
            .entry(key)
            .or_insert_with(|| vec![0; 4096 / 8].into());
        let place = page % MAP_PIECE;
        let bit = 1 << (place % 64);
        let word = usize::try_from(place / 64).ok();
        match word.and_then(|word| piece.get_mut(word)) {
            Some(word) => {
                let before = *word & bit != 0;
                *word |= bit;
                before
            }
            None => false,
        }
    }

    fn compress(&mut self, page: &[u8]) {
        self.batch.extend_from_slice(page);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.compressed.clear();
        let bound = zstd::zstd_safe::compress_bound(self.batch.len());
        self.compressed.reserve(bound);
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        // With room for the worst case zstd fails only for want of memory; such a batch counts as it is.
        let out = self.compressor.as_mut().and_then(|zstd| {
            zstd.compress_to_buffer(&self.batch, &mut self.compressed)
                .ok()
        });
        self.bytes_in += self.batch.len() as u64;
        self.bytes_out += out.unwrap_or(self.batch.len()) as u64;
        self.batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_passes_and_repeats_are_counted_per_block() {
        let mut census = Census::default();
        for (block, page, kind) in [
            (0, 0, Kind::Literal(&[1; 4096])),
            (0, 1, Kind::Literal(&[1; 4096])),
            (1, 0, Kind::Zero),
            (0, 1, Kind::Xbzrle),
            (0, 2, Kind::Zero),
            (0, 0, Kind::Literal(&[2; 4096])),
        ] {
            census.walk(block, page);
            census.record(block, page, kind);
        }
        let ram = census.report([("a".into(), None), ("b".into(), None)]);
        let counts = &ram.blocks[0].counts;
        assert_eq!((counts.literal, counts.duplicate, counts.resent), (3, 1, 2));
        assert_eq!((counts.zero, counts.xbzrle), (1, 1));
        assert_eq!(ram.blocks[1].counts.zero, 1);
        assert_eq!(ram.passes, 3);
        assert_eq!(ram.zstd.bytes_in, 3 * 4096);
        assert!(ram.zstd.bytes_out < 200);
    }

    #[test]
    fn the_map_of_seen_pages_is_bounded() {
        let mut census = Census::default();
        for piece in 0..MAP_PIECES as u64 + 10 {
            census.record(0, piece * MAP_PIECE, Kind::Zero);
        }
        assert_eq!(census.seen.len(), MAP_PIECES);
        assert!(!census.report([]).resent_exact);
    }
}
