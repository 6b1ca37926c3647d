//! Which of its faces the reporter shows, and where.

use std::io;

use super::json::Json;
use super::plain::Plain;
use super::sink::Sink;
use super::terminal::Terminal;
use crate::event::Event;

/// How events are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Face {
    /// One JSON object a line: on standard output, if that is free.
    Json(Stdout),
    /// A bar on standard error; the report on standard output, if that is free.
    Terminal(Stdout),
    /// Lines on standard error; the report on standard output, if that is free.
    Plain(Stdout),
}

/// What standard output is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stdout {
    /// For what is told.
    Free,
    /// QEMU reads from it (`exec:`): one byte of anything else would break the guest.
    Stream,
}

impl Face {
    /// The face for what the operator asked for and has.
    #[must_use]
    pub const fn choose(json: bool, stderr_is_terminal: bool, stdout: Stdout) -> Self {
        match (json, stderr_is_terminal) {
            (true, _) => Self::Json(stdout),
            (false, true) => Self::Terminal(stdout),
            (false, false) => Self::Plain(stdout),
        }
    }

    pub(super) fn show(self, verbose: bool) -> Box<dyn Show> {
        let stderr = || Sink::new(io::stderr());
        let results = |stdout| match stdout {
            Stdout::Free => Some(Sink::new(io::stdout())),
            Stdout::Stream => None,
        };
        match self {
            Self::Json(stdout) => Box::new(Json::new(results(stdout), stderr())),
            Self::Terminal(stdout) => Box::new(Terminal::new(results(stdout), stderr(), verbose)),
            Self::Plain(stdout) => Box::new(Plain::new(results(stdout), stderr(), verbose)),
        }
    }
}

/// A face at work.
pub(super) trait Show {
    /// Shows an event.
    fn show(&mut self, event: &Event);

    /// Nothing follows.
    fn finish(&mut self) {}
}
