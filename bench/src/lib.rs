//! Measuring: cases that take turns, medians, and ratios within one run.
//!
//! The machines that this runs on are noisy, so that a figure from one minute cannot be held against one from the next. All cases
//! therefore take turns in rounds, and a ratio is the median of the rounds' ratios:
//!
//! ```text
//!  round 1   memcpy · ring seal · seal · parse · …
//!  round 2   memcpy · ring seal · seal · parse · …      median of ( seal ÷ ring seal ) over the rounds
//!  …
//! ```
#![forbid(unsafe_code)]

mod certificates;
mod cpu;
pub mod guest;
pub mod machine;
pub mod pages;
pub mod peers;
mod program;
pub mod raw;
pub mod sealing;
pub mod streams;
pub mod table;
pub mod vast;

use std::time::{Duration, Instant};

/// Rounds: enough for a median that a few disturbed ones do not move.
const ROUNDS: usize = 9;

/// How long a case is measured in each round: many times a scheduler's tick.
const TURN: Duration = Duration::from_millis(120);

/// Something to measure.
pub struct Case {
    /// What it is called in the table.
    pub name: &'static str,
    /// The case that it is held against.
    pub against: Option<&'static str>,
    /// What it should reach.
    pub target: Option<Target>,
    /// Bytes of one run.
    pub bytes: usize,
    /// Runs once; only what the watch times counts.
    pub run: Box<dyn FnMut(&mut Watch)>,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// So many GB/s.
    Speed(f64),
    /// So many times the speed of the case that it is held against.
    Ratio(f64),
}

/// Adds up the time of what counts.
#[derive(Debug, Default)]
pub struct Watch {
    total: Duration,
}

impl Watch {
    /// Times a part of a run.
    pub fn time<T>(&mut self, part: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = std::hint::black_box(part());
        self.total += start.elapsed();
        out
    }
}

/// A case's speed in each round, in GB/s.
pub struct Measured {
    /// The case.
    pub case: Case,
    /// Its speeds.
    pub speeds: Vec<f64>,
}

/// Measures all cases in turn.
pub fn measure(mut cases: Vec<Case>, mut progress: impl FnMut(usize, usize)) -> Vec<Measured> {
    let mut speeds = vec![Vec::with_capacity(ROUNDS); cases.len()];
    // One round to warm caches, branch predictors and the clock; it is not kept.
    for round in 0..=ROUNDS {
        progress(round, ROUNDS);
        for (case, speeds) in cases.iter_mut().zip(&mut speeds) {
            let mut watch = Watch::default();
            let mut runs = 0u32;
            while watch.total < TURN {
                (case.run)(&mut watch);
                runs += 1;
            }
            if round > 0 {
                speeds.push(f64::from(runs) * as_f64(case.bytes) / watch.total.as_secs_f64() / 1e9);
            }
        }
    }
    let measured = cases.into_iter().zip(speeds);
    measured
        .map(|(case, speeds)| Measured { case, speeds })
        .collect()
}

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Byte counts here are far below the 2^53 that a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
