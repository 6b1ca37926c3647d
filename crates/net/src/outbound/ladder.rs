//! How hard a batch is compressed that is compressed at all ([`effort`](super::effort) decides that): by what limits the session now, and by what more work has brought.
//!
//! ```text
//!    lanes are busy writing, workers have time      ──▶ a step up
//!    lanes have time, workers are busy              ──▶ a step down
//!
//!    level 1 ◀──▶ level 3 ◀──▶ level 3, going on a window
//!          └─────────┴──────────────┴ not smaller by enough than the step below? down again, and for long
//! ```
//!
//! While lanes are busy, workers give way to whoever else wants the processor, until lanes wait for them.
//!
//! Whether a lane is busy is told by its socket, in which little may wait unsent: a link that is full holds up whoever writes, and a receiver that is slow does not,
//! since it reads whatever comes. So work is not spent where the link is not what the session waits for.

use std::time::Duration;

/// How a batch is to be compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Way {
    /// zstd's level; none for as it is.
    pub(super) level: Option<i32>,
    /// Going on a window, where one is free.
    pub(super) far: bool,
    /// And as the step below would, to compare: alone, at this level.
    pub(super) compare: Option<i32>,
    /// There is time: others may go first.
    pub(super) gives_way: bool,
}

impl Way {
    /// Not compressed.
    pub(super) const AS_IT_IS: Self = Self {
        level: None,
        far: false,
        compare: None,
        gives_way: false,
    };
}

/// One step of the ladder.
#[derive(Clone, Copy)]
struct Step {
    /// zstd's.
    level: i32,
    far: bool,
    /// Tenths of the work that the step below takes, of all that a worker does: measured on a Debian guest.
    costs: u32,
    /// Batches that go this way before it is looked at what it brings.
    warm: u32,
    /// It is kept when it leaves at most so many parts of a thousand: its work is what the guest or QEMU may need.
    leaves: u64,
}

const LADDER: [Step; 3] = [
    Step {
        level: 1,
        far: false,
        costs: 10,
        warm: 0,
        leaves: 1000,
    },
    Step {
        level: FAR_LEVEL,
        far: false,
        costs: 13,
        warm: 0,
        // Where it brings less, as on pages of words, it also costs less: a tenth of zstd's time.
        leaves: 995,
    },
    Step {
        level: FAR_LEVEL,
        far: true,
        costs: 20,
        // What a window looks back on has to be there first.
        warm: 32,
        // Twice the time, and memory at both ends.
        leaves: 970,
    },
];
/// Where it begins: what limits is not known yet, and a quarter of a second's work at a higher level is soon made up for.
const FIRST: usize = 1;
/// zstd's level within windows.
pub(super) const FAR_LEVEL: i32 = 3;
/// How long is looked at what waits for what: some batches of a slow link, and a small part of any migration.
const LOOK: Duration = Duration::from_millis(250);
/// Parts in a hundred of its time that a lane writes when the link is what limits, and when it is not.
const FULL: u128 = 80;
const IDLE: u128 = 40;
/// Parts in a hundred that it must still write for workers to go on giving way.
const STILL_FULL: u128 = 65;
/// Parts in a hundred of their time that workers may work after a step up, and do before one down.
const BUSY: u128 = 85;
/// Of so many batches one is compressed as the step below would as well.
const EVERY: u32 = 4;
/// So many are compared before it is decided.
const COMPARED: u32 = 4;
/// Batches after which a step is tried or compared again: another part of the guest may be another matter.
const AGAIN: u32 = 1024;

/// Follows what limits the session.
#[derive(Debug)]
pub(super) struct Ladder {
    workers: u32,
    lanes: u32,
    windows: bool,
    step: usize,
    /// Lanes are busy.
    full: bool,
    /// Since when it is looked at the times.
    since: Duration,
    working: Duration,
    writing: Duration,
    trials: [Trial; LADDER.len()],
}

/// What a step has brought.
#[derive(Clone, Copy, Debug, Default)]
struct Trial {
    batches: u32,
    compared: u32,
    /// What those compared came to, and would have come to at the step below.
    here: u64,
    below: u64,
    /// It did not pay: so many batches until it is tried again.
    rest: u32,
    /// It paid: so many batches until it is compared again.
    settled: u32,
}

