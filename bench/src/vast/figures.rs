//! What runs came to, and whether that is what is wanted.

use std::fmt::{self, Write as _};

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

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            turn: Turn { gib, budget_mib },
            time_s,
            source,
            receiver,
            ..
        } = self;
        write!(
            f,
            "{gib} GiB, budget {budget_mib} MiB: {time_s:.2} s, {:.0} MB on the wire, memory of the source {} MiB, of the receiver {} MiB",
            self.wire_mb(),
            mib(source.private.resident),
            mib(receiver.private.resident)
        )
    }
}

impl Figures {
    fn ms_per_gib(&self) -> f64 {
        self.time_s * 1e3 / float(self.turn.gib)
    }

    fn wire_mb(&self) -> f64 {
        float(self.wire_bytes) / 1e6
    }
}

/// A guest a line: medians, with the least and the most of times; of memory the most.
#[must_use]
pub fn text(all: &[Figures]) -> String {
    let mut text = format!(
        "{:>7} {:>8} {:>5} {:>20} {:>7} {:>8} {:>11} {:>13} {:>15} {:>15}\n",
        "guest",
        "budget",
        "turns",
        "time s",
        "ms/GiB",
        "wire MB",
        "source MiB",
        "receiver MiB",
        "CPU s, source",
        "receiver"
    );
    for turn in turns(all) {
        let runs = || all.iter().filter(|run| run.turn == turn);
        let middle =
            |figure: fn(&Figures) -> f64| median(&runs().map(figure).collect::<Vec<f64>>());
        let most = |end: fn(&Figures) -> End| {
            let own = runs().map(|run| end(run).private.anonymous);
            mib(own.max().unwrap_or(0))
        };
        let times = || runs().map(|run| run.time_s);
        let time = format!(
            "{:.2} ({:.2}-{:.2})",
            middle(|run| run.time_s),
            times().fold(f64::INFINITY, f64::min),
            times().fold(0.0, f64::max)
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>3} GiB {:>4} MiB {:>5} {time:>20} {:>7.1} {:>8.0} {:>11} {:>13} {:>15.1} {:>15.1}",
            turn.gib,
            turn.budget_mib,
            runs().count(),
            middle(Figures::ms_per_gib),
            middle(Figures::wire_mb),
            most(|run| run.source),
            most(|run| run.receiver),
            middle(|run| run.source.cpu_s),
            middle(|run| run.receiver.cpu_s),
        );
    }
    text
}

/// In the order in which they first came.
fn turns(all: &[Figures]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for run in all {
        if !turns.contains(&run.turn) {
            turns.push(run.turn);
        }
    }
    turns
}

/// Of each guest's memory at either end, the most of all runs; of its time, medians, for the largest guest against the smallest.
#[must_use]
pub fn verdicts(all: &[Figures]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = turns(all)
        .into_iter()
        .flat_map(|turn| {
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
        median(&runs.map(Figures::ms_per_gib).collect::<Vec<f64>>())
    };
    let ratio = each(most) / each(least);
    (least < most).then(|| Verdict {
        line: format!(
            "time for a GiB of {most} GiB   {ratio:.3} x that of {least} GiB, wanted at most {GROWTH:.2}"
        ),
        reached: ratio <= GROWTH,
    })
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
