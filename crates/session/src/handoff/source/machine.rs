//! The source's states, and what each makes of the events that it waits for; the others are `otherwise`'s.

mod otherwise;

use alloc::vec;
use alloc::vec::Vec;

use super::super::{name, out_of_turn};
use super::failures;
use super::{Action, Completion, Drain, Event, Outcome, Stage, Step, Terms, Wait};
use crate::control::{Failure, Fault, Message, RunState, StageChange, Verification};
use otherwise::{abort, before_shut, conclude, in_doubt, say};

/// The source's machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceHandoff {
    terms: Terms,
    state: State,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum State {
    PreCopy,
    Stopped,
    Drained(Sent),
    /// INTENT is on its way to the journal.
    Intending(Sent),
    ShutPassed(Sent, Tie),
    /// COMPLETED is on its way to the journal.
    Completing(RunState, Tie),
    Committed,
    /// DONE is on its way to the journal.
    Activated {
        resumed_ns: u64,
    },
    /// The receiver's Aborted is due.
    Aborting {
        why: Failure,
        /// QEMU completed all the same.
        completed: bool,
    },
    Over,
}

/// What was sent, and what has come back of it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Sent {
    drain: Drain,
    prepared: bool,
    ours: Option<Verification>,
    theirs: Option<Verification>,
}

/// Whether the receiver can still be told what QEMU said.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Tie {
    Holds,
    Lost(Failure),
}

type Turn = (State, Vec<Action>);

impl SourceHandoff {
    /// The lanes are open, and pages begin.
    #[must_use]
    pub fn new(terms: Terms) -> (Self, Vec<Action>) {
        let state = State::PreCopy;
        (Self { terms, state }, vec![say(StageChange::PreCopy)])
    }

