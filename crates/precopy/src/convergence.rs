//! What to do about a guest that changes its memory faster than the link carries the changes.
//!
//! ```text
//!               smaller, or it fits
//!          ┌────────────────────────────┐
//!          ▼                            │
//!   converging ── stuck for 5 s ──▶ not converging ─▶ keep:     say so, and go on
//!                                       │        ├─▶ throttle: 36 % ─ 2 s ─▶ 46 % ─ 2 s ─▶ … 95 %, until it stops
//!                                       │        └─▶ abort:    the guest stays where it is
//! ```
//!
//! A guest is stuck when what remains does not fit the blackout asked for, and has not become less for rounds on end. A burst of work looks the
//! same, so it must last.
//!
//! The first step of throttling is what brings the guest's changes below what the link delivers, as far as they are known; the others
//! are for what a guest does that is not known. It is not let run freely again before it stops: what it would write then brings back what was gained.

use core::time::Duration;

use crate::forecast::Forecast;
use crate::gate::{Decision, Gate, Why};
use crate::rate::portion;

/// How long a guest is stuck before anything is done about it: longer than most bursts, and short beside a migration that would never end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a step of throttling is given to show: some rounds of a guest that is nearly there.
const STEP_TIME: Duration = Duration::from_secs(2);
/// The first step at least: QEMU's own `cpu-throttle-initial`. Less is hardly felt.
const FIRST: u8 = 20;
/// What each further step adds: QEMU's own `cpu-throttle-increment`.
const STEP: u8 = 10;
/// The most: a guest that stands still for longer than nineteen twentieths of the time is better stopped for once. Its clock and
/// its peers' time-outs do not survive QEMU's own 99 %.
const MOST: u8 = 95;
/// Of what the link delivers, the part that the guest's changes may take for rounds to become shorter by a fifth each.
const SUSTAINABLE: u64 = 80;

/// What the user wants done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IfNotConverging {
    /// Go on: the guest may become quieter, or the user change his mind.
    #[default]
    Keep,
    /// Slow the guest.
    Throttle,
    /// End the session; the guest runs on where it is.
    Abort,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// The guest is to be stopped for so many per cent of the time.
    Throttle {
        /// From 20 to 95.
        percent: u8,
    },
    /// The session is to end.
    Abort {
        /// What is to be said.
        why: Why,
    },
}

/// Watches whether a guest converges.
#[derive(Clone, Debug)]
pub struct Convergence {
    policy: IfNotConverging,
    stuck_since: Option<Duration>,
    /// The last step of throttling, and when it was made.
    step: Option<(Duration, u8)>,
}

impl Convergence {
    /// Of a guest that has just begun to move.
    #[must_use]
    pub const fn new(policy: IfNotConverging) -> Self {
        Self {
            policy,
            stuck_since: None,
            step: None,
        }
    }

    /// What is to be done, now that the gate has decided so. A remedy holds until another is named.
    pub fn consider(&mut self, now: Duration, gate: &Gate, decision: Decision) -> Remedy {
        let why = match decision {
            Decision::Hold {
                why: why @ Why::NotConverging { .. },
            } => why,
            Decision::Open | Decision::Hold { .. } => {
                self.stuck_since = None;
                return self.current();
            }
        };
        let since = *self.stuck_since.get_or_insert(now);
        if now.saturating_sub(since) < PATIENCE && self.step.is_none() {
            return Remedy::None;
        }
        match self.policy {
            IfNotConverging::Keep => Remedy::None,
            IfNotConverging::Abort => Remedy::Abort { why },
            IfNotConverging::Throttle => {
                self.throttle(now, gate.forecast());
                self.current()
            }
        }
    }

    const fn current(&self) -> Remedy {
        match self.step {
            Some((_, percent)) => Remedy::Throttle { percent },
            None => Remedy::None,
        }
    }

    fn throttle(&mut self, now: Duration, forecast: &Forecast) {
        let percent = match self.step {
            None => first_step(forecast.race()),
            Some((then, _)) if now.saturating_sub(then) < STEP_TIME => return,
            Some((_, percent)) => percent.saturating_add(STEP).min(MOST),
        };
        self.step = Some((now, percent));
    }
}

/// What leaves of the guest's changes as much as the link can take.
fn first_step((dirtied, delivered): (u64, u64)) -> u8 {
    let left = portion(delivered, SUSTAINABLE, dirtied);
    let percent = 100_u64.saturating_sub(left);
    u8::try_from(percent).unwrap_or(MOST).clamp(FIRST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_leaves_what_the_link_can_take() {
        assert_eq!(first_step((100, 80)), 36);
        assert_eq!(first_step((100, 200)), FIRST);
        assert_eq!(first_step((1 << 40, 1)), MOST);
    }
}
