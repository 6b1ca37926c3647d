//! The session's journal: made before it is needed, written by a thread of its own, in order.
//!
//! ```text
//!  session ── step ──▶ [steps] ──▶ thread ── append, fsync ──▶ disk
//!     ▲                              │
//!     └────────── it is there ───────┘
//! ```
//!
//! Four steps lie between the guest's stop and its going on, and a disk takes milliseconds for each. So those that only say what *may* follow are
//! written ahead, while QEMU is busy ([`Journals::write_ahead`]), and those that repeat what a QEMU says anyway are not waited for.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sealift_identity::Side;
use sealift_identity::journal::{About, Journal, JournalError, RunState, Step, default_directory};
use sealift_session::control::{self, ErrorKind, Failure, Fault};
use sealift_session::handoff;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::clock::now_ns;
use crate::ending::failure_of;
use crate::fault;

/// A session's journal.
#[derive(Debug)]
pub(crate) struct Journals {
    orders: mpsc::Sender<Order>,
    /// For the thread, to say what was written.
    done: UnboundedSender<Written>,
    written: UnboundedReceiver<Written>,
    /// QEMU can be asked after a crash.
    managed: bool,
    ahead: Ahead,
}

enum Order {
    Append(handoff::Step, Ordered),
    End {
        /// Nothing is left to remember: the file goes.
        forget: bool,
        ended: oneshot::Sender<()>,
    },
}

/// A step that is written before it is asked for: it only says what may follow, and an Aborted behind it takes it back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Ahead {
    /// None was.
    #[default]
    No,
    /// It is on its way to the disk.
    OnItsWay,
    /// It was asked for meanwhile.
    Awaited,
    /// It is there.
    There,
}

/// A step was written, or was not.
#[derive(Debug)]
struct Written {
    step: handoff::Step,
    result: Result<(), Failure>,
    order: Ordered,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ordered {
    /// Somebody waits for it.
    Awaited,
    /// Nobody does: what follows is under way.
    Behind,
    /// It has not been asked for, or has meanwhile.
    Ahead,
}

/// What that means for the hand-off.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The step counts as written.
    Written(handoff::Step),
    /// It could not be written, and what follows may not be done.
    Failed(handoff::Step, Failure),
    /// It could not be written; it goes on.
    Missing(Failure),
}

/// Where journals are kept.
pub(crate) fn directory(asked: Option<&Path>) -> Result<PathBuf, JournalError> {
    asked.map_or_else(default_directory, |directory| Ok(directory.to_path_buf()))
}

impl Journals {
    /// Makes it. `managed`: this end's QEMU has a control socket, where it can be asked what became of the guest.
    pub(crate) async fn create(
        directory: &Path,
        session: [u8; 16],
        side: Side,
        about: About,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let managed = about.qmp_address.is_some();
        let directory = directory.to_path_buf();
        let creating = tokio::task::spawn_blocking(move || {
            Journal::create(&directory, session, side, &about, now_ns())
        });
        let journal = creating.await??;
        let (orders, ordered) = mpsc::channel();
        let (done, written) = unbounded_channel();
        let theirs = done.clone();
        // Whose disk it is, when it fails.
        let fault = match side {
            Side::Source => Fault::Source,
            Side::Receiver => Fault::Receiver,
        };
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(journal, fault, &ordered, &theirs))?;
        Ok(Self {
            orders,
            done,
            written,
            managed,
            ahead: Ahead::No,
        })
    }

    /// Has a step written; when the hand-off may go on, [`Self::settled`] says so.
    pub(crate) fn write(&mut self, step: handoff::Step) {
        match self.ahead {
            Ahead::There if may_be_ahead(step) => self.at_once(step),
            Ahead::OnItsWay if may_be_ahead(step) => self.ahead = Ahead::Awaited,
            _ if self.is_waited_for(step) => self.append(step, Ordered::Awaited),
            _ => {
                self.at_once(step);
                self.append(step, Ordered::Behind);
            }
        }
    }

    /// Writes what will be asked for soon, while there is time.
    pub(crate) fn write_ahead(&mut self, step: handoff::Step) {
        if self.ahead == Ahead::No {
            self.ahead = Ahead::OnItsWay;
            self.append(step, Ordered::Ahead);
        }
    }

    fn append(&self, step: handoff::Step, order: Ordered) {
        // The thread ends with the journal: nobody appends to one that has ended.
        let _ = self.orders.send(Order::Append(step, order));
    }

    /// It counts as written.
    fn at_once(&self, step: handoff::Step) {
        // The other end is this one's.
        let _ = self.done.send(Written {
            step,
            result: Ok(()),
            order: Ordered::Awaited,
        });
    }

    /// What has become of a step; waits for ever while none is under way.
    pub(crate) async fn settled(&mut self) -> Settled {
        loop {
            match self.written.recv().await {
                Some(written) => {
                    if let Some(settled) = self.settle(written) {
                        return settled;
                    }
                }
                // Never: this end keeps a sender.
                None => std::future::pending().await,
            }
        }
    }

    fn settle(&mut self, written: Written) -> Option<Settled> {
        let Written {
            step,
            result,
            order,
        } = written;
        let awaited = match order {
            Ordered::Awaited => true,
            Ordered::Behind => false,
            Ordered::Ahead => {
                let awaited = self.ahead == Ahead::Awaited;
                // One that failed is asked for again, and then waited for.
                self.ahead = if result.is_ok() {
                    Ahead::There
                } else {
                    Ahead::No
                };
                awaited
            }
        };
        match (result, awaited) {
            (Ok(()), true) => Some(Settled::Written(step)),
            (Err(why), true) => Some(Settled::Failed(step, why)),
            (Ok(()), false) => None,
            (Err(why), false) => Some(Settled::Missing(why)),
        }
    }

    /// Whether what follows a step may only be done once it is on the disk.
    ///
    /// `Completed` and `Commit` repeat what a QEMU says: after a crash the source's is asked whether it has completed, and the destination's
    /// whether it runs. What could not be found out again is waited for, and so is everything where there is no QEMU that can be asked.
    const fn is_waited_for(&self, step: handoff::Step) -> bool {
        use handoff::Step::{Commit, Completed};
        !(self.managed && matches!(step, Completed { .. } | Commit { .. }))
    }

    /// Waits until everything is written. `forget` removes the file: both ends know how it ended.
    pub(crate) async fn end(&self, forget: bool) {
        let (ended, heard) = oneshot::channel();
        if self.orders.send(Order::End { forget, ended }).is_ok() {
            // A disk that hangs must not keep what is known from being told.
            let _ = timeout(WRITTEN_WITHIN, heard).await;
        }
    }
}

/// How long a disk may take at the end: what was waited for is written by then.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// Steps that only say what may follow.
const fn may_be_ahead(step: handoff::Step) -> bool {
    matches!(step, handoff::Step::Intent | handoff::Step::Prepared)
}

fn serve(
    mut journal: Journal,
    fault: Fault,
    orders: &mpsc::Receiver<Order>,
    done: &UnboundedSender<Written>,
) {
    for order in orders {
        match order {
            Order::Append(step, order) => {
                let (before, after) = fault::journal(step);
                fault::at(before);
                let result = journal.append(wire(step), now_ns());
                fault::at(after);
                // The session has ended when nobody listens.
                let _ = done.send(Written {
                    step,
                    result: result.map_err(|error| failure_of(ErrorKind::Resources, fault, &error)),
                    order,
                });
            }
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
