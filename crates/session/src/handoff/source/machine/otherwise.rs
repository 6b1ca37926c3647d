//! What the source makes of an event that its stage does not wait for, and how a hand-off ends there.
//!
//! ```text
//!   before SHUT   abort ─▶ Aborting ─ the receiver's QEMU is dead ─▶ conclude: the guest is still here
//!   from SHUT on  conclude, where QEMU says that it gave up; in doubt, where nobody says anything
//! ```

use alloc::vec;

use super::super::super::{name, out_of_turn};
use super::super::{Action, Event, Outcome, Step, Wait, failures};
use super::{State, Turn};
use crate::control::{Failure, Fault, Message, StageChange};

/// What all stages before SHUT have in common: whatever is wrong, the guest stays.
pub(super) fn before_shut(state: State, event: Event) -> Turn {
    match event {
        Event::Peer(StageChange::Abort(why)) => {
            let completed = false;
            (
                State::Aborting { why, completed },
                vec![say(StageChange::Aborted), Action::Arm(Wait::Aborted)],
            )
        }
        Event::Peer(change) => abort(out_of_turn(
            Fault::Receiver,
            state.stage().name(),
            name(&change),
        )),
        Event::PeerVerification(_) => abort(out_of_turn(
            Fault::Receiver,
            state.stage().name(),
            "Verification",
        )),
        Event::QemuCompleted { .. } => {
            let why = failures::completed_early();
            let (_, actions) = abort(why.clone());
            let completed = true;
            (State::Aborting { why, completed }, actions)
        }
        Event::QemuFailed(why) | Event::Failed(why) => abort(why),
        Event::QemuClosed { .. } => abort(failures::closed_early()),
        Event::QemuGone => {
            let why = failures::gone_early();
            (
                State::Over,
                vec![
                    say(StageChange::Abort(why.clone())),
                    Action::Journal(Step::Aborted),
                    Action::Finish(Outcome::Gone { why }),
                ],
            )
        }
        Event::Cancel => abort(failures::cancelled()),
        Event::Lost(why) => conclude(why, false),
        Event::GuestStopped { .. }
        | Event::Drained(_)
        | Event::MemoryRead(_)
        | Event::Journaled(_)
        | Event::JournalFailed(..)
        | Event::Deadline(_) => (state, vec![]),
    }
}

/// Ends the move from here. The guest's QEMU is let go of when the receiver's is dead.
pub(super) fn abort(why: Failure) -> Turn {
    let actions = vec![
        say(StageChange::Abort(why.clone())),
        Action::Arm(Wait::Aborted),
    ];
    let completed = false;
    (State::Aborting { why, completed }, actions)
}

/// Nothing of the guest is at the receiver any more, or nobody can say: it was never told Commit, and will not be.
pub(super) fn conclude(why: Failure, stopped: bool) -> Turn {
    let mut actions = vec![];
    if !stopped {
        actions.push(Action::CancelQemu);
    }
    actions.extend([
        Action::Journal(Step::Aborted),
        Action::Finish(Outcome::StillAtSource { why, stopped }),
    ]);
    (State::Over, actions)
}

/// Whether the guest runs at the receiver this end cannot say, or not tell it.
pub(super) fn in_doubt(why: Failure) -> Turn {
    (
        State::Over,
        vec![
            Action::Send(Message::Failure(why.clone())),
            Action::Finish(Outcome::InDoubt { why }),
        ],
    )
}

pub(super) fn say(change: StageChange) -> Action {
    Action::Send(Message::StageChange(change))
}
