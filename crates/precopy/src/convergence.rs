//! What to do about a guest that changes its memory faster than the link carries the changes.
//!
//! ```text
//!               smaller, or it fits
//!          ┌────────────────────────────┐
//!          ▼                            │
//!   converging ── stuck for 5 s ──▶ not converging ─▶ keep:     say so, and go on
//!                                       │        ├─▶ throttle: 36 % ─ in force ─ 2 s ─▶ 46 % ─ in force ─ 2 s ─▶ … 95 %, until it stops
//!                                       │        └─▶ abort:    the guest stays where it is
//! ```
//!
//! A guest is stuck when what remains does not fit the blackout asked for, and has not become less for rounds on end. A burst of work looks the
//! same, so it must last.
//!
//! The first step of throttling is what brings the guest's changes below what the link delivers, as far as they are known; the others
//! are for what a guest does that is not known. QEMU takes its time to put a step into force, and only then shows what it brings. The guest is not let run freely again before it stops: what it would write then brings back what was gained.

use core::time::Duration;

use crate::forecast::Forecast;
use crate::gate::{Decision, Gate};
use crate::rate::portion;
use crate::why::Why;

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
    step: Option<Step>,
}

/// The last step of throttling.
#[derive(Clone, Copy, Debug)]
struct Step {
    percent: u8,
    /// Since when the guest has felt it.
    in_force: Option<Duration>,
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

    /// Time has passed in which there was no link: that nothing became less in it says nothing of the guest.
    pub const fn interrupted(&mut self) {
        self.stuck_since = None;
    }

    /// The guest is stopped for so many per cent of the time: a step is in force.
    pub fn throttled(&mut self, now: Duration, percent: u8) {
        if let Some(step) = &mut self.step
            && step.percent <= percent
        {
            step.in_force.get_or_insert(now);
        }
    }

    /// What is to be done, now that the gate has decided so. A remedy holds until another is named.
    pub fn consider(&mut self, now: Duration, gate: &Gate, decision: Decision) -> Remedy {
        let why = match (gate.not_converging(now), decision) {
            (Some(why), _) => why,
            // On a slow link deliveries are far apart: nothing has become better.
            (
                None,
                Decision::Hold {
                    why: Why::RateUnknown,
                },
            ) => return self.current(),
            (None, _) => {
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
            Some(Step { percent, .. }) => Remedy::Throttle { percent },
            None => Remedy::None,
        }
    }

    fn throttle(&mut self, now: Duration, forecast: &Forecast) {
        let percent = match self.step {
            None => first_step(forecast.race()),
            Some(Step { percent, in_force }) => {
                let felt = in_force.is_some_and(|since| now.saturating_sub(since) >= STEP_TIME);
                if !felt || percent >= MOST {
                    return;
                }
                percent.saturating_add(STEP).min(MOST)
            }
        };
        self.step = Some(Step {
            percent,
            in_force: None,
        });
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

    #[test]
    fn a_step_follows_when_the_one_before_has_been_felt_for_two_seconds() {
        let forecast = Forecast::new(1 << 30, sealift_pages::PageSize::new(4096).unwrap());
        let at = Duration::from_secs;
        let mut convergence = Convergence::new(IfNotConverging::Throttle);
        let mut percent_at = |seconds, felt: Option<u8>| {
            if let Some(percent) = felt {
                convergence.throttled(at(seconds), percent);
            }
            convergence.throttle(at(seconds), &forecast);
            convergence.step.unwrap().percent
        };
        let first = percent_at(0, None);
        assert_eq!(percent_at(60, Some(1)), first, "QEMU has not begun");
        assert_eq!(percent_at(61, Some(first)), first);
        assert_eq!(percent_at(62, Some(first)), first);
        let second = percent_at(63, Some(first));
        assert_eq!(second, (first + STEP).min(MOST));
        assert_eq!(percent_at(90, Some(first)), second);
    }
}
