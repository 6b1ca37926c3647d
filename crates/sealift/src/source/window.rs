//! How much content may be on its way.
//!
//! ```text
//!  behind the gate, in the first pass    rate × 250 ms            it counts what is on its way, and waits
//!                   after it             rate × half the blackout  what is there is in front of the guest's last pages
//!  without one                           rate × 40 ms             it is so all the time
//!
//!  and on top                            rate × the line's own time there and back
//! ```
//!
//! What the line itself holds is in front of nothing: it comes on top of what may queue. The rate is what was delivered under the window before. With no more
//! than what the line held then, it would carry that once more, and after each moment in which there was less to send a little less, for ever.

use std::time::Duration;

use sealift_session::flight::WINDOW_MAX;

/// Time's worth of content that may be on its way behind a gate. A batch passes ten threads and two networks, and on a busy host it waits for a
/// processor before each: with less the link stood idle for a sixth of the time.
const GATED: Duration = Duration::from_millis(250);
/// The least such window: what the same takes before the rate is known, and where pages compress tenfold.
const GATED_MIN: u64 = 16 << 20;
/// The same without a gate, when all of it may be in front of the guest's last pages: a tenth of the blackout that QEMU aims for by default.
const OPEN: Duration = Duration::from_millis(40);
/// The least of those: a batch in each stage of the way.
pub(super) const LEAST: u64 = 4 << 20;

/// Where a guest's move stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Bytes of content that were delivered in a second lately, if that is known.
    pub(super) rate: Option<u64>,
    /// What a batch takes at least, there and back.
    pub(super) round_trip: Duration,
    /// QEMU waits for the gate.
    pub(super) gated: bool,
    /// All of memory was sent once.
    pub(super) first_pass_is_complete: bool,
    /// How long the guest may stand still.
    pub(super) max_downtime: Duration,
}

impl Line {
    /// In bytes.
    pub(super) fn window(self) -> u64 {
        let half = (self.max_downtime / 2).max(OPEN);
        let (time, least) = match self.gated {
            true if !self.first_pass_is_complete || half >= GATED => (GATED, GATED_MIN),
            true => (half, LEAST),
            false => (OPEN, LEAST),
        };
        let millis = u64::try_from((time + self.round_trip).as_millis()).unwrap_or(u64::MAX);
        let window = self.rate.unwrap_or(0).saturating_mul(millis) / 1000;
        window.clamp(least, WINDOW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rate: u64, round_trip: Duration, gated: bool, first_pass_is_complete: bool) -> Line {
        Line {
            rate: Some(rate),
            round_trip,
            gated,
            first_pass_is_complete,
            max_downtime: Duration::from_millis(300),
        }
    }

    #[test]
    fn a_long_line_is_filled_again_after_it_had_little_to_carry() {
        // 24 MB a second on the wire, a tenth of the content.
        let carries = 240_000_000;
        for milliseconds in [1, 40, 160, 240] {
            let round_trip = Duration::from_millis(milliseconds);
            for (gated, complete) in [(true, false), (true, true), (false, true)] {
                let mut rate = 0;
                for _ in 0..30 {
                    let window = line(rate, round_trip, gated, complete).window();
                    let held = window * 1000 / milliseconds;
                    rate = held.min(carries);
                }
                assert_eq!(rate, carries, "{milliseconds} ms, {gated}, {complete}");
            }
        }
    }

    #[test]
    fn what_is_in_front_of_the_last_pages_is_no_more_than_half_the_blackout_where_the_line_is_short()
     {
        let near = Duration::from_millis(1);
        let window = |gated, complete| line(100_000_000, near, gated, complete).window();
        assert_eq!(window(true, false), 25_100_000);
        assert_eq!(window(true, true), 15_100_000);
        assert_eq!(window(false, true), LEAST);
    }

    #[test]
    fn a_blackout_that_is_longer_than_what_keeps_a_link_busy_does_not_fill_it_further() {
        let long = Line {
            max_downtime: Duration::from_secs(10),
            ..line(100_000_000, Duration::ZERO, true, true)
        };
        assert_eq!(long.window(), 25_000_000);
    }

    #[test]
    fn before_anything_was_delivered_it_is_the_least() {
        let new = Line {
            rate: None,
            ..line(0, Duration::ZERO, true, false)
        };
        assert_eq!(new.window(), GATED_MIN);
    }
}
