//! Bars: one figure of all that had a turn, the median with the least and the most.

use std::fmt::Write as _;

use super::class;
use crate::median;
use crate::peers::figures::{Figures, Outcome};
use crate::peers::verdict::{Reference, runs};

/// Pixels, before the page scales it.
const WIDTH: f64 = 520.0;
const NAMES: f64 = 178.0;
/// What a number beside a bar takes.
const NUMBER: f64 = 62.0;
const TOP: f64 = 26.0;
const STEP: f64 = 22.0;
const THICK: f64 = 14.0;

/// One figure.
pub(super) struct Bars {
    title: &'static str,
    figure: fn(&Figures) -> f64,
    decimals: usize,
}

pub(super) const ALL: [Bars; 6] = [
    Bars {
        title: "time, s",
        figure: |run| run.time_s,
        decimals: 2,
    },
    Bars {
        title: "blackout, ms",
        figure: |run| run.blackout_ms,
        decimals: 0,
    },
    Bars {
        title: "on the wire, MB",
        figure: |run| run.wire() / 1e6,
        decimals: 0,
    },
    Bars {
        title: "processor time of all that moved it, s",
        figure: |run| run.cpu_s,
        decimals: 1,
    },
    Bars {
        title: "the guest's own work while it moved, % of before",
        figure: |run| run.work * 100.0,
        decimals: 0,
    },
    Bars {
        title: "the longest that its program did not come to run, ms",
        figure: |run| run.stall_ms,
        decimals: 0,
    },
];

impl Bars {
    pub(super) fn draw(&self, page: &mut String, all: &[Reference], outcomes: &[Outcome]) {
        let values = |of: &Reference| -> Vec<f64> {
            let figures = runs(outcomes, *of).filter_map(Outcome::figures);
            figures.map(self.figure).collect()
        };
        let most = all.iter().flat_map(values).fold(0.0, f64::max);
        let scale = (WIDTH - NAMES - NUMBER) / most.max(f64::MIN_POSITIVE);
        let height = all.iter().fold(TOP + 4.0, |height, _| height + STEP);
        let _ = write!(
            page,
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><text class=\"title\" x=\"0\" y=\"14\">{}</text>",
            self.title
        );
        let mut y = TOP;
        for of in all {
            let middle = y + THICK / 2.0 + 4.0;
            let _ = write!(
                page,
                "<g class=\"{}\"><text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{of}</text>",
                class(*of),
                NAMES - 8.0
            );
            self.bar(page, &values(of), scale, y);
            page.push_str("</g>");
            y += STEP;
        }
        page.push_str("</svg>");
    }

    fn bar(&self, page: &mut String, values: &[f64], scale: f64, y: f64) {
        let middle = y + THICK / 2.0;
        if values.is_empty() {
            let _ = write!(
                page,
                "<text class=\"none\" x=\"{NAMES}\" y=\"{}\">did not arrive</text>",
                middle + 4.0
            );
            return;
        }
        let value = median(values);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let at = |value: f64| NAMES + value * scale;
        let decimals = self.decimals;
        let _ = write!(
            page,
            "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"2\"><title>median of {}: {value:.decimals$} \
             ({least:.decimals$} to {most:.decimals$})</title></rect>",
            (value * scale).max(1.0),
            values.len()
        );
        if values.len() > 1 {
            let _ = write!(
                page,
                "<path class=\"range\" d=\"M{0:.1} {middle}H{1:.1}M{0:.1} {2}v6M{1:.1} {2}v6\"/>",
                at(least),
                at(most),
                middle - 3.0
            );
        }
        let _ = write!(
            page,
            "<text x=\"{:.1}\" y=\"{}\">{value:.decimals$}</text>",
            at(most) + 6.0,
            middle + 4.0
        );
    }
}
