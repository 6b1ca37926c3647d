//! Figures as a table for people, and what is wanted of them.

use std::fmt::Write as _;

use super::figures::{Figures, Outcome};
use super::transport::Transport;
use crate::median;

/// What sealift is held against: the best that QEMU has itself.
const AGAINST: Transport = Transport::MultifdTlsZstd;

/// One column.
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    decimals: usize,
}

/// What a ratio of sealift's figure to the other's should be.
struct Wanted {
    what: &'static str,
    figure: fn(&Figures) -> f64,
    limit: Limit,
}

enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
fn wire(figures: &Figures) -> f64 {
    figures.wire_bytes as f64
}

const COLUMNS: [Column; 7] = [
    Column {
        title: "time s",
        figure: |run| Some(run.time_s),
        decimals: 2,
    },
    Column {
        title: "blackout ms",
        figure: |run| Some(run.blackout_ms),
        decimals: 0,
    },
    Column {
        title: "QEMU's ms",
        figure: |run| run.qemu_downtime_ms,
        decimals: 0,
    },
    Column {
        title: "wire MB",
        figure: |run| Some(wire(run) / 1e6),
        decimals: 1,
    },
    Column {
        title: "CPU s",
        figure: |run| Some(run.cpu_s),
        decimals: 2,
    },
    Column {
        title: "work %",
        figure: |run| Some(run.work * 100.0),
        decimals: 0,
    },
    Column {
        title: "stall ms",
        figure: |run| Some(run.stall_ms),
        decimals: 1,
    },
];

const WANTED: [Wanted; 4] = [
    Wanted {
        what: "time",
        figure: |run| run.time_s,
        limit: Limit::AtMost(1.1),
    },
    Wanted {
        what: "bytes",
        figure: wire,
        limit: Limit::AtMost(1.05),
    },
    Wanted {
        what: "blackout",
        figure: |run| run.blackout_ms,
        limit: Limit::AtMost(0.6),
    },
    Wanted {
        what: "work",
        figure: |run| run.work,
        limit: Limit::AtLeast(0.95),
    },
];

/// The table: of each figure the median, and the least and the most.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    const NAME: usize = 24;
    const CELL: usize = 21;
    let mut text = format!("{:<NAME$}", "");
    for column in &COLUMNS {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:<CELL$}", column.title);
    }
    text.push_str("intact\n");
    for transport in Transport::ALL {
        let runs: Vec<&Outcome> = outcomes
            .iter()
            .filter(|run| run.transport == transport)
            .collect();
        if runs.is_empty() {
            continue;
        }
        let figures: Vec<&Figures> = runs.iter().filter_map(|run| run.figures()).collect();
        let _ = write!(text, "{:<NAME$}", transport.to_string());
        for column in &COLUMNS {
            let _ = write!(text, "{:<CELL$}", cell(column, &figures));
        }
        let intact = figures.iter().filter(|run| run.damage.is_none()).count();
        let _ = writeln!(text, "{intact} of {}", runs.len());
    }
    text.push_str(&complaints(outcomes));
    text
}

fn cell(column: &Column, figures: &[&Figures]) -> String {
    let values: Vec<f64> = figures
        .iter()
        .filter_map(|run| (column.figure)(run))
        .collect();
    let decimals = column.decimals;
    match values.as_slice() {
        [] => return "-".to_owned(),
        [one] => return format!("{one:.decimals$}"),
        _ => {}
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "{:.decimals$} ({least:.decimals$}-{most:.decimals$})",
        median(&values)
    )
}

/// What went wrong, a line each.
fn complaints(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for run in outcomes {
        let damage = run.figures().and_then(|figures| figures.damage.as_deref());
        for (what, why) in [("no arrival", run.failure()), ("DAMAGE", damage)] {
            if let Some(why) = why {
                let _ = writeln!(
                    text,
                    "{what}: {}, round {}: {why}",
                    run.transport, run.round
                );
            }
        }
    }
    text
}

