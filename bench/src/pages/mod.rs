//! The page pipeline alone, on what QEMU handed over when a guest was moved: what each technique saves, and what it costs.
//!
//! ```text
//!   stream ─▶ recorded ─▶ read · find · encode · seal ─▶ ░░░░ ─▶ open · decode · resolve · verify · place
//!                          one thread, each part timed            the same
//! ```
//!
//! Pages are copied out of a buffer as they are out of a guest with direct access, and into one at the other end, which is also where references
//! are read from that the mirror does not have.

pub mod recorded;
pub mod table;
mod trip;

use std::time::Duration;

use sealift_pages::{Algorithm, Tally};

pub use trip::trip;

use crate::pages::recorded::Recorded;

/// What of the pipeline is on.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// What it is called in the table.
    pub name: &'static str,
    /// Bytes of copies that the source keeps.
    pub store: u64,
    /// Pages may be named by what they held before.
    pub own: bool,
    /// zstd's level.
    pub level: Option<i32>,
    /// Windows that batches go on in turn, as with so many workers; none for each alone.
    pub windows: u64,
    /// What the pages are hashed by.
    pub digest: Algorithm,
}

/// What a way came to.
#[derive(Clone, Debug, Default)]
pub struct Trip {
    /// What was encoded.
    pub tally: Tally,
    /// Bytes of content, zeros left out.
    pub content: u64,
    /// Sealed bytes.
    pub sealed: u64,
    /// The way out: read, find, encode, seal.
    pub out: [Duration; 4],
    /// The way back: open, decode, resolve, verify, place.
    pub back: [Duration; 5],
    /// zstd alone, on the bytes that reach it.
    pub zstd: Duration,
}

/// The ways, each technique on and off; `budget` is the store's where there is one.
#[must_use]
pub fn ways(budget: u64) -> Vec<Way> {
    let all = Way {
        name: "all, zstd -1",
        store: budget,
        own: true,
        level: Some(-1),
        windows: 0,
        digest: Algorithm::Blake3,
    };
    let plain = Way {
        name: "zero only",
        store: 0,
        level: None,
        ..all
    };
    vec![
        plain,
        Way {
            name: "zero only, SHA-256",
            digest: Algorithm::Sha256,
            ..plain
        },
        Way {
            name: "zero, same-as elsewhere",
            store: budget,
            own: false,
            ..plain
        },
        Way {
            name: "zero, same-as, delta",
            level: None,
            ..all
        },
        Way {
            name: "the same, SHA-256",
            level: None,
            digest: Algorithm::Sha256,
            ..all
        },
        Way {
            name: "zero, zstd -1",
            level: Some(-1),
            ..plain
        },
        all,
        Way {
            name: "all, zstd -5",
            level: Some(-5),
            ..all
        },
        Way {
            name: "all, zstd 1",
            level: Some(1),
            ..all
        },
        Way {
            name: "all, zstd 3",
            level: Some(3),
            ..all
        },
        Way {
            name: "all, zstd 3, one window",
            level: Some(3),
            windows: 1,
            ..all
        },
        Way {
            name: "all, zstd 3, two windows",
            level: Some(3),
            windows: 2,
            ..all
        },
    ]
}

/// A trip of each way, of several the one that took least: what disturbs a run only makes it longer.
///
/// # Errors
/// When what arrives is not what was sent, which does not occur.
pub fn measure(
    recorded: &Recorded,
    ways: &[Way],
    rounds: usize,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Trip>, Box<dyn std::error::Error>> {
    let mut best: Vec<Option<Trip>> = vec![None; ways.len()];
    for _ in 0..rounds {
        for (way, best) in ways.iter().zip(&mut best) {
            progress(way.name);
            let trip = trip(recorded, way)?;
            if best.as_ref().is_none_or(|best| trip.total() < best.total()) {
                *best = Some(trip);
            }
        }
    }
    Ok(best.into_iter().flatten().collect())
}

impl Trip {
    /// The way out.
    #[must_use]
    pub fn out(&self) -> Duration {
        self.out.iter().sum()
    }

    /// The way back.
    #[must_use]
    pub fn back(&self) -> Duration {
        self.back.iter().sum()
    }

    fn total(&self) -> Duration {
        self.out() + self.back()
    }
}
