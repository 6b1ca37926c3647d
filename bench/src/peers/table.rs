//! Figures as a table for people.

use std::fmt::Write as _;

use super::figures::{Figures, Outcome};
use super::transport::Transport;
use super::verdict::{Reference, runs};
use crate::median;

/// One column.
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    decimals: usize,
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
        figure: |run| Some(run.wire() / 1e6),
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

/// The table: of each figure the median, and the least and the most.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    const NAME: usize = 28;
    const CELL: usize = 21;
    let mut text = format!("{:<NAME$}", "");
    for column in &COLUMNS {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:<CELL$}", column.title);
    }
    text.push_str("intact\n");
    for of in measured(outcomes) {
        let figures: Vec<&Figures> = runs(outcomes, of).filter_map(Outcome::figures).collect();
        let _ = write!(text, "{:<NAME$}", of.to_string());
        for column in &COLUMNS {
            let _ = write!(text, "{:<CELL$}", cell(column, &figures));
        }
        let intact = figures.iter().filter(|run| run.damage.is_none()).count();
        let _ = writeln!(text, "{intact} of {}", runs(outcomes, of).count());
    }
    text.push_str(&complaints(outcomes));
    text
}

/// All that had a turn.
pub(super) fn measured(outcomes: &[Outcome]) -> impl Iterator<Item = Reference> + use<'_> {
    let all = Transport::ALL
        .into_iter()
        .flat_map(|transport| [false, true].map(|calmer| Reference { transport, calmer }));
    all.filter(|&of| runs(outcomes, of).next().is_some())
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

#[cfg(test)]
mod tests {
    use super::super::figures::CameTo;
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_the_least_and_the_most_and_a_loss_is_named() {
        let run = |round, came_to| Outcome {
            transport: Transport::Sealift,
            round,
            calmer: false,
            came_to,
        };
        let took = |time_s| {
            let figures = Figures {
                time_s,
                ..Figures::default()
            };
            CameTo::Figures(Box::new(figures))
        };
        let lost = CameTo::Failure("the link broke".to_owned());
        let outcomes = [
            run(1, took(1.0)),
            run(2, took(4.0)),
            run(3, took(2.0)),
            run(4, lost),
        ];
        let text = text(&outcomes);
        assert!(text.contains("2.00 (1.00-4.00)"), "{text}");
        assert!(text.contains("no arrival: sealift, round 4: the link broke"));
        assert!(text.contains("3 of 4"));
    }
}
