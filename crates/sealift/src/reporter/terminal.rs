//! Events on a terminal: lines, and below them a bar that moves.
//!
//! ```text
//! pre-copy       memory is sent while the guest goes on
//! pre-copy, round 3 [██████████████████▓░░░░░░░░░░░]  61 %  412 MiB left, ends in 8.20 s
//!   412 Mbit/s on the wire, 1.90 Gbit/s before compression (4.6 to 1 so far), 4.00 MiB in flight
//!   the guest changes 96.0 Mbit/s, would stand still for 41.0 ms
//! ```

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::face::Show;
use super::plain::write;
use super::sink::Sink;
use super::wording::{forecast, left, line, place, rates};
use crate::event::{Event, Progress, What};

/// A bar on standard error; the report on standard output.
pub(super) struct Terminal {
    results: Option<Sink>,
    stderr: Sink,
    verbose: bool,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(super) fn new(results: Option<Sink>, stderr: Sink, verbose: bool) -> Self {
        Self {
            results,
            stderr,
            verbose,
            bar: None,
        }
    }

    fn draw(&mut self, figures: &Progress) {
        let is_new = self.bar.is_none();
        let bar = self.bar.get_or_insert_with(hidden_bar);
        bar.set_prefix(place(figures));
        bar.set_message(beside_and_below(figures));
        // Memory that is changed must be sent again: the whole grows with what was sent.
        let sent = figures.traffic.raw_bytes;
        let whole = sent.saturating_add(figures.remaining_bytes.unwrap_or(0));
        bar.set_length(whole);
        bar.set_position(sent);
        if is_new {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        // indicatif leaves out some drawings to save time, perhaps this last one.
        bar.force_draw();
    }
}

impl Show for Terminal {
    fn show(&mut self, event: &Event) {
        let what = match &event.what {
            What::Progress(figures) => return self.draw(figures),
            what => what,
        };
        let ends = matches!(what, What::Report(_) | What::Outcome(_));
        if ends && let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let Some(line) = line(what, self.verbose) else {
            return;
        };
        let (results, stderr) = (self.results.as_mut(), &mut self.stderr);
        match &self.bar {
            // Takes the bar away, and draws it again below.
            Some(bar) => bar.suspend(|| write(line, results, stderr)),
            None => write(line, results, stderr),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// What stands beside the bar, and the lines below it.
fn beside_and_below(figures: &Progress) -> String {
    let beside = left(figures).unwrap_or_default();
    let mut text = format!("{beside}\n  {}", rates(figures));
    if let Some(forecast) = forecast(figures) {
        text.push_str("\n  ");
        text.push_str(&forecast);
    }
    text
}

/// A bar that is not seen before it has something to show.
fn hidden_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    // The template is right, as a test shows; and a bar that looks otherwise is no reason to end.
    match style() {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} %  {msg}")?;
    Ok(style.progress_chars("█▓░"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_its_style() {
        assert!(style().is_ok());
    }
}
