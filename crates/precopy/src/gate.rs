//! When QEMU may stop the guest.
//!
//! ```text
//!                                      ┌─ it does not fit ─┐
//!                                      ▼                   │
//!   QEMU asks · first pass complete ─▶ hold ───────────────┴─ what remains fits the blackout ─▶ open, for good
//! ```
//!
//! QEMU 8.1 and later wait for the destination's `SWITCHOVER_ACK` before they stop a running guest. The session keeps that message until the gate opens. It
//! is let through, never forged: until the destination has sent it the gate stays closed. What is said of guests that do not converge holds for older
//! QEMUs too, which stop the guest by their own reckoning.
//!
//! QEMU then wants for itself that what is pending fits its downtime limit, at a bandwidth that it has seen over at least 100 ms.
//!
//! A source that owns its pre-copy says what everything costs, after deltas and compression, and what QEMU's last look will bring. What fits then is known well enough
//! to want more than that it fits: while each round leaves a good deal less than the one before, the gate waits for the next. This costs rounds
//! that become ever shorter, and the blackout becomes as short as this guest allows on this link.

use core::time::Duration;

use crate::forecast::{DEVICE_STATE, Forecast};
use crate::rate::volume;
use crate::rounds::Round;
use crate::why::Why;

/// Rounds that have not become smaller after which it is said that they will not.
const STUCK_ROUNDS: u32 = 3;
/// A round is smaller than the smallest so far when a tenth of that is gone: less is chance.
const SMALLER: u32 = 10;

/// A round after which the guest would stand still for less than three quarters of the least so far is worth another one: as long as what it leaves,
/// it saves more than a quarter of the standstill. Of which the way there and back is a part that no round makes shorter: on a long line little is worth a round.
const WORTH: (u32, u32) = (3, 4);
/// Rounds in a row that fit and were not worth another after which none is expected to be: one alone is often a guest's burst.
const SETTLED: u32 = 2;
/// What fits into a twentieth of the time that the guest may stand still is not worth another round: of QEMU's default that is less than
/// what the switch itself takes.
const SMALL: u32 = 20;
/// Of the time that the guest may stand still, the part that pages which wait for it may take: half. The rest is for what is on its way
/// then, and for what the last round finds.
const WAITING: u32 = 2;

/// Decides when QEMU may stop the guest.
#[derive(Clone, Debug)]
pub struct Gate {
    max_downtime: Duration,
    forecast: Forecast,
    offered: bool,
    open: bool,
    /// Rounds in a row that did not fit and were not smaller than the one before.
    stuck: u32,
    /// Of a source that owns its pre-copy: its last round, and how many in a row were not worth it.
    seen: Option<u64>,
    settled: u32,
    /// The shortest time that the guest would have stood still at the end of one.
    best: Option<Duration>,
    /// Of a source that does not: the fewest pages of a round that was smaller than those before it.
    fewest: Option<u64>,
}

impl Gate {
    /// A closed gate that opens when the guest can be expected to stand still for no longer than `max_downtime`.
    #[must_use]
    pub const fn new(max_downtime: Duration, forecast: Forecast) -> Self {
        Self {
            max_downtime,
            forecast,
            offered: false,
            open: false,
            stuck: 0,
            seen: None,
            settled: 0,
            best: None,
            fewest: None,
        }
    }

    /// What the gate goes by.
    #[must_use]
    pub const fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// To tell it samples, progress, and what QEMU says; rounds are told to the gate itself.
    pub const fn forecast_mut(&mut self) -> &mut Forecast {
        &mut self.forecast
    }

    /// The destination's QEMU has sent the message: there is something to let through.
    pub const fn offered(&mut self) {
        self.offered = true;
    }

    /// Bytes on the wire that pages may cost which wait for the guest's stop.
    #[must_use]
    pub fn may_wait(&self) -> u64 {
        let time = self.max_downtime.saturating_sub(DEVICE_STATE) / WAITING;
        volume(self.forecast.wire_rate().unwrap_or(0), time)
    }