impl Ladder {
    /// For so many workers and lanes; `windows`: there are some.
    pub(super) fn new(workers: usize, lanes: usize, windows: bool) -> Self {
        let many = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        Self {
            workers: many(workers),
            lanes: many(lanes),
            windows,
            step: FIRST,
            full: false,
            since: Duration::ZERO,
            working: Duration::ZERO,
            writing: Duration::ZERO,
            trials: [Trial::default(); LADDER.len()],
        }
    }

    /// Lanes are busy: the link is what limits.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// How the next batch is to be compressed.
    pub(super) fn next(&mut self) -> Way {
        let Step {
            level, far, warm, ..
        } = LADDER[self.step];
        for trial in &mut self.trials {
            trial.rest = trial.rest.saturating_sub(1);
            trial.settled = trial.settled.saturating_sub(1);
        }
        let trial = &mut self.trials[self.step];
        trial.batches = trial.batches.saturating_add(1);
        let compared =
            trial.batches > warm && trial.settled == 0 && trial.batches.is_multiple_of(EVERY);
        let below = self.step.checked_sub(1).map(|step| LADDER[step].level);
        Way {
            level: Some(level),
            far,
            compare: below.filter(|_| compared),
            gives_way: self.full,
        }
    }

    /// A lane took so long to write a batch.
    pub(super) fn written(&mut self, took: Duration) {
        self.writing += took;
    }

    /// A batch was compressed both this way and as the step below would, and came to so many bytes.
    pub(super) fn compared(&mut self, way: Way, here: u64, below: u64) {
        let same = |step: &Step| (Some(step.level), step.far) == (way.level, way.far);
        let Some(step) = LADDER.iter().position(same) else {
            return;
        };
        let trial = &mut self.trials[step];
        trial.here += here;
        trial.below += below;
        trial.compared += 1;
        if trial.compared < COMPARED {
            return;
        }
        let pays = trial.here * 1000 <= trial.below * LADDER[step].leaves;
        *trial = Trial {
            // What is in the windows stays there.
            batches: if pays { LADDER[step].warm } else { 0 },
            rest: if pays { 0 } else { AGAIN },
            settled: if pays { AGAIN } else { 0 },
            ..Trial::default()
        };
        if !pays {
            self.step = self.step.min(step.saturating_sub(1));
        }
    }

    /// A worker took so long for a batch that was compressed.
    pub(super) fn encoded(&mut self, took: Duration, now: Duration) {
        self.working += took;
        let looked = now.saturating_sub(self.since);
        if looked >= LOOK {
            // Nothing was compressed for long: what lanes did meanwhile says nothing.
            if looked < 4 * LOOK {
                self.decide(looked);
            }
            self.since = now;
            (self.working, self.writing) = (Duration::ZERO, Duration::ZERO);
        }
    }

    fn decide(&mut self, looked: Duration) {
        let part = |time: Duration, of: u32| {
            time.as_micros() * 100 / (looked.as_micros() * u128::from(of)).max(1)
        };
        let (lanes, workers) = (
            part(self.writing, self.lanes),
            part(self.working, self.workers),
        );
        self.full = lanes >= if self.full { STILL_FULL } else { FULL };
        if lanes >= FULL {
            let above = self.step + 1;
            let Some(step) = LADDER.get(above) else {
                return;
            };
            let usable = (!step.far || self.windows) && self.trials[above].rest == 0;
            if usable && workers * u128::from(step.costs) / 10 <= BUSY {
                self.step = above;
            }
        } else if lanes < IDLE && workers >= BUSY {
            self.step = self.step.saturating_sub(1);
        }
    }
}