    /// Where it stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// Takes what has happened; returns what is to be done about it.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let state = core::mem::replace(&mut self.state, State::Over);
        let (state, actions) = self.turn(state, event);
        self.state = state;
        actions
    }

    fn turn(&self, state: State, event: Event) -> Turn {
        match state {
            State::PreCopy => self.pre_copy(event),
            State::Stopped => self.stopped(event),
            State::Drained(sent) => self.drained(sent, event),
            State::Intending(sent) => self.intending(sent, event),
            State::ShutPassed(sent, tie) => self.shut_passed(sent, tie, event),
            State::Completing(run_state, tie) => completing(run_state, tie, event),
            State::Committed => committed(event),
            State::Activated { resumed_ns } => self.activated(resumed_ns, event),
            State::Aborting { why, completed } => aborting(why, completed, &event),
            State::Over => (State::Over, vec![]),
        }
    }

    fn pre_copy(&self, event: Event) -> Turn {
        match event {
            Event::GuestStopped { at_ns } => {
                let stopped_ns = at_ns;
                (
                    State::Stopped,
                    vec![
                        say(StageChange::StopAndCopy { stopped_ns }),
                        Action::Arm(Wait::Drained),
                    ],
                )
            }
            other => before_shut(State::PreCopy, other),
        }
    }

    fn stopped(&self, event: Event) -> Turn {
        match event {
            Event::Drained(drain) => {
                let Drain {
                    batches,
                    version_map,
                } = drain;
                let mut actions = vec![
                    say(StageChange::Drained {
                        batches,
                        version_map,
                    }),
                    Action::Arm(Wait::Prepared),
                ];
                if self.terms.verify {
                    actions.push(Action::ReadMemory);
                }
                let (ours, theirs) = (None, None);
                let sent = Sent {
                    drain,
                    prepared: false,
                    ours,
                    theirs,
                };
                (State::Drained(sent), actions)
            }
            Event::Deadline(Wait::Drained) => abort(failures::slow_drain()),
            other => before_shut(State::Stopped, other),
        }
    }

    fn drained(&self, mut sent: Sent, event: Event) -> Turn {
        match event {
            Event::Peer(StageChange::Prepared {
                batches,
                version_map,
            }) => {
                let found = Drain {
                    batches,
                    version_map,
                };
                if found != sent.drain {
                    return abort(failures::differs(
                        "the receiver's version map or number of batches",
                    ));
                }
                sent.prepared = true;
            }
            Event::MemoryRead(verification) if self.terms.verify => sent.ours = Some(verification),
            Event::PeerVerification(verification) if self.terms.verify && sent.prepared => {
                sent.theirs = Some(verification);
            }
            Event::Deadline(Wait::Prepared) => {
                return abort(failures::slow_receiver());
            }
            // As below: the receiver has all of the guest.
            Event::QemuGone if sent.prepared => return in_doubt(failures::gone()),
            Event::QemuClosed { .. } if sent.prepared && self.asks_qemu() => {}
            other => return before_shut(State::Drained(sent), other),
        }
        self.may_intend(sent)
    }

    /// Whether all has come that INTENT needs.
    fn may_intend(&self, sent: Sent) -> Turn {
        let compared = match (self.terms.verify, sent.ours, sent.theirs) {
            (false, ..) => sent.prepared,
            (true, Some(ours), Some(theirs)) if ours != theirs => {
                return abort(failures::differs(
                    "the memory that the receiver's QEMU holds",
                ));
            }
            (true, ours, theirs) => ours.is_some() && theirs.is_some(),
        };
        if compared {
            (State::Intending(sent), vec![Action::Journal(Step::Intent)])
        } else {
            (State::Drained(sent), vec![])
        }
    }

    fn intending(&self, sent: Sent, event: Event) -> Turn {
        match event {
            Event::Journaled(Step::Intent) => {
                let verification = sent
                    .ours
                    .map(|ours| Action::Send(Message::Verification(ours)));
                let mut actions: Vec<_> = verification.into_iter().collect();
                actions.extend([
                    say(StageChange::Intent),
                    Action::PassShut,
                    Action::Arm(Wait::Completed),
                ]);
                (State::ShutPassed(sent, Tie::Holds), actions)
            }
            Event::JournalFailed(Step::Intent, why) => abort(why),
            Event::Peer(StageChange::Prepared { .. }) if repeats(&sent, &event) => {
                (State::Intending(sent), vec![])
            }
            Event::QemuClosed { .. } if self.asks_qemu() => (State::Intending(sent), vec![]),
            // The receiver has all of the guest: it is not told Abort, and somebody can let it run there.
            Event::QemuGone => in_doubt(failures::gone()),
            other => before_shut(State::Intending(sent), other),
        }
    }

    fn shut_passed(&self, sent: Sent, tie: Tie, event: Event) -> Turn {
        let completed = |tie, run_state| {
            let step = Step::Completed { run_state };
            (
                State::Completing(run_state, tie),
                vec![Action::Journal(step)],
            )
        };
        match event {
            Event::QemuCompleted { run_state } => return completed(tie, run_state),
            Event::QemuClosed { run_state } => {
                if self.terms.completion == Completion::ByClose {
                    return completed(tie, run_state);
                }
            }
            Event::QemuFailed(why) => {
                return match tie {
                    Tie::Holds => abort(why),
                    Tie::Lost(_) => conclude(why, false),
                };
            }
            Event::QemuGone => return in_doubt(failures::gone()),
            Event::Deadline(Wait::Completed) => {
                return in_doubt(failures::silent_qemu());
            }
            // A QEMU that has not completed yet may still give up; then the guest runs on here.
            Event::Peer(StageChange::Abort(why)) => {
                return (
                    State::ShutPassed(sent, tie.or(why)),
                    vec![Action::CancelQemu],
                );
            }
            Event::Peer(_) if repeats(&sent, &event) => {}
            Event::Peer(change) => {
                let why = out_of_turn(Fault::Receiver, "ShutPassed", name(&change));
                return (State::ShutPassed(sent, tie.or(why)), vec![]);
            }
            Event::Lost(why) => return (State::ShutPassed(sent, tie.or(why)), vec![]),
            Event::Cancel => {
                return (State::ShutPassed(sent, tie), vec![Action::RefuseCancel]);
            }
            Event::Failed(why) => {
                return (State::ShutPassed(sent, tie), vec![Action::Warn(why)]);
            }
            Event::GuestStopped { .. }
            | Event::Drained(_)
            | Event::MemoryRead(_)
            | Event::PeerVerification(_)
            | Event::Journaled(_)
            | Event::JournalFailed(..)
            | Event::Deadline(_) => {}
        }
        (State::ShutPassed(sent, tie), vec![])
    }

    /// Whether QMP says what a closed channel means. Once the receiver has all of the guest, a QEMU that died, whose channel closes first,
    /// must not be taken for one that gave up and runs the guest on: the receiver's would be ended as well.
    fn asks_qemu(&self) -> bool {
        self.terms.completion == Completion::ByQmp
    }

    fn activated(&self, resumed_ns: u64, event: Event) -> Turn {
        let mut actions = match event {
            Event::Journaled(Step::Done) => vec![],
            // The guest is live at the receiver: the disk changes nothing about it.
            Event::JournalFailed(Step::Done, why) => vec![Action::Warn(why)],
            Event::Cancel => {
                return (State::Activated { resumed_ns }, vec![Action::RefuseCancel]);
            }
            _ => return (State::Activated { resumed_ns }, vec![]),
        };
        let managed = self.terms.managed;
        actions.extend([
            say(StageChange::Done),
            if self.terms.keep {
                Action::KeepQemu
            } else {
                Action::EndQemu
            },
            Action::Finish(Outcome::Moved {
                managed,
                resumed_ns,
            }),
        ]);
        (State::Over, actions)
    }
}

