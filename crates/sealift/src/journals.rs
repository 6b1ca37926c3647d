//! The session's journal: made before it is needed, written by a thread of its own, in order.
//!
//! ```text
//!  session ── step ──▶ [steps] ──▶ thread ── append, fsync ──▶ disk
//!     ▲                              │
//!     └────────── it is there ───────┘
//! ```
//!
//! Four steps lie between the guest's stop and its going on, and a disk takes milliseconds for each. So those that only say what *may* follow are
//! written ahead, while QEMU is busy ([`Ahead`]), and those that repeat what a QEMU says anyway are not waited for ([`is_waited_for`]).

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use sealift_identity::Side;
use sealift_identity::journal::{About, Journal, JournalError, RunState, Step, default_directory};
use sealift_session::control;
use sealift_session::handoff;
use tokio::sync::oneshot;

use crate::clock::now_ns;

/// A session's journal.
#[derive(Debug)]
pub(crate) struct Journals {
    orders: mpsc::Sender<Order>,
}

type Told = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

enum Order {
    Append(Step, Told),
    End {
        /// Nothing is left to remember: the file goes.
        forget: bool,
        ended: oneshot::Sender<()>,
    },
}

/// Where journals are kept.
pub(crate) fn directory(asked: Option<&Path>) -> Result<PathBuf, JournalError> {
    asked.map_or_else(default_directory, |directory| Ok(directory.to_path_buf()))
}

impl Journals {
    /// Makes it.
    pub(crate) async fn create(
        directory: &Path,
        session: [u8; 16],
        side: Side,
        about: About,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let directory = directory.to_path_buf();
        let creating = tokio::task::spawn_blocking(move || {
            Journal::create(&directory, session, side, &about, now_ns())
        });
        let journal = creating.await??;
        let (orders, ordered) = mpsc::channel();
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(journal, &ordered))?;
        Ok(Self { orders })
    }

    /// Writes a step, behind those before it; `told` hears when it is on the disk.
    pub(crate) fn append(
        &self,
        step: handoff::Step,
        told: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        // The thread ends with the journal: nobody appends to one that has ended.
        let _ = self.orders.send(Order::Append(wire(step), Box::new(told)));
    }

    /// Waits until everything is written. `forget` removes the file: both ends know how it ended.
    pub(crate) async fn end(&self, forget: bool) {
        let (ended, heard) = oneshot::channel();
        if self.orders.send(Order::End { forget, ended }).is_ok() {
            let _ = heard.await;
        }
    }
}

/// A step that was written before it was asked for: it only says what may follow, and an Aborted behind it takes it back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Ahead {
    /// It was not.
    #[default]
    No,
    /// It is on its way to the disk.
    OnItsWay,
    /// It was asked for meanwhile.
    Awaited,
    /// It is there.
    There,
}

fn serve(mut journal: Journal, orders: &mpsc::Receiver<Order>) {
    for order in orders {
        match order {
            Order::Append(step, told) => told(journal.append(step, now_ns())),
            Order::End { forget, ended } => {
                if forget {
                    // One that stays says Done or Aborted, and does no harm.
                    let _ = journal.finish();
                }
                let _ = ended.send(());
                return;
            }
        }
    }
}

/// Whether what follows a step may only be done once it is on the disk.
///
/// `Completed` and `Commit` say what a QEMU is asked for anyway after a crash: the source's says `completed`, and the destination's runs or
/// does not. What could not be found out again is waited for.
pub(crate) const fn is_waited_for(step: handoff::Step) -> bool {
    !matches!(
        step,
        handoff::Step::Completed { .. } | handoff::Step::Commit { .. }
    )
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
