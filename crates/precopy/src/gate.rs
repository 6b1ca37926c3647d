//! When QEMU may stop the guest.
//!
//! ```text
//!                       ┌──────────────── it does not fit any more ───────────────┐
//!                       ▼                                                         │
//!   QEMU asks · first pass complete ─▶ hold ── what remains fits the blackout ─▶ drain ─▶ open, for good
//! ```
//!
//! QEMU 8.1 and later wait for the destination's `SWITCHOVER_ACK` before they stop a running guest. The session keeps that message until the gate opens. It
//! is let through, never forged: until the destination has sent it the gate stays closed.
//!
//! QEMU then wants for itself that what is pending fits its downtime limit, at a bandwidth that it has seen over at least 100 ms. A session that does not
//! always take all that QEMU gives must do so for a while before the gate opens: the drain. One that does needs none.

use core::fmt;
use core::time::Duration;

use crate::forecast::{DEVICE_STATE, Forecast};
use crate::rounds::Round;

/// Rounds that have not become smaller after which it is said that they will not.
const STUCK_ROUNDS: u32 = 3;
/// A round is smaller than the one before when a tenth of it is gone: less is chance.
const SMALLER: u64 = 10;

/// Decides when QEMU may stop the guest.
#[derive(Clone, Debug)]
pub struct Gate {
    max_downtime: Duration,
    drain: Duration,
    forecast: Forecast,
    offered: bool,
    open: bool,
    /// Since when what remains has fitted.
    fits_since: Option<Duration>,
    /// Rounds in a row that did not fit and were not smaller than the one before.
    stuck: u32,
}

impl Gate {
    /// A closed gate that opens when the guest can be expected to stand still for no longer than `max_downtime`, and could have been for as long
    /// as `drain`.
    #[must_use]
    pub const fn new(max_downtime: Duration, drain: Duration, forecast: Forecast) -> Self {
        Self {
            max_downtime,
            drain,
            forecast,
            offered: false,
            open: false,
            fits_since: None,
            stuck: 0,
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

    /// A round has ended.
    pub fn round(&mut self, now: Duration, ended: Round) {
        // The first pass is all of memory: what comes after it is smaller, whatever the guest does.
        let before = self
            .forecast
            .last_round()
            .filter(|before| before.number > 0);
        self.forecast.round(now, ended);
        let fits = |blackout| blackout <= self.max_downtime;
        let smaller = before.is_none_or(|before| {
            ended.normal < before.normal.saturating_sub(before.normal / SMALLER)
        });
        self.stuck = if smaller || self.forecast.blackout(now).is_some_and(fits) {
            0
        } else {
            self.stuck.saturating_add(1)
        };
    }

    /// Whether QEMU may stop the guest. Once it may, it always may.
    pub fn decide(&mut self, now: Duration) -> Decision {
        if self.open {
            return Decision::Open;
        }
        match self.obstacle(now) {
            Some(why) => {
                self.fits_since = None;
                Decision::Hold { why }
            }
            None => {
                let since = *self.fits_since.get_or_insert(now);
                let drained = now.saturating_sub(since);
                if drained < self.drain {
                    let left = self.drain.saturating_sub(drained);
                    return Decision::Hold {
                        why: Why::Draining { left },
                    };
                }
                self.open = true;
                Decision::Open
            }
        }
    }

    fn obstacle(&self, now: Duration) -> Option<Why> {
        let max_downtime = self.max_downtime;
        if max_downtime < DEVICE_STATE {
            return Some(Why::DowntimeTooShort { max_downtime });
        }
        if !self.offered {
            return Some(Why::NotOffered);
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
            return None;
        }
        Some(if self.stuck >= STUCK_ROUNDS {
            Why::NotConverging {
                remaining,
                blackout,
                max_downtime,
                dirty_rate: self.forecast.dirty_rate(),
                delivered_rate: self.forecast.delivered_rate().unwrap_or(0),
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

/// Why QEMU waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// No switch is as short as the user asks for.
    DowntimeTooShort {
        /// What the user asks for.
        max_downtime: Duration,
    },
    /// The destination's QEMU has not sent the message.
    NotOffered,
    /// Memory was not walked over once.
    FirstPass,
    /// Nothing was delivered yet.
    RateUnknown,
    /// More remains than can be delivered in the time.
    TooMuch {
        /// Bytes of guest memory.
        remaining: u64,
        /// How long the guest would stand still.
        blackout: Duration,
        /// How long it may.
        max_downtime: Duration,
    },
    /// The same, and it does not become less: the guest writes as fast as the link delivers.
    NotConverging {
        /// Bytes of guest memory.
        remaining: u64,
        /// How long the guest would stand still.
        blackout: Duration,
        /// How long it may.
        max_downtime: Duration,
        /// Bytes that the guest dirties in a second.
        dirty_rate: u64,
        /// Bytes that are delivered in a second.
        delivered_rate: u64,
    },
    /// It fits. QEMU is to see the link's full speed before it is let through: take all that it gives.
    Draining {
        /// For how long still.
        left: Duration,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self {
            Self::DowntimeTooShort { max_downtime } => write!(
                f,
                "no guest stands still for less than {DEVICE_STATE:?}: allow more than {max_downtime:?}"
            ),
            Self::NotOffered => f.write_str("the destination's QEMU is not ready"),
            Self::FirstPass => f.write_str("the first pass over memory is not complete"),
            Self::RateUnknown => f.write_str("nothing was delivered yet"),
            Self::TooMuch {
                remaining,
                blackout,
                max_downtime,
            } => write!(
                f,
                "{} MiB remain: the guest would stand still for {blackout:.0?}, and may for {max_downtime:.0?}",
                remaining / MIB
            ),
            Self::NotConverging {
                blackout,
                max_downtime,
                dirty_rate,
                delivered_rate,
                ..
            } => write!(
                f,
                "the guest writes {} MiB/s and the link delivers {} MiB/s: it would stand still for {blackout:.0?}, and may for {max_downtime:.0?}; \
                 allow more downtime, give the link more bandwidth, or slow the guest",
                dirty_rate / MIB,
                delivered_rate / MIB
            ),
            Self::Draining { left } => {
                write!(f, "what remains fits; at full speed for another {left:.0?}")
            }
        }
    }
}
