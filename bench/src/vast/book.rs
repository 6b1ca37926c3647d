//! What is kept of a guest whose memory is read directly, by itself: every page marked, taken, stamped, acknowledged; three rounds of it.
//!
//! ```text
//!  small   16 guests of 16 GiB, all kept at once      what is kept of either is as large, and as cold when a round comes back to it:
//!  large   one guest of 256 GiB                       any difference is the size of the one guest
//! ```

use std::time::{Duration, Instant};

use sealift_pages::{Address, PageSize};
use sealift_precopy::{Engine, VersionMap};

use super::figures::{GROWTH, Verdict};
use crate::guest::PAGE;

/// GiB of each side.
const LARGE: u64 = 256;
/// GiB of a small guest.
const SMALL: u64 = 16;
/// Rounds over all of memory.
const ROUNDS: u32 = 3;
/// Sides take turns; the shortest time of either counts.
const TURNS: u32 = 3;
/// Pages of a mark: of a section that QEMU writes.
const MARKED: u64 = 4096;
/// Pages of a batch, all with content.
const TAKEN: u64 = 256;
/// Batches on their way.
const FLYING: u64 = 64;

/// Measures both sides; none if pages went missing.
#[must_use]
pub fn verdict() -> Option<Verdict> {
    let [mut small, mut large] = [Duration::MAX; 2];
    for _ in 0..TURNS {
        small = small.min(rounds(SMALL, LARGE / SMALL)?);
        large = large.min(rounds(LARGE, 1)?);
    }
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    let each = large / (u32::try_from(LARGE).ok()? * ROUNDS);
    Some(Verdict {
        line: format!(
            "books of a guest of {LARGE} GiB that is read directly: {each:.2?} for a GiB and round   {ratio:.3} x that of {SMALL} GiB, \
             wanted at most {GROWTH:.2}"
        ),
        reached: ratio <= GROWTH,
    })
}

/// The time of all rounds over so many guests of a size.
fn rounds(gib: u64, guests: u64) -> Option<Duration> {
    let mut books: Vec<Book> = (0..guests).map(|_| Book::new(gib)).collect::<Option<_>>()?;
    let begun = Instant::now();
    for round in 0..ROUNDS {
        for book in &mut books {
            book.round(Duration::from_secs(u64::from(round)))?;
        }
    }
    let took = begun.elapsed();
    let whole = books
        .iter()
        .all(|book| book.taken == book.pages * u64::from(ROUNDS));
    whole.then_some(took)
}

struct Book {
    pages: u64,
    engine: Engine,
    versions: VersionMap,
    batch: u64,
    taken: u64,
}

impl Book {
    fn new(gib: u64) -> Option<Self> {
        let pages = (gib << 30) / PAGE as u64;
        Some(Self {
            pages,
            engine: Engine::new(&[pages], PageSize::new(PAGE).ok()?),
            versions: VersionMap::new(&[pages]),
            batch: 0,
            taken: 0,
        })
    }

    fn round(&mut self, now: Duration) -> Option<()> {
        let mut out = Vec::new();
        let mut page = 0;
        while page < self.pages {
            let first = Address { block: 0, page };
            self.engine.mark(first, MARKED, false).ok()?;
            page += MARKED;
            loop {
                out.clear();
                let pages = self.engine.take(now, self.batch, TAKEN, 0, &mut out);
                if pages == 0 {
                    break;
                }
                self.taken += pages;
                for run in &out {
                    self.versions.stamp(run.first, run.run, self.batch).ok()?;
                }
                if let Some(arrived) = self.batch.checked_sub(FLYING) {
                    self.engine.acknowledged(arrived);
                }
                self.batch += 1;
            }
        }
        self.engine.round(now + Duration::from_secs(1));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_taken_in_every_round() {
        assert!(rounds(1, 2).is_some());
    }
}
