//! Events for machines.

use super::face::Show;
use super::sink::Sink;
use crate::event::{Event, What};
use crate::outcome::Kind;

/// One JSON object a line, on standard output; when that carries the stream, on standard error, where then nothing else stands.
pub(super) struct Json {
    stdout: Option<Sink>,
    stderr: Sink,
}

impl Json {
    pub(super) fn new(stdout: Option<Sink>, stderr: Sink) -> Self {
        Self { stdout, stderr }
    }
}

impl Show for Json {
    fn show(&mut self, event: &Event) {
        // Names are strings and numbers are numbers: there is nothing that JSON cannot say.
        let Ok(line) = serde_json::to_string(event) else {
            return;
        };
        let Some(stdout) = &mut self.stdout else {
            return self.stderr.last_resort(line);
        };
        if let Err(error) = stdout.line(line) {
            let note = format_args!("sealift: events are lost, standard output failed: {error}");
            self.stderr.last_resort(note);
        }
        // Whoever sits before a pipe reads of a failure as well.
        if let What::Outcome(ending) = &event.what
            && ending.kind() != Kind::Moved
        {
            self.stderr.last_resort(ending);
        }
    }
}