    /// A round has ended. Of a source that owns its pre-copy the gate goes by what it says, in whose series rounds that are too short count as one.
    pub fn round(&mut self, now: Duration, ended: Round) {
        if self.forecast.costs().is_some() {
            return self.forecast.round(now, ended);
        }
        self.forecast.round(now, ended);
        let fits = |blackout| blackout <= self.max_downtime;
        // The first pass is all of memory: what comes after it is smaller, whatever the guest does. After that against the fewest so far: from one
        // round to the next much is chance.
        let smaller = self
            .fewest
            .is_none_or(|fewest| ended.normal < fewest - fewest / u64::from(SMALLER));
        if ended.number > 0 && smaller {
            self.fewest = Some(ended.normal);
        }
        self.stuck = if smaller || self.forecast.blackout(now).is_some_and(fits) {
            0
        } else {
            self.stuck.saturating_add(1)
        };
    }

    /// Looks whether the series of a source that owns its pre-copy has moved on, and what a round has brought.
    fn follow(&mut self, now: Duration) {
        let known = self.forecast.first_pass_is_complete();
        let Some(costs) = self.forecast.costs().filter(|_| known) else {
            return;
        };
        let Some(blackout) = self.forecast.blackout(now) else {
            return;
        };
        // Against the best so far: from one round to the next much is chance.
        let (Some(round), Some(best)) = (self.seen, self.best) else {
            (self.seen, self.best) = (Some(costs.round), Some(blackout));
            return;
        };
        if round == costs.round {
            return;
        }
        self.seen = Some(costs.round);
        let (part, of) = WORTH;
        let way = self.forecast.least_round_trip();
        let worth = blackout + way < (best + way) / of * part;
        self.settled = if worth || blackout > self.max_downtime {
            0
        } else {
            self.settled.saturating_add(1)
        };
        if blackout < best - best / SMALLER {
            self.best = Some(blackout);
            self.stuck = 0;
        } else if blackout <= self.max_downtime {
            self.stuck = 0;
        } else {
            self.stuck = self.stuck.saturating_add(1);
        }
    }

    /// Whether QEMU may stop the guest. Once it may, it always may.
    pub fn decide(&mut self, now: Duration) -> Decision {
        self.follow(now);
        if self.open {
            return Decision::Open;
        }
        match self.obstacle(now) {
            Some(why) => Decision::Hold { why },
            None => {
                self.open = true;
                Decision::Open
            }
        }
    }

    /// That the guest does not converge, if so: with an open gate, too. It may have come to write more than before, and a QEMU that was let through goes by its own
    /// reckoning, which then does not fit either.
    #[must_use]
    pub fn not_converging(&self, now: Duration) -> Option<Why> {
        let obstacle = self.obstacle(now);
        obstacle.filter(|why| matches!(why, Why::NotConverging { .. }))
    }

    fn obstacle(&self, now: Duration) -> Option<Why> {
        let max_downtime = self.max_downtime;
        if max_downtime < DEVICE_STATE {
            return Some(Why::DowntimeTooShort { max_downtime });
        }
        if !self.forecast.first_pass_is_complete() {
            return Some(Why::FirstPass);
        }
        let remaining = self.forecast.remaining(now);
        let blackout = match self.forecast.blackout(now) {
            Some(blackout) => blackout,
            // Nothing was delivered yet; where nothing remains, that does not matter.
            None if remaining == 0 => DEVICE_STATE,
            None => return Some(Why::RateUnknown),
        };
        if blackout <= max_downtime {
            if !self.offered {
                return Some(Why::NotOffered);
            }
            let costs = self.forecast.costs()?;
            if self.settled < SETTLED && blackout - DEVICE_STATE > max_downtime / SMALL {
                return Some(Why::Shrinking { blackout });
            }
            return costs.stale.then_some(Why::Refreshing);
        }
        Some(if self.stuck >= STUCK_ROUNDS {
            let (dirty_rate, delivered_rate) = self.forecast.race();
            Why::NotConverging {
                remaining,
                blackout,
                max_downtime,
                dirty_rate,
                delivered_rate,
                on_the_wire: self.forecast.costs().is_some(),
            }
        } else {
            Why::TooMuch {
                remaining,
                blackout,
                max_downtime,
            }
        })
    }
}

/// What the gate says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// QEMU waits.
    Hold {
        /// For what.
        why: Why,
    },
    /// QEMU may stop the guest when it thinks that it can.
    Open,
}

impl Decision {
    /// QEMU may stop the guest, or soon may: [`Engine::hurry`](crate::Engine::hurry).
    #[must_use]
    pub const fn hurries(&self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Hold {
                    why: Why::Refreshing
                }
        )
    }
}
