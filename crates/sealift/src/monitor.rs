//! A QEMU's control socket, asked from the reactor and answered by a thread of its own.
//!
//! ```text
//!  session (async) ── question ──▶ [questions] ──▶ thread ── QMP ──▶ QEMU
//!        ▲                                           │
//!        └──────────────── answer ───────────────────┘
//! ```

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sealift_qemu::machine::{Machine, MigrationStatus};
use sealift_qemu::{Address, Error, Process};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// How long QEMU may take for an answer. It answers in milliseconds, unless its main loop waits for a disk or for a lock that the
/// migration holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a QEMU that gives up is asked whether it has: what is waited for is often a guest that stands still.
const ASK_EVERY: Duration = Duration::from_millis(5);

type Question = Box<dyn FnOnce(&mut Machine) + Send>;

/// A QEMU that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    questions: mpsc::Sender<Question>,
    address: Address,
    process: Option<Arc<Process>>,
}

impl Monitor {
    /// Connects. Blocks for as long as QEMU takes to greet.
    pub(crate) fn connect(address: &Address) -> Result<Self, Error> {
        let mut machine = Machine::connect(address, PATIENCE)?;
        let process = machine.process().map(Arc::new);
        let (questions, asked) = mpsc::channel::<Question>();
        thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || {
                for question in asked {
                    question(&mut machine);
                }
            })
            .map_err(|source| Error::Connect {
                address: address.clone(),
                source,
            })?;
        Ok(Self {
            questions,
            address: address.clone(),
            process,
        })
    }

    /// Connects without blocking the reactor.
    pub(crate) async fn open(address: Address) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || Self::connect(&address))
            .await
            .unwrap_or(Err(Error::Closed { command: None }))
    }

    /// Asks. The thread answers one after the other.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let question = Box::new(move |machine: &mut Machine| {
            // Whoever asked may have gone.
            let _ = answer.send(question(machine));
        });
        let gone = || Error::Closed { command: None };
        self.questions.send(question).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Waits until QEMU's migration has ended, if there was one, for at most so long. Returns how; nothing when QEMU cannot be asked or goes on.
    pub(crate) async fn migration_ends(&self, timeout: Duration) -> Option<MigrationStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.ask(Machine::migration).await.ok()?.status;
            if status.is_final() || status == MigrationStatus::None {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Waits until the process has ended, for at most so long; false as well when that cannot be known.
    pub(crate) async fn ends_within(&self, timeout: Duration) -> bool {
        let Some(process) = self.process.clone() else {
            return false;
        };
        let waiting = tokio::task::spawn_blocking(move || process.wait_end(timeout));
        matches!(waiting.await, Ok(Ok(true)))
    }

    /// Ends the process: in good order if it answers, by force if not. Returns whether it is certain to have ended.
    pub(crate) async fn end(&self, in_good_order: Duration) -> bool {
        let asked = self.ask(Machine::quit);
        // A main loop that hangs must not keep anybody from force.
        let _ = tokio::time::timeout(in_good_order, asked).await;
        if self.ends_within(in_good_order).await {
            return true;
        }
        let Some(process) = &self.process else {
            return false;
        };
        process.kill().is_ok() && self.ends_within(in_good_order).await
    }

    /// Where its socket is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }
}
