//! Events as lines, for logs.

use std::time::{Duration, SystemTime};

use super::face::Show;
use super::sink::Sink;
use super::wording::{Line, line, progress};
use crate::event::{Event, What};

/// Between two lines of progress: a log of an hour's migration stays readable.
const PACE: Duration = Duration::from_secs(5);

/// Lines on standard error, the report on standard output.
pub(super) struct Plain {
    results: Option<Sink>,
    stderr: Sink,
    verbose: bool,
    /// The last line of progress.
    told: Option<SystemTime>,
}

impl Plain {
    pub(super) fn new(results: Option<Sink>, stderr: Sink, verbose: bool) -> Self {
        Self {
            results,
            stderr,
            verbose,
            told: None,
        }
    }

    /// Whether it is time for another line of progress. A clock that was set back makes one come early, not never.
    fn is_due(&mut self, now: SystemTime) -> bool {
        let due = self.told.is_none_or(|told| {
            now.duration_since(told)
                .map_or(true, |passed| passed >= PACE)
        });
        if due {
            self.told = Some(now);
        }
        due
    }
}

impl Show for Plain {
    fn show(&mut self, event: &Event) {
        match &event.what {
            What::Progress(figures) if self.is_due(event.at) => {
                self.stderr.last_resort(progress(figures));
            }
            What::Progress(_) => {}
            what => {
                if let Some(line) = line(what, self.verbose) {
                    write(line, self.results.as_mut(), &mut self.stderr);
                }
            }
        }
    }
}

/// Writes results where they belong, and to standard error what cannot be written there.
pub(super) fn write(line: Line, results: Option<&mut Sink>, stderr: &mut Sink) {
    match (line, results) {
        (Line::Result(text), Some(results)) => {
            if results.line(&text).is_err() {
                stderr.last_resort(text);
            }
        }
        (Line::Result(text) | Line::Note(text), _) => stderr.last_resort(text),
    }
}
