//! The receiver's states, and what each makes of the events that it waits for; the others are `otherwise`'s.

mod otherwise;

use alloc::vec;
use alloc::vec::Vec;

use super::failures;
use super::{Action, Drain, Event, Outcome, Stage, Step, Terms, Wait};
use crate::control::{Failure, Message, RunState, StageChange, Verification};
use otherwise::{abort, aborted, before_prepared, fallen, holding, in_doubt, say, with_drain};

/// The receiver's machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceiverHandoff {
    terms: Terms,
    state: State,
    /// Why the control channel is gone, if it is: nothing is said any more.
    lost: Option<Failure>,
    stopped_ns: Option<u64>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum State {
    Expecting,
    Receiving,
    Stopped,
    /// The source has counted its batches.
    Checking(Drain),
    Loading(Drain),
    Reading(Drain),
    /// PREPARED is on its way to the journal.
    Preparing(Held),
    Prepared(Held),
    IntentSeen(Held),
    /// COMMIT is on its way to the journal.
    Committing(RunState),
    Continuing(RunState),
    /// ACTIVE is on its way to the journal.
    Activating(Live),
    Active(Live),
    /// QEMU's end is due.
    Aborting(Failure),
    Over,
}

/// A guest that could run here.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Held {
    drain: Drain,
    ours: Option<Verification>,
    theirs: Option<Verification>,
}

/// A guest that runs here, or is here as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Live {
    run_state: RunState,
    resumed_ns: u64,
}

type Turn = (State, Vec<Action>);

impl ReceiverHandoff {
    /// The guest is admitted, and lanes may open.
    #[must_use]
    pub const fn new(terms: Terms) -> Self {
        Self {
            terms,
            state: State::Expecting,
            lost: None,
            stopped_ns: None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// When the source's QEMU stopped the guest, by the source's clock.
    #[must_use]
    pub const fn stopped_ns(&self) -> Option<u64> {
        self.stopped_ns
    }

    /// Takes what has happened; returns what is to be done about it.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        match (&self.state, &event) {
            (State::Over, _) => return vec![],
            (_, Event::Lost(why)) => {
                self.lost.get_or_insert_with(|| why.clone());
            }
            (State::Receiving, Event::Peer(StageChange::StopAndCopy { stopped_ns })) => {
                self.stopped_ns = Some(*stopped_ns);
            }
            _ => {}
        }
        let state = core::mem::replace(&mut self.state, State::Over);
        let (state, mut actions) = self.turn(state, event);
        self.state = state;
        if self.lost.is_some() {
            actions.retain(|action| !matches!(action, Action::Send(_)));
        }
        actions
    }

    fn turn(&self, state: State, event: Event) -> Turn {
        match state {
            State::Expecting => match event {
                Event::Peer(StageChange::PreCopy) => (State::Receiving, vec![]),
                other => before_prepared(State::Expecting, other),
            },
            State::Receiving => match event {
                Event::Peer(StageChange::PreCopy) => (State::Receiving, vec![]),
                Event::Peer(StageChange::StopAndCopy { .. }) => (State::Stopped, vec![]),
                other => before_prepared(State::Receiving, other),
            },
            State::Stopped => match event {
                Event::Peer(StageChange::StopAndCopy { .. }) => (State::Stopped, vec![]),
                Event::Peer(StageChange::Drained {
                    batches,
                    version_map,
                }) => {
                    let drain = Drain {
                        batches,
                        version_map,
                    };
                    (State::Checking(drain), vec![Action::Place { batches }])
                }
                other => before_prepared(State::Stopped, other),
            },
            State::Checking(drain) => checking(drain, event),
            State::Loading(drain) => self.loading(drain, event),
            State::Reading(drain) => match event {
                Event::MemoryRead(ours) => prepare(drain, Some(ours)),
                other => with_drain(State::Reading(drain), drain, other),
            },
            State::Preparing(held) => preparing(held, event),
            State::Prepared(held) => self.prepared(held, event),
            State::IntentSeen(held) => intent_seen(held, self.terms.managed, event),
            State::Committing(run_state) => self.committing(run_state, event),
            State::Continuing(run_state) => continuing(run_state, event),
            State::Activating(live) => self.activating(live, event),
            State::Active(live) => self.active(live, event),
            State::Aborting(why) => aborting(why, &event),
            State::Over => (State::Over, vec![]),
        }
    }

