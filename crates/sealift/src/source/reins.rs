//! The reins of the source's QEMU while its guest leaves: what it is told, and what the guest did when that was last known.
//!
//! ```text
//!  return path   SHUT: it may complete
//!  QMP           cancel, cont, quit; a slower guest; its memory, when that is compared
//!  channels      closed: it gives up, if it has not completed
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealift_qemu::channel::Closer;
use sealift_qemu::machine::{Machine, MigrationStatus};
use sealift_session::control::{ErrorKind, Failure, Fault, RunState};
use sealift_session::handoff::source::Event;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::guest;
use super::return_path::ReturnPath;
use super::steps::{Steps, Told};
use super::throttle;
use crate::ending::failure;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::under_way::UnderWay;
use crate::voice::Voice;
use crate::watch::{Seen, Watch};
use crate::{fault, lock};

/// How long a process may take to end after it has closed its control socket: it closes it as one of the last things.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long QEMU may take to end in good order.
const QUITS_WITHIN: Duration = Duration::from_secs(10);

/// The source's QEMU, held.
pub(crate) struct Reins {
    monitor: Option<Monitor>,
    watch: Watch,
    pub(crate) return_path: ReturnPath,
    /// End its channels.
    closers: Arc<Mutex<Vec<Closer>>>,
    memory: Memory,
    /// What the guest did when QEMU was last asked.
    run_state: Option<RunState>,
    /// The run state that the stream itself names: QEMU's own last word on it.
    streamed: Option<RunState>,
    /// It ran, and this program paused it, to go on at the destination.
    paused_for_the_move: bool,
    /// By which the guest is slowed.
    steps: Steps,
    /// Orders that are under way.
    pending: Vec<JoinHandle<()>>,
}

impl Reins {
    /// Takes them. What QEMU is seen to do comes out of the other end.
    pub(crate) fn take(
        monitor: Option<Monitor>,
        return_path: ReturnPath,
        closers: Arc<Mutex<Vec<Closer>>>,
        memory: Memory,
        run_state: Option<RunState>,
        paused_for_the_move: bool,
    ) -> (Self, UnboundedReceiver<Result<Seen, sealift_qemu::Error>>) {
        let (watch, looks) = Watch::start(monitor.clone());
        let this = Self {
            monitor,
            watch,
            return_path,
            closers,
            memory,
            run_state,
            streamed: None,
            paused_for_the_move,
            steps: Steps::default(),
            pending: Vec::new(),
        };
        (this, looks)
    }

    /// The guest stands still: QEMU is asked as often as it answers.
    pub(crate) fn hurry(&self) {
        self.watch.hurry();
    }

    /// QEMU says what the guest does.
    pub(crate) fn seen(&mut self, state: &str) {
        self.run_state = guest::run_state(state).or(self.run_state);
    }

    /// The stream says what the guest did.
    pub(crate) fn streamed(&mut self, state: &str) {
        self.streamed = guest::run_state(state);
    }

    /// What the guest did before it was stopped for the move. Where two say different things, it stays paused: whoever paused it can let
    /// it go on. But one that slept is what the stream says: an old QEMU wakes it for the move.
    pub(crate) fn left_in(&self) -> RunState {
        match (self.paused_for_the_move, self.streamed) {
            (true, _) => RunState::Running,
            (false, streamed) => match self.run_state {
                Some(RunState::Paused) => RunState::Paused,
                asked => streamed.or(asked).unwrap_or(RunState::Running),
            },
        }
    }

    /// Lets QEMU complete. A QEMU that could not be told has not. Whether it gave up and has the guest, or died with it, QMP knows; only where
    /// there is none that is an error.
    pub(crate) fn pass_shut(&mut self) -> Result<(), Failure> {
        self.hurry();
        fault::at("before-shut");
        let told = self.return_path.shut();
        fault::at("after-shut");
        match (told, &self.monitor) {
            (Err(error), None) => {
                let why = format!(
                    "the source's QEMU closed its channel before it was told to complete: {error}"
                );
                Err(failure(ErrorKind::Qemu, Fault::Source, &why))
            }
            _ => Ok(()),
        }
    }

