//! The session's journal: made before it is needed, written from threads that may wait for the disk.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use sealift_identity::Side;
use sealift_identity::journal::{About, Journal, JournalError, RunState, Step, default_directory};
use sealift_session::control;
use sealift_session::handoff;

use crate::lock;

/// A journal that several tasks write, one after the other.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Option<Journal>>);

/// Where journals are kept.
pub(crate) fn directory(asked: Option<&Path>) -> Result<PathBuf, JournalError> {
    asked.map_or_else(default_directory, |directory| Ok(directory.to_path_buf()))
}

impl Shared {
    /// Makes it.
    pub(crate) fn create(
        directory: &Path,
        session: [u8; 16],
        side: Side,
        about: &About,
    ) -> Result<Self, JournalError> {
        let journal = Journal::create(directory, session, side, about, now_ns())?;
        Ok(Self(Mutex::new(Some(journal))))
    }

    /// Writes a step. When this returns, it is on the disk.
    pub(crate) fn append(&self, step: handoff::Step) -> Result<(), JournalError> {
        match lock(&self.0).as_mut() {
            Some(journal) => journal.append(wire(step), now_ns()),
            // It was over already.
            None => Ok(()),
        }
    }

    /// Nothing is left to remember: the file goes.
    pub(crate) fn forget(&self) {
        if let Some(journal) = lock(&self.0).take() {
            // One that stays says Done or Aborted, and does no harm.
            let _ = journal.finish();
        }
    }
}

fn wire(step: handoff::Step) -> Step {
    match step {
        handoff::Step::Intent => Step::Intent,
        handoff::Step::Completed { run_state } => Step::Completed {
            run_state: state(run_state),
        },
        handoff::Step::Prepared => Step::Prepared,
        handoff::Step::Commit { run_state } => Step::Commit {
            run_state: state(run_state),
        },
        handoff::Step::Active { .. } => Step::Active,
        handoff::Step::Done => Step::Done,
        handoff::Step::Aborted => Step::Aborted,
    }
}

fn state(run_state: control::RunState) -> RunState {
    match run_state {
        control::RunState::Running => RunState::Running,
        control::RunState::Paused => RunState::Paused,
        control::RunState::Suspended => RunState::Suspended,
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