    fn loading(&self, drain: Drain, event: Event) -> Turn {
        match event {
            Event::QemuLoaded if self.terms.managed && self.terms.verify => {
                (State::Reading(drain), vec![Action::ReadMemory])
            }
            Event::QemuLoaded if self.terms.managed => prepare(drain, None),
            Event::HeldEnd if !self.terms.managed => prepare(drain, None),
            other => with_drain(State::Loading(drain), drain, other),
        }
    }

    fn prepared(&self, mut held: Held, event: Event) -> Turn {
        match event {
            Event::Peer(StageChange::Intent) => {
                if !self.terms.verify || held.ours == held.theirs {
                    return (State::IntentSeen(held), vec![]);
                }
                in_doubt(failures::source_goes_on())
            }
            Event::PeerVerification(theirs) if self.terms.verify => {
                held.theirs = Some(theirs);
                (State::Prepared(held), vec![])
            }
            other => holding(State::Prepared, held, self.terms.managed, other),
        }
    }

    fn committing(&self, run_state: RunState, event: Event) -> Turn {
        let mut actions = match event {
            Event::Journaled(Step::Commit { .. }) => vec![],
            // The guest is this end's and nobody else's: the disk changes nothing about it.
            Event::JournalFailed(Step::Commit { .. }, why) => vec![Action::Warn(why)],
            Event::QemuGone => return fallen(),
            Event::Deadline(Wait::Continued) => return in_doubt(failures::slow_journal()),
            Event::Cancel => return (State::Committing(run_state), vec![Action::RefuseCancel]),
            _ => return (State::Committing(run_state), vec![]),
        };
        let state = match (self.terms.managed, run_state) {
            // One that sleeps is held as well, and nothing wakes it before it is let go of.
            (true, RunState::Running | RunState::Suspended) => {
                actions.push(Action::Continue);
                State::Continuing(run_state)
            }
            // It stays as QEMU has it.
            (true, RunState::Paused) => {
                let resumed_ns = 0;
                actions.push(Action::Journal(Step::Active { resumed_ns }));
                State::Activating(Live {
                    run_state,
                    resumed_ns,
                })
            }
            (false, _) => {
                actions.push(Action::ReleaseEnd);
                State::Continuing(run_state)
            }
        };
        (state, actions)
    }

    fn activating(&self, live: Live, event: Event) -> Turn {
        let mut actions = match event {
            Event::Journaled(Step::Active { .. }) => vec![],
            Event::JournalFailed(Step::Active { .. }, why) => vec![Action::Warn(why)],
            Event::Cancel => return (State::Activating(live), vec![Action::RefuseCancel]),
            _ => return (State::Activating(live), vec![]),
        };
        if let Some(why) = &self.lost {
            let (state, unheard) = self.unheard(live, why);
            actions.extend(unheard);
            return (state, actions);
        }
        let resumed_ns = live.resumed_ns;
        actions.extend([
            say(StageChange::Active { resumed_ns }),
            Action::Arm(Wait::Done),
        ]);
        (State::Active(live), actions)
    }

    fn active(&self, live: Live, event: Event) -> Turn {
        match event {
            Event::Peer(StageChange::Done) => self.moved(live, vec![]),
            Event::Lost(why) => self.unheard(live, &why),
            Event::Deadline(Wait::Done) => self.unheard(live, &failures::silent_source()),
            Event::Cancel => (State::Active(live), vec![Action::RefuseCancel]),
            _ => (State::Active(live), vec![]),
        }
    }

    /// The guest is here, and the source has not said that it knows.
    fn unheard(&self, live: Live, why: &Failure) -> Turn {
        let warning = failures::unheard(why);
        self.moved(live, vec![Action::Warn(warning)])
    }

