//! An output that may go away.

use std::fmt;
use std::io::{self, Write};

/// Standard output, or standard error, for as long as it takes anything. That nobody reads any more is no reason to end a migration.
pub(super) struct Sink {
    out: Option<Box<dyn Write + Send>>,
}

impl Sink {
    pub(super) fn new(out: impl Write + Send + 'static) -> Self {
        let out: Box<dyn Write + Send> = Box::new(out);
        Self { out: Some(out) }
    }

    /// Writes a text and ends its line, in one piece, so that lines of several processes do not mix.
    ///
    /// # Errors
    /// Once, when the output fails for another reason than that nobody reads it; it is not written to again.
    pub(super) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let written = out
            .write_all(format!("{text}\n").as_bytes())
            .and_then(|()| out.flush());
        if written.is_err() {
            self.out = None;
        }
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// The same, where nobody is left to tell that it failed.
    pub(super) fn last_resort(&mut self, text: impl fmt::Display) {
        let _ = self.line(text);
    }
}
