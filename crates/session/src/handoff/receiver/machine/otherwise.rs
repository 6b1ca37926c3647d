//! What the receiver makes of an event that its stage does not wait for, and how a hand-off ends there.
//!
//! ```text
//!   before PREPARED   abort, kill ─▶ Aborting ─ QEMU is dead ─▶ aborted
//!   PREPARED          the guest is held: what would have ended it before is only in doubt now
//!   COMMIT            it is this end's: fallen, if its QEMU dies
//! ```

use alloc::vec;
use alloc::vec::Vec;

use super::super::super::{name, out_of_turn};
use super::super::{Action, Drain, Event, Outcome, Step, Wait, failures};
use super::{Held, State, Turn};
use crate::control::{Failure, Fault, Message, StageChange};

/// What all stages before PREPARED have in common: whatever is wrong, this end's QEMU dies.
pub(super) fn before_prepared(state: State, event: Event) -> Turn {
    match event {
        Event::Peer(StageChange::Abort(why)) => kill(why),
        Event::Peer(change) => abort(out_of_turn(
            Fault::Source,
            state.stage().name(),
            name(&change),
        )),
        Event::PeerVerification(_) => abort(out_of_turn(
            Fault::Source,
            state.stage().name(),
            "Verification",
        )),
        Event::QemuFailed(why) | Event::Failed(why) => abort(why),
        Event::QemuGone => {
            let why = failures::ended_before();
            let told = vec![say(StageChange::Abort(why.clone()))];
            aborted(why, told)
        }
        Event::QemuContinued { .. } => abort(failures::ran_before()),
        Event::Cancel => abort(failures::cancelled()),
        Event::Lost(why) => kill(why),
        Event::RamPlaced(_)
        | Event::QemuLoaded
        | Event::HeldEnd
        | Event::MemoryRead(_)
        | Event::Journaled(_)
        | Event::JournalFailed(..)
        | Event::Deadline(_) => (state, vec![]),
    }
}

/// The source may say Drained again from there on.
pub(super) fn with_drain(state: State, drain: Drain, event: Event) -> Turn {
    if says(&event, drain) {
        (state, vec![])
    } else {
        before_prepared(state, event)
    }
}

/// It says again what it has counted.
fn says(event: &Event, drain: Drain) -> bool {
    let said = StageChange::Drained {
        batches: drain.batches,
        version_map: drain.version_map,
    };
    matches!(event, Event::Peer(change) if *change == said)
}

/// What both stages of a guest that is held have in common: it is not let go of.
pub(super) fn holding(stage: fn(Held) -> State, held: Held, managed: bool, event: Event) -> Turn {
    if says(&event, held.drain) {
        return (stage(held), vec![]);
    }
    match event {
        Event::Peer(StageChange::Abort(why)) => kill(why),
        Event::Peer(change) => {
            let why = out_of_turn(Fault::Source, stage(held).stage().name(), name(&change));
            in_doubt(failures::held(&why, managed))
        }
        Event::Lost(why) => in_doubt(failures::held(&why, managed)),
        Event::QemuContinued { .. } => in_doubt(failures::ran_unasked()),
        Event::QemuGone => {
            let why = failures::ended_prepared();
            let told = vec![say(StageChange::Abort(why.clone()))];
            aborted(why, told)
        }
        Event::Cancel => (stage(held), vec![Action::RefuseCancel]),
        Event::QemuFailed(why) | Event::Failed(why) => (stage(held), vec![Action::Warn(why)]),
        Event::PeerVerification(_)
        | Event::RamPlaced(_)
        | Event::QemuLoaded
        | Event::HeldEnd
        | Event::MemoryRead(_)
        | Event::Journaled(_)
        | Event::JournalFailed(..)
        | Event::Deadline(_) => (stage(held), vec![]),
    }
}

/// QEMU dies first; the source is told why.
pub(super) fn abort(why: Failure) -> Turn {
    let (_, mut actions) = kill(why.clone());
    actions.insert(1, say(StageChange::Abort(why.clone())));
    (State::Aborting(why), actions)
}

/// QEMU dies first; the source knows why, or cannot be told.
fn kill(why: Failure) -> Turn {
    (
        State::Aborting(why),
        vec![Action::KillQemu, Action::Arm(Wait::Killed)],
    )
}

/// QEMU is dead.
pub(super) fn aborted(why: Failure, mut actions: Vec<Action>) -> Turn {
    let confirmed = true;
    actions.extend([
        say(StageChange::Aborted),
        Action::Journal(Step::Aborted),
        Action::Finish(Outcome::Aborted { why, confirmed }),
    ]);
    (State::Over, actions)
}

/// QEMU is dead, and the guest was already this end's.
pub(super) fn fallen() -> Turn {
    let why = failures::ended_committed();
    (
        State::Over,
        vec![
            say(StageChange::Abort(why.clone())),
            Action::Finish(Outcome::InDoubt { why }),
        ],
    )
}

/// The guest is held, and only a person can say whether it is to run here.
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