    /// Reads the guest's memory again.
    pub(crate) fn read_memory(&self, under_way: &UnderWay<Event>) {
        let (monitor, memory) = (self.monitor.clone(), self.memory.clone());
        under_way.start(async move {
            Some(match memory.read(monitor?).await {
                Ok(verification) => Event::MemoryRead(verification),
                Err(why) => Event::Failed(failure(ErrorKind::Qemu, Fault::Source, &why)),
            })
        });
    }

    /// A channel that ends says the same of a QEMU that gave up, and has the guest, and of one that is dead. One with a control socket is
    /// asked first.
    pub(crate) fn unless_gone(&self, event: Event, under_way: &UnderWay<Event>) -> Option<Event> {
        let Some(monitor) = self.monitor.clone() else {
            return Some(event);
        };
        under_way.start(async move {
            let lives = monitor.ask(Machine::status).await;
            let gone = lives.is_err() && monitor.ends_within(ENDS_WITHIN).await;
            Some(if gone { Event::QemuGone } else { event })
        });
        None
    }

    /// QEMU's control socket was closed. That its process has ended is another thing, and decides what may be said of the guest.
    pub(crate) fn socket_closed(&self, under_way: &UnderWay<Event>) {
        let monitor = self.monitor.clone();
        under_way.start(async move {
            Some(if monitor?.ends_within(ENDS_WITHIN).await {
                Event::QemuGone
            } else {
                Event::Failed(failure(
                    ErrorKind::Qemu,
                    Fault::Source,
                    "the source's QEMU closed its control socket, and lives: what becomes of the guest cannot be seen any more",
                ))
            })
        });
    }

    /// The guest is to be slowed: its processors are to be stopped for so many per cent of the time. To be said until another percentage is. Returns
    /// what is to be told of it.
    pub(crate) fn throttle(&mut self, percent: u8) -> Option<Told> {
        let monitor = self.monitor.clone()?;
        let told = self.steps.answered();
        if self.steps.is_due(percent) {
            let (answer, answered) = oneshot::channel();
            self.steps.ordered(percent, answered);
            self.pending.push(tokio::spawn(async move {
                let set = monitor.ask(move |machine| throttle::set(machine, percent));
                // Nobody asks any more once the guest stands still.
                let _ = answer.send(set.await);
            }));
        }
        told
    }

    /// The guest stays: QEMU gives up.
    pub(crate) fn cancel(&mut self) {
        if let Some(monitor) = self.monitor.clone() {
            self.pending.push(tokio::spawn(async move {
                // What comes of it is seen in how QEMU goes on.
                let _ = monitor.ask(Machine::cancel).await;
            }));
        }
        self.close();
    }

    /// The guest runs at the destination: the copy here goes.
    pub(crate) fn end(&mut self, voice: Voice) {
        if let Some(monitor) = self.monitor.clone() {
            self.pending.push(tokio::spawn(async move {
                let quit = monitor.ask(Machine::quit).await;
                if quit.is_err() || !monitor.ends_within(QUITS_WITHIN).await {
                    voice.warn("the source's QEMU did not end: end it, and never let it run, for the guest runs at the destination");
                }
            }));
        }
    }

    /// Waits for what was ordered.
    pub(crate) async fn settle(&mut self) {
        for task in self.pending.drain(..) {
            // Nothing in it panics, and QEMU answers in time or the question fails.
            let _ = task.await;
        }
    }

    /// A QEMU that completed before it could be told to give up holds the guest stopped. The receiver was never told that it may run, and
    /// never will be: it goes on here. Returns whether it does.
    pub(crate) async fn let_run(&self) -> bool {
        let Some(monitor) = &self.monitor else {
            return false;
        };
        if self.left_in() == RunState::Paused {
            return false;
        }
        match monitor.migration_ends(ENDS_WITHIN).await {
            Some(MigrationStatus::Completed) => monitor.ask(Machine::cont).await.is_ok(),
            _ => false,
        }
    }

    /// Closes QEMU's channels.
    pub(crate) fn close(&self) {
        for closer in lock(&self.closers).iter() {
            closer.close();
        }
    }
}
