//! What the link delivers by the second, over the last moments.
//!
//! ```text
//!   deliveries   | bin | bin | bin | …  16 of 25 ms, the oldest dropped    = the last 0.4 s
//! ```
//!
//! Rates are of what the peer has acknowledged, not of what a socket took: only that is delivered.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::Delivered;

/// Bytes per second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rates {
    /// Of guest memory and stream, before they are made small.
    pub content: u64,
    /// On the wire.
    pub wire: u64,
}

/// The time that a bin stands for: a few acknowledgements of a link with a round trip of some milliseconds.
const BIN: Duration = Duration::from_millis(25);
/// As many bins make 0.4 s: long enough to look through QEMU's own pauses between rounds, which are about 0.1 s, and short
/// enough to follow a link that changes.
const BINS: usize = 16;
/// Before so much time has gone by, a rate would be made of a burst.
const TELLING: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// When the first batch was sent.
    began: Option<Duration>,
    bins: VecDeque<Bin>,
}

#[derive(Clone, Copy, Debug)]
struct Bin {
    /// Its number since time began.
    number: u128,
    content: u64,
    wire: u64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            began: None,
            bins: VecDeque::new(),
        }
    }

    pub(super) fn begins(&mut self, now: Duration) {
        self.began.get_or_insert(now);
    }

    pub(super) fn delivered(&mut self, now: Duration, delivered: Delivered) {
        let number = bin_of(now);
        match self.bins.back_mut() {
            // Times of one clock do not go back; if they did, the last bin would do.
            Some(last) if last.number >= number => {
                last.content = last.content.saturating_add(delivered.content);
                last.wire = last.wire.saturating_add(delivered.wire);
            }
            _ => self.bins.push_back(Bin {
                number,
                content: delivered.content,
                wire: delivered.wire,
            }),
        }
        if self.bins.len() > BINS {
            self.bins.pop_front();
        }
    }

    pub(super) fn rates(&self, now: Duration) -> Option<Rates> {
        let oldest = bin_of(now).saturating_sub(BINS as u128 - 1);
        let since = now.checked_sub(self.began?)?;
        let from = now.as_nanos().saturating_sub(oldest * BIN.as_nanos());
        let span = since.as_nanos().min(from);
        if span < TELLING.as_nanos() {
            return None;
        }
        let (content, wire) = self.bins.iter().filter(|bin| bin.number >= oldest).fold(
            (0_u128, 0_u128),
            |(content, wire), bin| {
                (
                    content + u128::from(bin.content),
                    wire + u128::from(bin.wire),
                )
            },
        );
        let per_second = |bytes: u128| {
            u64::try_from(bytes * Duration::from_secs(1).as_nanos() / span).unwrap_or(u64::MAX)
        };
        Some(Rates {
            content: per_second(content),
            wire: per_second(wire),
        })
    }
}

const fn bin_of(time: Duration) -> u128 {
    time.as_nanos() / BIN.as_nanos()
}
