//! What is kept of a guest whose memory is read directly, by itself: every page marked, taken, stamped, acknowledged; three rounds of it.

use std::time::{Duration, Instant};

use sealift_pages::{Address, PageSize};
use sealift_precopy::{Engine, VersionMap};

use super::figures::Verdict;
use crate::guest::PAGE;

/// Rounds over all of memory.
const ROUNDS: u32 = 3;
/// Pages of a mark: of a section that QEMU writes.
const MARKED: u64 = 4096;
/// Pages of a batch, all with content.
const TAKEN: u64 = 256;
/// Batches on their way.
const FLYING: u64 = 64;
/// A large guest's time for a page, to a small one's.
const GROWTH: f64 = 1.15;

/// Returns what a round takes for each GiB; none if pages went missing.
#[must_use]
pub fn round(gib: u64) -> Option<Duration> {
    let pages = (gib << 30) / PAGE as u64;
    let mut engine = Engine::new(&[pages], PageSize::new(PAGE).ok()?);
    let mut versions = VersionMap::new(&[pages]);
    let mut out = Vec::new();
    let (mut batch, mut taken) = (0, 0);
    let begun = Instant::now();
    for round in 0..ROUNDS {
        for page in (0..pages).step_by(usize::try_from(MARKED).ok()?) {
            let first = Address { block: 0, page };
            engine.mark(first, MARKED, false).ok()?;
            loop {
                out.clear();
                let now = Duration::from_secs(u64::from(round));
                let pages = engine.take(now, batch, TAKEN, 0, &mut out);
                if pages == 0 {
                    break;
                }
                taken += pages;
                for run in &out {
                    versions.stamp(run.first, run.run, batch).ok()?;
                }
                engine.acknowledged(batch.saturating_sub(FLYING));
                batch += 1;
            }
        }
        engine.round(Duration::from_secs(u64::from(round) + 1));
    }
    let each = begun.elapsed() / (u32::try_from(gib).ok()? * ROUNDS);
    (taken == pages * u64::from(ROUNDS)).then_some(each)
}

/// Holds the largest guest against the smallest.
#[must_use]
pub fn verdict((least, small): (u64, Duration), (most, large): (u64, Duration)) -> Verdict {
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    Verdict {
        line: format!(
            "books of a guest that is read directly: a round over a GiB of {most} GiB   {ratio:.3} x that of {least} GiB, \
             wanted at most {GROWTH:.2}"
        ),
        reached: ratio <= GROWTH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_taken_in_every_round() {
        assert!(round(1).is_some());
    }
}
