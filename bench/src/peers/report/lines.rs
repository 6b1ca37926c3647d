//! Lines: how one run of each went.

use std::fmt::Write as _;

use super::{Shown, class};
use crate::peers::figures::Figures;

/// Pixels, before the page scales it.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 34.0;

/// One thing over time.
pub(super) struct Plot {
    title: &'static str,
    points: fn(&Figures) -> Vec<(f64, f64)>,
    /// No figure that lies further beyond the time of the longest run is of interest.
    most: Option<f64>,
}

pub(super) const ALL: [Plot; 4] = [
    Plot {
        title: "over the link, Mbit/s",
        points: throughput,
        most: None,
    },
    Plot {
        title: "memory still to be sent, MB",
        points: |run| {
            known(run, |sample| {
                sample.remaining_bytes.map(|bytes| as_f64(bytes) / 1e6)
            })
        },
        most: None,
    },
    Plot {
        title: "what the guest rewrites, as whoever moves it sees it, MB/s",
        points: |run| {
            known(run, |sample| {
                sample.dirty_bytes_per_s.map(|bytes| as_f64(bytes) / 1e6)
            })
        },
        most: None,
    },
    Plot {
        title: "when it should end, s after the order (dashed: now)",
        points: |run| known(run, |sample| sample.predicted_end_s),
        most: Some(1.5),
    },
];

fn known(run: &Figures, figure: impl Fn(&crate::peers::Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = run.samples.iter();
    points
        .filter_map(|sample| Some((sample.at_s, figure(sample)?)))
        .filter(|(at, _)| *at <= run.time_s)
        .collect()
}

/// Between every two looks at what has passed.
fn throughput(run: &Figures) -> Vec<(f64, f64)> {
    let passed = known(run, |sample| sample.wire_bytes.map(as_f64));
    passed
        .windows(2)
        .filter_map(|pair| match pair {
            [(from, before), (to, after)] if to > from => {
                Some(((from + to) / 2.0, (after - before) * 8e-6 / (to - from)))
            }
            _ => None,
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

impl Plot {
    pub(super) fn draw(&self, page: &mut String, shown: &[Shown<'_>]) {
        let longest = shown.iter().map(|one| one.run.time_s).fold(0.1, f64::max);
        let all: Vec<Vec<(f64, f64)>> = shown.iter().map(|one| (self.points)(one.run)).collect();
        let values = all.iter().flatten().map(|(_, value)| *value);
        let mut highest = values.fold(0.0, f64::max);
        if let Some(most) = self.most {
            highest = highest.min(most * longest).max(longest);
        }
        let frame = Frame {
            x: Axis::new(longest, LEFT, WIDTH - RIGHT),
            y: Axis::new(highest.max(f64::MIN_POSITIVE), HEIGHT - BOTTOM, TOP),
        };
        let _ = write!(
            page,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><text class=\"title\" x=\"0\" y=\"14\">{}</text>",
            self.title
        );
        frame.draw(page);
        if self.most.is_some() {
            let end = frame.x.most.min(frame.y.most);
            let _ = write!(
                page,
                "<path class=\"now\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                frame.x.at(0.0),
                frame.y.at(0.0),
                frame.x.at(end),
                frame.y.at(end)
            );
        }
        for (one, points) in shown.iter().zip(&all) {
            frame.line(page, one, points);
        }
        page.push_str("</svg>");
    }
}

/// From 0 to a round number, between two places.
struct Axis {
    most: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(highest: f64, from: f64, to: f64) -> Self {
        let step = round_step(highest / 5.0);
        Self {
            most: (highest / step).ceil() * step,
            step,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.most).clamp(0.0, 1.0)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        (0..=10u8)
            .map(|number| f64::from(number) * self.step)
            .take_while(|mark| *mark <= self.most + self.step / 2.0)
    }

    fn label(&self, mark: f64) -> String {
        if self.step < 1.0 {
            format!("{mark:.1}")
        } else {
            format!("{mark:.0}")
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

struct Frame {
    x: Axis,
    y: Axis,
}

impl Frame {
    fn draw(&self, page: &mut String) {
        let (left, right) = (self.x.from, self.x.to);
        let (bottom, top) = (self.y.from, self.y.to);
        for mark in self.y.marks() {
            let y = self.y.at(mark);
            let _ = write!(
                page,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text class=\"mark\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                self.y.label(mark)
            );
        }
        for mark in self.x.marks() {
            let x = self.x.at(mark);
            let _ = write!(
                page,
                "<path class=\"grid\" d=\"M{x:.1} {bottom}V{top}\"/><text class=\"mark\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>",
                bottom + 16.0,
                self.x.label(mark)
            );
        }
    }

    fn line(&self, page: &mut String, one: &Shown<'_>, points: &[(f64, f64)]) {
        let class = class(one.of);
        let _ = write!(page, "<g class=\"{class}\" data-way=\"{class}\">");
        let mut command = 'M';
        let mut path = String::new();
        for (at, value) in points {
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                self.x.at(*at),
                self.y.at(*value)
            );
            command = 'L';
        }
        let end = self.x.at(one.run.time_s);
        let _ = write!(
            page,
            "<path class=\"line\" d=\"{path}\"><title>{}</title></path>\
             <path class=\"end\" d=\"M{end:.1} {}v-8\"><title>{} has ended: {:.2} s</title></path></g>",
            one.of,
            self.y.from + 4.0,
            one.of,
            one.run.time_s
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Sample;

    #[test]
    fn axes_end_at_round_numbers() {
        for (highest, most) in [(9.7, 10.0), (0.83, 1.0), (204.0, 250.0), (1.0, 1.0)] {
            let axis = Axis::new(highest, 0.0, 100.0);
            assert!((axis.most - most).abs() < 1e-9, "{highest}: {}", axis.most);
            assert!((axis.at(most) - 100.0).abs() < 1e-9);
        }
    }

    #[test]
    fn throughput_is_what_passed_between_two_looks() {
        let sample = |at_s, wire_bytes| Sample {
            at_s,
            wire_bytes: Some(wire_bytes),
            ..Sample::default()
        };
        let run = Figures {
            time_s: 3.0,
            samples: vec![
                sample(0.0, 0),
                sample(1.0, 1_000_000),
                sample(1.0, 1_000_000),
            ],
            ..Figures::default()
        };
        assert_eq!(throughput(&run), [(0.5, 8.0)]);
    }
}
