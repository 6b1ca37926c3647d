//! Figures as a table for people and as JSON for machines.

use serde::Serialize;

use crate::{Measured, Target, median};

/// One case's figures.
#[derive(Serialize)]
pub struct Row {
    /// The case.
    pub name: &'static str,
    /// GB/s, the median of the rounds.
    pub gb_per_s: f64,
    /// The slowest and the fastest round.
    pub range: [f64; 2],
    /// The case that it is held against, and the median of the rounds' ratios.
    pub against: Option<(&'static str, f64)>,
    /// What it should reach, and whether it did.
    pub target: Option<(String, bool)>,
}

/// Figures from measurements.
#[must_use]
pub fn rows(measured: &[Measured]) -> Vec<Row> {
    measured.iter().map(|one| row(one, measured)).collect()
}

fn row(one: &Measured, all: &[Measured]) -> Row {
    let speed = median(&one.speeds);
    let against = one.case.against.and_then(|name| {
        let other = all.iter().find(|other| other.case.name == name)?;
        let ratios = one.speeds.iter().zip(&other.speeds);
        let ratios: Vec<f64> = ratios.map(|(this, that)| this / that).collect();
        Some((name, median(&ratios)))
    });
    let target = one.case.target.map(|target| match target {
        Target::Speed(least) => (format!("{least} GB/s"), speed >= least),
        Target::Ratio(least) => {
            let reached = against.is_some_and(|(_, ratio)| ratio >= least);
            (format!("{least:.2} x"), reached)
        }
    });
    let least = one.speeds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = one.speeds.iter().copied().fold(0.0, f64::max);
    Row {
        name: one.case.name,
        gb_per_s: speed,
        range: [least, most],
        against,
        target,
    }
}

/// The table.
#[must_use]
pub fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<30} {:>8}  {:<17} {:<30} {:<18}\n",
        "", "GB/s", "least to most", "ratio", "wanted"
    );
    for row in rows {
        let range = format!("{:.2} to {:.2}", row.range[0], row.range[1]);
        let against = row
            .against
            .map(|(name, ratio)| format!("{ratio:.3} x {name}"));
        let target = row.target.as_ref().map(|(target, reached)| {
            format!("{target} {}", if *reached { "ok" } else { "MISSED" })
        });
        let line = format!(
            "{:<30} {:>8.2}  {range:<17} {:<30} {}",
            row.name,
            row.gb_per_s,
            against.unwrap_or_default(),
            target.unwrap_or_default()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;

    fn measured(
        name: &'static str,
        against: Option<&'static str>,
        least: f64,
        speeds: &[f64],
    ) -> Measured {
        Measured {
            case: Case {
                name,
                against,
                target: Some(Target::Ratio(least)),
                bytes: 1,
                run: Box::new(|_| ()),
            },
            speeds: speeds.to_vec(),
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // The machine was half as fast in the second round; in each round one case takes 0.9 of the other's speed.
        let all = [
            measured("raw", None, 0.0, &[10.0, 5.0, 10.0]),
            measured("ours", Some("raw"), 0.85, &[9.0, 4.5, 9.0]),
            measured("slow", Some("raw"), 0.95, &[9.0, 4.5, 9.0]),
        ];
        let rows = rows(&all);
        let ratio = rows[1].against.unwrap().1;
        assert!((ratio - 0.9).abs() < 1e-9);
        assert!(rows[1].target.as_ref().unwrap().1);
        assert!(!rows[2].target.as_ref().unwrap().1);
        assert!(text(&rows).contains("0.95 x MISSED"));
    }
}
