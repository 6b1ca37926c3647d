//! How far the two hosts' clocks are apart, from pings: what blackout between two hosts is measured with.
//!
//! ```text
//!  this host    t1 ──╮               ╭──▶ t4        round trip   = (t4 - t1) - (t3 - t2)
//!                    │ Ping     Pong │              offset       = ((t2 - t1) + (t3 - t4)) / 2
//!  the peer          ╰──▶ t2    t3 ──╯              uncertainty  = round trip / 2
//! ```
//!
//! The two ways may take different times, and nobody can tell: the offset is off by half the round trip at most. So the
//! sample with the least round trip is the one that counts. All times are handed in; nothing here knows what time it is.

use alloc::collections::VecDeque;

use crate::control::{Pong, wire};

/// The peer's clock, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offset {
    best: Option<Sample>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sample {
    offset_ns: i128,
    round_trip_ns: u128,
}

impl Offset {
    /// Takes what one ping and its answer tell; `sent_ns` and `answered_ns` are by this host's clock. What cannot be is
    /// passed over: a clock that was set in between.
    pub fn sample(&mut self, sent_ns: u64, pong: &Pong, answered_ns: u64) {
        let [sent, received, returned, answered] =
            [sent_ns, pong.received_ns(), pong.sent_ns(), answered_ns].map(i128::from);
        let Ok(round_trip_ns) = u128::try_from((answered - sent) - (returned - received)) else {
            return;
        };
        if self
            .best
            .is_some_and(|best| best.round_trip_ns <= round_trip_ns)
        {
            return;
        }
        self.best = Some(Sample {
            offset_ns: i128::midpoint(received - sent, returned - answered),
            round_trip_ns,
        });
    }

    /// Nanoseconds that the peer's clock is ahead of this host's; `None` before the first answer.
    #[must_use]
    pub fn offset_ns(&self) -> Option<i64> {
        // Clocks of 64 bits may be further apart than this; such an offset is no use to anyone.
        i64::try_from(self.best?.offset_ns).ok()
    }

    /// How far off that may be, in either direction.
    #[must_use]
    pub fn uncertainty_ns(&self) -> Option<u64> {
        u64::try_from(self.best?.round_trip_ns.div_ceil(2)).ok()
    }
}

/// The pings of one end, and what their answers tell. When to send one is the driver's to decide.
#[derive(Clone, Debug, Default)]
pub struct Pings {
    next: u64,
    /// Those without an answer, oldest first: id and when it was sent.
    waiting: VecDeque<(u64, u64)>,
    offset: Offset,
}

/// Pings that may be without an answer. At one a second, more than a link that still lives is ever behind.
const WAITING_MAX: usize = 16;

impl Pings {
    /// Another ping, sent now by this host's clock.
    pub fn ping(&mut self, now_ns: u64) -> wire::Ping {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.waiting.push_back((id, now_ns));
        let sent_ns = now_ns;
        wire::Ping {
            heard: 0,
            id,
            sent_ns,
        }
    }

    /// Takes an answer that came now by this host's clock. One that answers no ping is passed over: it may be late.
    pub fn pong(&mut self, pong: &Pong, now_ns: u64) {
        let place = self.waiting.iter().position(|&(id, _)| id == pong.id());
        if let Some((_, sent_ns)) = place.and_then(|place| self.waiting.remove(place)) {
            self.offset.sample(sent_ns, pong, now_ns);
        }
    }

    /// The peer's clock, as far as it is known.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the two ways took, the true offset lies within what is said; and a shorter round trip says more.
        #[test]
        fn the_true_offset_is_within_the_uncertainty(
            ahead in -1_000_000_000_000_i64..1_000_000_000_000,
            trips in proptest::collection::vec((0u64..500_000_000, 0u64..500_000_000, 0u64..1_000_000), 1..20),
        ) {
            let mut pings = Pings::default();
            let mut now = 1_700_000_000_000_000_000_u64;
            let mut least = u64::MAX;
            for (there, held, back) in trips {
                let ping = pings.ping(now);
                let peer = |ours: u64| ours.checked_add_signed(ahead).unwrap();
                let pong = Pong::new(ping.id, peer(now + there), peer(now + there + held)).unwrap();
                now += there + held + back;
                pings.pong(&pong, now);
                least = least.min(there + back);
                let uncertainty = pings.offset().uncertainty_ns().unwrap();
                prop_assert_eq!(uncertainty, least.div_ceil(2));
                let off = pings.offset().offset_ns().unwrap().abs_diff(ahead);
                prop_assert!(off <= uncertainty, "{} off, {} allowed", off, uncertainty);
            }
        }

        #[test]
        fn no_times_of_a_peer_overflow(times in any::<[u64; 4]>()) {
            let [sent, received, returned, answered] = times;
            let mut offset = Offset::default();
            if let Ok(pong) = Pong::new(1, received, returned) {
                offset.sample(sent, &pong, answered);
                let _ = (offset.offset_ns(), offset.uncertainty_ns());
            }
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_for_a_ping() {
        let mut pings = Pings::default();
        let ping = pings.ping(1_000);
        let stranger = Pong::new(ping.id + 1, 1_000, 1_000).unwrap();
        pings.pong(&stranger, 1_001);
        assert_eq!(pings.offset().offset_ns(), None);
        let answer = Pong::new(ping.id, 6_010, 6_010).unwrap();
        pings.pong(&answer, 1_020);
        assert_eq!(pings.offset().offset_ns(), Some(5_000));
        assert_eq!(pings.offset().uncertainty_ns(), Some(10));
        pings.pong(&answer, 1_002);
        assert_eq!(pings.offset().uncertainty_ns(), Some(10));
    }

    #[test]
    fn a_clock_that_was_set_in_between_tells_nothing() {
        let mut offset = Offset::default();
        offset.sample(1_000, &Pong::new(1, 1_000, 1_000).unwrap(), 900);
        assert_eq!(offset.offset_ns(), None);
    }
}