fn completing(run_state: RunState, tie: Tie, event: Event) -> Turn {
    let mut actions = match event {
        Event::Journaled(Step::Completed { .. }) => vec![],
        // QEMU's word is the decision, not the journal: it can be asked again. To hold the guest back would help nobody.
        Event::JournalFailed(Step::Completed { .. }, why) => vec![Action::Warn(why)],
        Event::Lost(why) | Event::Peer(StageChange::Abort(why)) => {
            return (State::Completing(run_state, tie.or(why)), vec![]);
        }
        Event::Cancel => {
            return (
                State::Completing(run_state, tie),
                vec![Action::RefuseCancel],
            );
        }
        _ => return (State::Completing(run_state, tie), vec![]),
    };
    match tie {
        Tie::Holds => {
            actions.extend([
                say(StageChange::Commit { run_state }),
                Action::Arm(Wait::Active),
            ]);
            (State::Committed, actions)
        }
        Tie::Lost(why) => {
            let (state, finish) = in_doubt(failures::untold(&why));
            actions.extend(finish);
            (state, actions)
        }
    }
}

fn committed(event: Event) -> Turn {
    match event {
        Event::Peer(StageChange::Active { resumed_ns }) => (
            State::Activated { resumed_ns },
            vec![Action::Journal(Step::Done)],
        ),
        Event::Peer(StageChange::Abort(why)) => in_doubt(failures::not_taken(&why)),
        Event::Lost(why) => in_doubt(failures::unheard(&why)),
        Event::Deadline(Wait::Active) => in_doubt(failures::slow_to_activate()),
        Event::Cancel => (State::Committed, vec![Action::RefuseCancel]),
        _ => (State::Committed, vec![]),
    }
}

fn aborting(why: Failure, completed: bool, event: &Event) -> Turn {
    match event {
        Event::Peer(StageChange::Aborted) | Event::Lost(_) | Event::Deadline(Wait::Aborted) => {
            conclude(why, completed)
        }
        // Both ends began at once.
        Event::Peer(StageChange::Abort(_)) => (
            State::Aborting { why, completed },
            vec![say(StageChange::Aborted)],
        ),
        Event::QemuCompleted { .. } => {
            let completed = true;
            (State::Aborting { why, completed }, vec![])
        }
        Event::QemuGone => (
            State::Over,
            vec![
                Action::Journal(Step::Aborted),
                Action::Finish(Outcome::Gone {
                    why: failures::gone(),
                }),
            ],
        ),
        _ => (State::Aborting { why, completed }, vec![]),
    }
}

/// The receiver says again what it said.
fn repeats(sent: &Sent, event: &Event) -> bool {
    let said = StageChange::Prepared {
        batches: sent.drain.batches,
        version_map: sent.drain.version_map,
    };
    matches!(event, Event::Peer(change) if sent.prepared && *change == said)
}

impl Tie {
    /// Lost, for the first reason there was.
    fn or(self, why: Failure) -> Self {
        match self {
            Self::Holds => Self::Lost(why),
            lost => lost,
        }
    }
}

impl State {
    const fn stage(&self) -> Stage {
        match self {
            Self::PreCopy => Stage::PreCopy,
            Self::Stopped => Stage::Stopped,
            Self::Drained(_) => Stage::Drained,
            Self::Intending(_) => Stage::Intending,
            Self::ShutPassed(..) => Stage::ShutPassed,
            Self::Completing(..) => Stage::Completing,
            Self::Committed => Stage::Committed,
            Self::Activated { .. } => Stage::Activated,
            Self::Aborting { .. } => Stage::Aborting,
            Self::Over => Stage::Over,
        }
    }
}
