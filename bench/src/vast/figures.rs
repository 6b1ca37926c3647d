//! What runs came to, and whether that is what is wanted.

use std::fmt::Write as _;

use super::private::Private;
use crate::median;

/// Beside the budget each end may take one byte for so many of the guest: 0.25 %.
const SHARE: u64 = 400;
/// A large guest's time for a GiB, to a small one's: "no faster than its size", as far as a run can be told from the next one.
pub(super) const GROWTH: f64 = 1.15;

/// A guest to move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn {
    /// Its size.
    pub gib: u64,
    /// What the source is allowed.
    pub budget_mib: u64,
}

/// One of sealift's processes.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its memory.
    pub private: Private,
    /// Seconds of a processor.
    pub cpu_s: f64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Of which guest.
    pub turn: Turn,
    /// From QEMU's first byte until it may let go of the guest.
    pub time_s: f64,
    /// As the source counts.
    pub wire_bytes: u64,
    /// `sealift send`.
    pub source: End,
    /// `sealift receive`.
    pub receiver: End,
}

/// One thing that was wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What was found and what was wanted.
    pub line: String,
    /// Whether it is so.
    pub reached: bool,
}

impl Turn {
    /// Bytes that each end may take.
    const fn allowed(self) -> u64 {
        (self.budget_mib << 20) + (self.gib << 30) / SHARE
    }
}

/// All runs, one a line.
#[must_use]
pub fn text(all: &[Figures]) -> String {
    let mut text = format!(
        "{:>7} {:>10} {:>8} {:>9} {:>8} {:>24} {:>6} {:>24} {:>6} {:>8}\n",
        "guest",
        "budget",
        "time s",
        "ms/GiB",
        "wire MB",
        "source MiB (resident)",
        "CPU s",
        "receiver MiB (resident)",
        "CPU s",
        "allowed"
    );
    for run in all {
        let memory = |end: &End| {
            let Private {
                anonymous,
                resident,
            } = end.private;
            format!("{} ({})", mib(anonymous), mib(resident))
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>3} GiB {:>6} MiB {:>8.2} {:>9.1} {:>8.0} {:>24} {:>6.1} {:>24} {:>6.1} {:>8}",
            run.turn.gib,
            run.turn.budget_mib,
            run.time_s,
            per_gib(run) * 1e3,
            float(run.wire_bytes) / 1e6,
            memory(&run.source),
            run.source.cpu_s,
            memory(&run.receiver),
            run.receiver.cpu_s,
            mib(run.turn.allowed()),
        );
    }
    text
}

/// Of each guest's memory at either end, the most of all runs; of its time, medians, for the largest guest against the smallest.
#[must_use]
pub fn verdicts(all: &[Figures]) -> Vec<Verdict> {
    let mut turns: Vec<Turn> = Vec::new();
    for run in all {
        if !turns.contains(&run.turn) {
            turns.push(run.turn);
        }
    }
    let mut verdicts: Vec<Verdict> = turns
        .iter()
        .flat_map(|&turn| {
            [
                memory(all, turn, "source", |run| run.source),
                memory(all, turn, "receiver", |run| run.receiver),
            ]
        })
        .collect();
    verdicts.extend(growth(all));
    verdicts
}

fn memory(all: &[Figures], turn: Turn, name: &str, end: fn(&Figures) -> End) -> Verdict {
    let runs = all.iter().filter(|run| run.turn == turn);
    // What the kernel saw, which misses nothing.
    let most = runs.map(|run| end(run).private.resident).max().unwrap_or(0);
    Verdict {
        line: format!(
            "{} GiB, budget {} MiB: memory of the {name}   {} MiB, wanted at most {} MiB",
            turn.gib,
            turn.budget_mib,
            mib(most),
            mib(turn.allowed())
        ),
        reached: most <= turn.allowed(),
    }
}

/// Of the guests with the first one's budget.
fn growth(all: &[Figures]) -> Option<Verdict> {
    let budget = all.first()?.turn.budget_mib;
    let alike = || all.iter().filter(|run| run.turn.budget_mib == budget);
    let sizes = || alike().map(|run| run.turn.gib);
    let (least, most) = (sizes().min()?, sizes().max()?);
    let each = |gib| {
        let runs = alike().filter(|run| run.turn.gib == gib);
        median(&runs.map(per_gib).collect::<Vec<f64>>())
    };
    let ratio = each(most) / each(least);
    (least < most).then(|| Verdict {
        line: format!(
            "time for a GiB of {most} GiB   {ratio:.3} x that of {least} GiB, wanted at most {GROWTH:.2}"
        ),
        reached: ratio <= GROWTH,
    })
}

fn per_gib(run: &Figures) -> f64 {
    run.time_s / float(run.turn.gib)
}

/// In whole ones, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(gib: u64, time_s: f64, mib: u64) -> Figures {
        let private = Private {
            anonymous: mib << 20,
            resident: mib << 20,
        };
        let end = End {
            private,
            cpu_s: 1.0,
        };
        Figures {
            turn: Turn {
                gib,
                budget_mib: 512,
            },
            time_s,
            wire_bytes: 1,
            source: end,
            receiver: end,
        }
    }

    #[test]
    fn a_guest_may_take_its_budget_and_a_four_hundredth() {
        let turn = run(256, 1.0, 0).turn;
        assert_eq!(mib(turn.allowed()), 512 + 656);
        let reached = |mib| verdicts(&[run(256, 1.0, mib)])[0].reached;
        assert!(reached(1167));
        assert!(!reached(1168));
    }

    #[test]
    fn time_for_a_gib_is_held_against_the_smallest_guests() {
        let growth = |large| {
            let runs = [run(16, 1.0, 1), run(64, 9.0, 1), run(256, large, 1)];
            verdicts(&runs).pop().unwrap()
        };
        assert!(growth(18.3).reached);
        assert!(!growth(18.5).reached, "{:?}", growth(18.5));
    }
}
