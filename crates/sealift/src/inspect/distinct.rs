//! Counting repeated pages in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Fingerprints that are kept: 24 MiB of them at the most. A stream with fewer distinct pages (4 GiB of 4 KiB pages) is counted
/// exactly.
const KEPT: usize = 1 << 20;

/// Counts how many of the pages shown to it are the same as an earlier one.
///
/// Past [`KEPT`] distinct pages it looks only at those pages whose fingerprint ends in a zero bit, then two, and so on, and counts each
/// for all that it stands for. Equal pages have equal fingerprints, so a page that is looked at is looked at each time that it comes.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    seen: HashSet<u64, BuildHasherDefault<Fingerprint>>,
    /// Low bits that must be zero.
    sampled_bits: u32,
}

impl Distinct {
    /// Takes note of a page; returns for how many repeated pages it stands: 0 for a new one.
    pub(super) fn repeats(&mut self, page: &[u8]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(page).as_bytes();
        let fingerprint = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if fingerprint.trailing_zeros() < self.sampled_bits {
            return 0;
        }
        if !self.seen.insert(fingerprint) {
            return 1 << self.sampled_bits;
        }
        while self.seen.len() > KEPT {
            self.sampled_bits += 1;
            let bits = self.sampled_bits;
            self.seen.retain(|kept| kept.trailing_zeros() >= bits);
        }
        0
    }

    /// Whether every page was counted.
    pub(super) fn is_exact(&self) -> bool {
        self.sampled_bits == 0
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        // The table takes its place from the low bits, which sampling makes equal.
        self.0 = fingerprint.rotate_right(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_exactly_while_they_fit() {
        let mut distinct = Distinct::default();
        let repeats: u64 = [1u8, 2, 1, 1, 3]
            .iter()
            .map(|fill| distinct.repeats(&[*fill; 64]))
            .sum();
        assert_eq!(repeats, 2);
        assert!(distinct.is_exact());
    }

    #[test]
    fn past_its_bound_it_estimates() {
        let mut distinct = Distinct::default();
        let pages = KEPT as u64 * 2;
        let mut repeats = 0;
        for round in 0..2 {
            for page in 0..pages {
                let count = distinct.repeats(&page.to_le_bytes());
                repeats += if round == 1 { count } else { 0 };
            }
        }
        assert!(!distinct.is_exact());
        assert!(distinct.seen.len() <= KEPT);
        let error = repeats.abs_diff(pages);
        assert!(error < pages / 50, "{repeats} of {pages}");
    }
}