    fn moved(&self, live: Live, mut actions: Vec<Action>) -> Turn {
        let Live {
            run_state,
            resumed_ns,
        } = live;
        let managed = self.terms.managed;
        actions.extend([
            Action::Journal(Step::Done),
            Action::Finish(Outcome::Moved {
                managed,
                run_state,
                resumed_ns,
            }),
        ]);
        (State::Over, actions)
    }
}

fn checking(drain: Drain, event: Event) -> Turn {
    match event {
        Event::RamPlaced(placed) if placed == drain => (State::Loading(drain), vec![Action::Load]),
        Event::RamPlaced(_) => abort(failures::missing()),
        other => with_drain(State::Checking(drain), drain, other),
    }
}

fn prepare(drain: Drain, ours: Option<Verification>) -> Turn {
    let theirs = None;
    let held = Held {
        drain,
        ours,
        theirs,
    };
    (
        State::Preparing(held),
        vec![Action::Journal(Step::Prepared)],
    )
}

fn preparing(held: Held, event: Event) -> Turn {
    match event {
        Event::Journaled(Step::Prepared) => {
            let Drain {
                batches,
                version_map,
            } = held.drain;
            let mut actions = vec![say(StageChange::Prepared {
                batches,
                version_map,
            })];
            let verification = held.ours.map(Message::Verification);
            actions.extend(verification.map(Action::Send));
            (State::Prepared(held), actions)
        }
        Event::JournalFailed(Step::Prepared, why) => abort(why),
        other => {
            let drain = held.drain;
            with_drain(State::Preparing(held), drain, other)
        }
    }
}

fn intent_seen(held: Held, managed: bool, event: Event) -> Turn {
    match event {
        Event::Peer(StageChange::Commit { run_state }) => {
            let step = Step::Commit { run_state };
            (
                State::Committing(run_state),
                vec![Action::Journal(step), Action::Arm(Wait::Continued)],
            )
        }
        Event::Peer(StageChange::Intent) => (State::IntentSeen(held), vec![]),
        other => holding(State::IntentSeen, held, managed, other),
    }
}

fn continuing(run_state: RunState, event: Event) -> Turn {
    match event {
        Event::QemuContinued { at_ns } => {
            // A guest that did not run was only let go of.
            let resumed_ns = match run_state {
                RunState::Running => at_ns,
                RunState::Paused | RunState::Suspended => 0,
            };
            let live = Live {
                run_state,
                resumed_ns,
            };
            let step = Step::Active { resumed_ns };
            (State::Activating(live), vec![Action::Journal(step)])
        }
        Event::QemuGone => fallen(),
        Event::QemuFailed(why) => in_doubt(failures::cannot_continue(&why)),
        Event::Deadline(Wait::Continued) => in_doubt(failures::slow_to_continue()),
        Event::Cancel => (State::Continuing(run_state), vec![Action::RefuseCancel]),
        _ => (State::Continuing(run_state), vec![]),
    }
}

fn aborting(why: Failure, event: &Event) -> Turn {
    match event {
        Event::QemuGone => aborted(why, vec![]),
        Event::Deadline(Wait::Killed) => {
            let confirmed = false;
            (
                State::Over,
                vec![
                    Action::Journal(Step::Aborted),
                    Action::Finish(Outcome::Aborted { why, confirmed }),
                ],
            )
        }
        _ => (State::Aborting(why), vec![]),
    }
}

impl State {
    const fn stage(&self) -> Stage {
        match self {
            Self::Expecting => Stage::Expecting,
            Self::Receiving => Stage::Receiving,
            Self::Stopped => Stage::Stopped,
            Self::Checking(_) => Stage::Checking,
            Self::Loading(_) => Stage::Loading,
            Self::Reading(_) => Stage::Reading,
            Self::Preparing(_) => Stage::Preparing,
            Self::Prepared(_) => Stage::Prepared,
            Self::IntentSeen(_) => Stage::IntentSeen,
            Self::Committing(_) => Stage::Committing,
            Self::Continuing(_) => Stage::Continuing,
            Self::Activating(_) => Stage::Activating,
            Self::Active(_) => Stage::Active,
            Self::Aborting(_) => Stage::Aborting,
            Self::Over => Stage::Over,
        }
    }
}
