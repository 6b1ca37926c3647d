//! Which pages of a block may hold something else than zeros: only those have to be written when zeros come.
//!
//! ```text
//!   found populated when placing began ──┐
//!   a page is placed ────────────────────┴─▶ 1     zeros are placed ─▶ 0
//! ```
//!
//! A bit for each page. A backend's file may hold an earlier guest, and QEMU has put firmware there: memory that was never touched is
//! what needs nothing.

use std::ops::Range;

const BITS: u64 = u64::BITS as u64;

/// The bits of one block.
#[derive(Debug)]
pub(super) struct Filled {
    words: Vec<u64>,
    pages: u64,
}

impl Filled {
    /// A block of so many pages, of which these bytes may hold something.
    pub(super) fn new(pages: u64, page_bytes: u64, populated: &[Range<u64>]) -> Self {
        let words = usize::try_from(pages.div_ceil(BITS)).unwrap_or(usize::MAX);
        let mut filled = Self {
            words: vec![0; words],
            pages,
        };
        for range in populated {
            let first = range.start / page_bytes;
            filled.fill(first, range.end.div_ceil(page_bytes).saturating_sub(first));
        }
        filled
    }

    /// These pages hold something.
    pub(super) fn fill(&mut self, first: u64, run: u64) {
        let end = first.saturating_add(run).min(self.pages);
        for (word, mask) in words(first, end) {
            if let Some(bits) = self.words.get_mut(word) {
                *bits |= mask;
            }
        }
    }

    /// These pages are to be zeros: appends the runs of those that may not be to `out`. They are taken to be zeros from now on.
    pub(super) fn clear(&mut self, first: u64, run: u64, out: &mut Vec<Range<u64>>) {
        let end = first.saturating_add(run).min(self.pages);
        let before = out.len();
        for (word, mask) in words(first, end) {
            let Some(bits) = self.words.get_mut(word) else {
                return;
            };
            let mut set = *bits & mask;
            *bits &= !mask;
            let base = word as u64 * BITS;
            while set != 0 {
                let start = u64::from(set.trailing_zeros());
                let length = u64::from((set >> start).trailing_ones());
                // The last bits of a word and the first of the next are one run.
                let run = base + start..base + start + length;
                match out.get_mut(before..).and_then(<[_]>::last_mut) {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => out.push(run),
                }
                set &= u64::MAX
                    .checked_shl(u32::try_from(start + length).unwrap_or(u32::MAX))
                    .unwrap_or(0);
            }
        }
    }
}

/// The words of these pages, and their bits in each.
fn words(first: u64, end: u64) -> impl Iterator<Item = (usize, u64)> {
    let of = first / BITS..end.div_ceil(BITS).max(first / BITS);
    of.filter_map(move |word| {
        let base = word * BITS;
        let from = first.saturating_sub(base);
        let to = (end - base).min(BITS);
        let below = |bits: u64| match bits {
            BITS.. => u64::MAX,
            bits => (1 << bits) - 1,
        };
        let mask = below(to) & !below(from);
        (mask != 0).then_some((usize::try_from(word).ok()?, mask))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PAGES: u64 = 200;

    proptest! {
        #[test]
        fn it_knows_which_pages_may_hold_something(
            populated in vec((0u64..PAGES, 0u64..90), 0..3),
            steps in vec((any::<bool>(), 0u64..PAGES, 0u64..=PAGES), 0..20),
        ) {
            let ranges: Vec<_> = populated.iter().map(|&(first, run)| first * 4096..(first + run) * 4096).collect();
            let mut filled = Filled::new(PAGES, 4096, &ranges);
            let mut model: BTreeSet<u64> = populated.iter().flat_map(|&(first, run)| first..first + run).filter(|&page| page < PAGES).collect();
            for (fill, first, run) in steps {
                let run = run.min(PAGES - first);
                if fill {
                    filled.fill(first, run);
                    model.extend(first..first + run);
                } else {
                    let mut out = vec![];
                    filled.clear(first, run, &mut out);
                    prop_assert!(out.windows(2).all(|two| two[0].end < two[1].start));
                    let cleared: BTreeSet<u64> = out.into_iter().flatten().collect();
                    let expected: BTreeSet<u64> = model.range(first..first + run).copied().collect();
                    prop_assert_eq!(&cleared, &expected);
                    model.retain(|page| !expected.contains(page));
                }
            }
        }
    }

    #[test]
    fn a_page_that_is_populated_in_part_may_hold_something() {
        let mut filled = Filled::new(8, 16 << 10, &[20_000..20_001, 90_000..90_001]);
        let mut out = vec![];
        filled.clear(0, 8, &mut out);
        assert_eq!(out, [1..2, 5..6]);
    }
}
