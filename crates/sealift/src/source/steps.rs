//! The steps by which a guest is slowed: each is ordered until QEMU has taken it, and told only then.
//!
//! ```text
//!   a new step ─▶ ordered ─┬─ QEMU takes it ─▶ told, and not ordered again
//!                 ▲        └─ an error ─┐
//!                 └── less than 3 ──────┴──▶ warned, once: the guest stays as slow as it is
//! ```

use sealift_qemu::Error;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

/// How often a step is ordered. QEMU has ten seconds for each answer: one that takes longer three times, or says no three times, will not do otherwise
/// the fourth time.
const ATTEMPTS: u8 = 3;

/// What becomes of an order.
pub(super) type Answer = Result<(), Error>;

/// What the operator is to hear.
#[derive(Debug)]
pub(crate) enum Told {
    /// QEMU has taken a step.
    Slowed {
        /// For how many hundredths of the time it is to stop the guest's processors.
        percent: u8,
    },
    /// It does not, and is not asked any more.
    Refused(Error),
}

/// Knows which step QEMU has taken.
#[derive(Debug, Default)]
pub(super) struct Steps {
    taken: Option<u8>,
    ordered: Option<(u8, Receiver<Answer>)>,
    /// In a row.
    failed: u8,
}

impl Steps {
    /// Looks for QEMU's answer, without waiting.
    pub(super) fn answered(&mut self) -> Option<Told> {
        let (percent, answer) = self.ordered.as_mut()?;
        let (percent, answer) = match answer.try_recv() {
            Ok(answer) => (*percent, answer),
            Err(TryRecvError::Empty) => return None,
            // Whoever was to ask has ended: so has the session.
            Err(TryRecvError::Closed) => (*percent, Err(Error::Closed { command: None })),
        };
        self.ordered = None;
        match answer {
            Ok(()) => {
                self.failed = 0;
                self.taken = Some(percent);
                Some(Told::Slowed { percent })
            }
            Err(error) => {
                self.failed += 1;
                (self.failed == ATTEMPTS).then_some(Told::Refused(error))
            }
        }
    }

    /// Whether a step is to be ordered now.
    pub(super) fn is_due(&self, percent: u8) -> bool {
        self.ordered.is_none() && self.failed < ATTEMPTS && self.taken != Some(percent)
    }

    /// It was; QEMU's answer will come here.
    pub(super) fn ordered(&mut self, percent: u8, answer: Receiver<Answer>) {
        self.ordered = Some((percent, answer));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{Sender, channel};

    use super::*;

    fn order(steps: &mut Steps, percent: u8) -> Sender<Answer> {
        assert!(steps.is_due(percent));
        let (answer, answered) = channel();
        steps.ordered(percent, answered);
        assert!(!steps.is_due(percent), "one at a time");
        answer
    }

    fn busy() -> Error {
        Error::Closed { command: None }
    }

    #[test]
    fn a_step_is_told_when_qemu_has_taken_it_and_not_ordered_again() {
        let mut steps = Steps::default();
        let answer = order(&mut steps, 36);
        assert!(steps.answered().is_none(), "nothing is known yet");
        answer.send(Ok(())).unwrap();
        let told = steps.answered();
        assert!(matches!(told, Some(Told::Slowed { percent: 36 })));
        assert!(steps.answered().is_none());
        assert!(!steps.is_due(36));
        assert!(steps.is_due(46));
    }

    #[test]
    fn a_step_that_failed_is_ordered_again_and_one_that_always_does_is_given_up_with_one_warning() {
        let mut steps = Steps::default();
        for _ in 1..ATTEMPTS {
            order(&mut steps, 36).send(Err(busy())).unwrap();
            assert!(steps.answered().is_none());
        }
        order(&mut steps, 36).send(Ok(())).unwrap();
        assert!(matches!(steps.answered(), Some(Told::Slowed { .. })));

        for _ in 1..ATTEMPTS {
            drop(order(&mut steps, 46));
            assert!(steps.answered().is_none());
        }
        order(&mut steps, 46).send(Err(busy())).unwrap();
        assert!(matches!(steps.answered(), Some(Told::Refused(_))));
        assert!(!steps.is_due(46) && !steps.is_due(56));
        assert!(steps.answered().is_none());
    }
}