/// For each thing wanted a line, and whether it is so; nothing when not both were measured.
///
/// A ratio is the median of the rounds' ratios: the machine may be slower in one round than in the next.
#[must_use]
pub fn verdicts(outcomes: &[Outcome]) -> Vec<(String, bool)> {
    let of = |transport| {
        outcomes
            .iter()
            .filter(move |run| run.transport == transport)
    };
    if of(AGAINST).next().is_none() || of(Transport::Sealift).next().is_none() {
        return Vec::new();
    }
    let ratios = |figure: fn(&Figures) -> f64| -> Vec<f64> {
        of(Transport::Sealift)
            .filter_map(|ours| {
                let theirs = of(AGAINST).find(|theirs| theirs.round == ours.round)?;
                Some(figure(ours.figures()?) / figure(theirs.figures()?))
            })
            .collect()
    };
    let mut verdicts: Vec<(String, bool)> = WANTED
        .iter()
        .map(|wanted| wanted.verdict(&ratios(wanted.figure)))
        .collect();
    let whole = |run: &Outcome| {
        run.figures()
            .is_some_and(|figures| figures.damage.is_none())
    };
    let intact = of(Transport::Sealift).filter(|run| whole(run)).count();
    let all = of(Transport::Sealift).count();
    verdicts.push((format!("intact   {intact} of {all}"), intact == all));
    verdicts
}

impl Wanted {
    fn verdict(&self, ratios: &[f64]) -> (String, bool) {
        // Without a single pair the median is not a number, and reaches nothing.
        let ratio = median(ratios);
        let (limit, reached) = match self.limit {
            Limit::AtMost(limit) => (format!("at most {limit:.2}"), ratio <= limit),
            Limit::AtLeast(limit) => (format!("at least {limit:.2}"), ratio >= limit),
        };
        let ratio = if ratio.is_nan() {
            "an unknown number".to_owned()
        } else {
            format!("{ratio:.3}")
        };
        let line = format!("{:<8} {ratio} x {AGAINST}, wanted {limit}", self.what);
        (line, reached)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::CameTo;
    use super::*;

    fn run(transport: Transport, round: usize, time_s: f64) -> Outcome {
        let figures = Figures {
            time_s,
            blackout_ms: 10.0 * time_s,
            qemu_downtime_ms: None,
            wire_bytes: 1_000_000,
            cpu_s: 1.0,
            work: 0.9,
            work_before: 1e5,
            stall_ms: 1.0,
            stall_before_ms: 1.0,
            damage: None,
            sealift: Vec::new(),
        };
        Outcome {
            transport,
            round,
            came_to: CameTo::Figures(Box::new(figures)),
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // The machine was half as fast in the second round.
        let outcomes = [
            run(AGAINST, 1, 2.0),
            run(Transport::Sealift, 1, 1.0),
            run(AGAINST, 2, 4.0),
            run(Transport::Sealift, 2, 2.0),
            run(AGAINST, 3, 2.0),
            run(Transport::Sealift, 3, 4.0),
        ];
        let verdicts = verdicts(&outcomes);
        assert!(
            verdicts[0].0.starts_with("time     0.500 x"),
            "{verdicts:?}"
        );
        assert!(verdicts.iter().all(|(_, reached)| *reached), "{verdicts:?}");
        assert!(text(&outcomes).contains("2.00 (1.00-4.00)"));
    }

    #[test]
    fn a_guest_that_does_not_arrive_is_a_missed_target_and_is_named() {
        let lost = Outcome {
            came_to: CameTo::Failure("the link broke".to_owned()),
            ..run(Transport::Sealift, 1, 0.0)
        };
        let outcomes = [run(AGAINST, 1, 2.0), lost];
        assert!(verdicts(&outcomes).iter().all(|(_, reached)| !reached));
        let text = text(&outcomes);
        assert!(text.contains("no arrival: sealift, round 1: the link broke"));
        assert!(text.contains("0 of 1"));
    }

    #[test]
    fn without_the_other_nothing_is_said() {
        assert!(verdicts(&[run(Transport::Sealift, 1, 1.0)]).is_empty());
        assert!(verdicts(&[run(AGAINST, 1, 1.0)]).is_empty());
    }
}
