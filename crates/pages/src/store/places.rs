//! From a fingerprint to entries that may have it. Nothing is ever taken out: whoever finds an entry compares it, and a place whose entry has
//! gone on to something else is written over in its turn.

use alloc::vec;
use alloc::vec::Vec;

use crate::store::addresses::{entry, link, within};

/// Places that a fingerprint may be in: 32 bytes, of the line that a processor fetches at once.
const WAYS: usize = 4;
/// Entries that share a bucket: a third of the places stay empty, so that few push each other out.
const SHARE: usize = 3;

pub(super) struct Places {
    /// Each place a tag and an entry's link.
    buckets: Vec<[u64; WAYS]>,
}

impl Places {
    /// Bytes that it takes for each entry, rounded up.
    pub(super) const EACH: usize = (WAYS * 8).div_ceil(SHARE);

    pub(super) fn new(entries: usize) -> Self {
        // Rounded down, for the budget; a store has at least one place.
        let buckets = if entries == 0 {
            0
        } else {
            (entries / SHARE).max(1)
        };
        Self {
            buckets: vec![[0; WAYS]; buckets],
        }
    }

    /// The entries that may have the fingerprint.
    pub(super) fn of(&self, fingerprint: u64) -> [Option<usize>; WAYS] {
        let bucket = self.buckets.get(self.bucket(fingerprint));
        let (_, tag) = split(fingerprint);
        bucket.copied().unwrap_or_default().map(|place| {
            let (found, link) = split(place);
            if found == tag { entry(link) } else { None }
        })
    }

    /// The fingerprint is this entry's, the first one to be looked at.
    pub(super) fn put(&mut self, fingerprint: u64, entry: usize) {
        let at = self.bucket(fingerprint);
        let (_, tag) = split(fingerprint);
        if let Some(bucket) = self.buckets.get_mut(at) {
            // The place that it had, or the oldest one.
            let had = bucket.iter().position(|&place| split(place).0 == tag);
            bucket[..=had.unwrap_or(WAYS - 1)].rotate_right(1);
            bucket[0] = u64::from(tag) << 32 | u64::from(link(entry));
        }
    }

    fn bucket(&self, fingerprint: u64) -> usize {
        within(fingerprint, self.buckets.len())
    }
}

/// Tag and link of a place. A fingerprint's tag is its low half: the high one chooses the bucket.
fn split(place: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = place.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}
