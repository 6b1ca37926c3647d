//! Tells the operator, with this host's time and the session's id on everything.

use std::sync::Arc;
use std::time::SystemTime;

use sealift::event::{Event, Stage, What};
use sealift::reporter::Reporter;
use sealift_session::control::SessionId;

/// Who tells: a session, or the command before and between sessions.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    reporter: Arc<Reporter>,
    session: Option<SessionId>,
}

impl Voice {
    /// The command's.
    pub(crate) const fn of_command(reporter: Arc<Reporter>) -> Self {
        Self {
            reporter,
            session: None,
        }
    }

    /// The same operator is told, of this session.
    pub(crate) fn of(&self, session: SessionId) -> Self {
        Self {
            reporter: Arc::clone(&self.reporter),
            session: Some(session),
        }
    }

    /// Tells something.
    pub(crate) fn tell(&self, what: What) {
        self.reporter.tell(Event {
            at: SystemTime::now(),
            session: self.session,
            what,
        });
    }

    /// Tells something to know; it goes on.
    pub(crate) fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        self.tell(What::Warning { message });
    }

    /// Tells that a stage has begun.
    pub(crate) fn stage(&self, stage: Stage) {
        self.tell(What::Stage { stage });
    }
}
