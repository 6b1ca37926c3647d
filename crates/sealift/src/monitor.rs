//! A QEMU's control socket, asked from the reactor and answered by a thread of its own.
//!
//! ```text
//!  session (async) ── question ──▶ [questions] ──▶ thread ── QMP ──▶ QEMU
//!        ▲                                           │
//!        └──────────────── answer ───────────────────┘
//! ```

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sealift_qemu::machine::Machine;
use sealift_qemu::{Address, Error};
use tokio::sync::oneshot;

/// How long QEMU may take for an answer. It answers in milliseconds, unless its main loop waits for a disk or for a lock that the
/// migration holds.
const PATIENCE: Duration = Duration::from_secs(10);

type Question = Box<dyn FnOnce(&mut Machine) + Send>;

/// A QEMU that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    questions: mpsc::Sender<Question>,
    address: Address,
}

impl Monitor {
    /// Connects. Blocks for as long as QEMU takes to greet.
    pub(crate) fn connect(address: &Address) -> Result<Self, Error> {
        let mut machine = Machine::connect(address, PATIENCE)?;
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

    /// Where its socket is.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }
}