#[cfg(test)]
impl Ladder {
    /// Goes this way from now on, whatever limits and whatever it brings.
    pub(super) fn keep_to(&mut self, far: bool) {
        let step = LADDER.iter().position(|step| step.far == far);
        self.step = step.unwrap_or_default();
        // It is never looked at what waits for what, and nothing is compared.
        self.since = Duration::MAX;
        for trial in &mut self.trials {
            trial.settled = u32::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through so many looks in which lanes and workers are busy for so many parts of a hundred.
    struct Session {
        ladder: Ladder,
        now: Duration,
    }

    impl Session {
        fn new(windows: bool) -> Self {
            Self {
                ladder: Ladder::new(2, 2, windows),
                now: Duration::ZERO,
            }
        }

        fn look(&mut self, lanes: u32, workers: u32) -> Option<(Option<i32>, bool)> {
            self.now += LOOK;
            self.ladder.written(LOOK * 2 * lanes / 100);
            let worked = LOOK * 2 * workers / 100;
            self.ladder.encoded(worked, self.now);
            let Way { level, far, .. } = self.ladder.next();
            Some((level, far))
        }
    }

    impl Session {
        /// Sends batches, and tells of those that are to be compared what came of it, where the step below makes 1000.
        fn compares(&mut self, batches: u32, with: Option<i32>, here: u64) {
            let mut compared = 0;
            for _ in 0..batches {
                let way = self.ladder.next();
                if way.compare.is_some() {
                    assert_eq!(way.compare, with);
                    compared += 1;
                    self.ladder.compared(way, here, 1000);
                }
                if compared == COMPARED {
                    return;
                }
            }
            panic!("{compared} of {batches} were compared");
        }
    }

    const LEVEL_1: Option<(Option<i32>, bool)> = Some((Some(1), false));
    const LEVEL_3: Option<(Option<i32>, bool)> = Some((Some(3), false));
    const FAR: Option<(Option<i32>, bool)> = Some((Some(3), true));

    #[test]
    fn a_full_link_is_relieved_by_workers_that_have_time() {
        let mut session = Session::new(true);
        session.look(20, 99);
        let looks = [LEVEL_3, FAR, FAR];
        assert_eq!(looks.map(|_| session.look(95, 20)), looks);
    }

    #[test]
    fn workers_that_would_not_keep_up_are_asked_for_no_more() {
        let mut session = Session::new(true);
        assert_eq!(session.look(20, 99), LEVEL_1);
        assert_eq!(session.look(95, 80), LEVEL_1);
        assert_eq!(session.look(95, 60), LEVEL_3);
        assert_eq!(session.look(95, 60), LEVEL_3);
    }

    #[test]
    fn a_link_that_has_time_gets_more_when_workers_have_none() {
        let mut session = Session::new(true);
        session.look(95, 20);
        // Neither is busy: something else limits, and nothing changes.
        assert_eq!(session.look(10, 20), FAR);
        assert_eq!(session.look(20, 99), LEVEL_3);
        assert_eq!(session.look(20, 99), LEVEL_1);
        assert_eq!(session.look(20, 99), LEVEL_1);
    }

    #[test]
    fn workers_give_way_while_the_link_is_full_until_it_waits_for_them() {
        let mut session = Session::new(false);
        let mut give_way = |lanes| {
            session.look(lanes, 60);
            session.ladder.next().gives_way
        };
        let looks = [20, 70, 90, 70, 60, 50, 70];
        let given = looks.map(&mut give_way);
        assert_eq!(given, [false, false, true, true, false, false, false]);
    }

    #[test]
    fn without_windows_nothing_goes_far() {
        let mut session = Session::new(false);
        assert_eq!([(); 4].map(|()| session.look(95, 5))[3], LEVEL_3);
    }

    #[test]
    fn windows_that_bring_nothing_are_left_and_tried_again_much_later() {
        let mut session = Session::new(true);
        assert_eq!(session.look(95, 20), FAR);
        // Alone, as the step below does it, and not before there is something to look back on.
        session.compares(100, Some(FAR_LEVEL), 990);
        assert_eq!(session.look(95, 20), LEVEL_3);
        for _ in 0..AGAIN {
            assert!(!session.ladder.next().far);
        }
        assert_eq!(session.look(95, 20), FAR);
        session.compares(100, Some(FAR_LEVEL), 900);
        assert_eq!(session.look(95, 20), FAR, "these pay");
        for _ in 0..AGAIN - 2 {
            assert_eq!(session.ladder.next().compare, None);
        }
        session.compares(100, Some(FAR_LEVEL), 900);
    }

    #[test]
    fn a_level_that_brings_nothing_is_left() {
        let mut session = Session::new(true);
        session.compares(50, Some(1), 999);
        assert_eq!(session.look(95, 20), LEVEL_1);
        assert_eq!(session.look(95, 20), LEVEL_1);
    }
}
