//! What each end's driver does with its machine's actions.

use sealift_session::control::{Message, RunState, StageChange, Verification};
use sealift_session::handoff::{Drain, receiver, source};

use super::{AtDestination, AtSource, DEADLINE, Happening, World};
use crate::{DRAIN, READ, why};

impl World {
    pub(super) fn source_hears(&mut self, event: source::Event) {
        let actions = self.source.handle(event);
        self.source_does(actions);
    }

    pub(super) fn source_does(&mut self, actions: Vec<source::Action>) {
        use source::Action;
        for action in actions {
            assert_eq!(self.source_outcome, None, "{action:?} after the end");
            match action {
                Action::Send(message) => {
                    let commit = StageChange::Commit {
                        run_state: self.plan.run_state,
                    };
                    if message == Message::StageChange(commit) {
                        assert!(self.completed, "Commit without the QEMU's word");
                        self.committed = true;
                    }
                    if self.repeats(&message) {
                        self.send(0, Happening::ToReceiver(message.clone()));
                    }
                    self.send(0, Happening::ToReceiver(message));
                }
                Action::Journal(step) => {
                    let event = match self.journal() {
                        true => source::Event::Journaled(step),
                        false => source::Event::JournalFailed(step, why("disk")),
                    };
                    self.soon(Happening::Source(event));
                }
                Action::PassShut => self.soon(Happening::Decides),
                Action::ReadMemory => {
                    self.soon(Happening::Source(source::Event::MemoryRead(READ)));
                }
                Action::CancelQemu => {
                    if self.at_source == AtSource::Stopped {
                        self.at_source = AtSource::Live;
                        if self.source_outcome.is_none() {
                            let failed = source::Event::QemuFailed(why("cancelled"));
                            self.soon(Happening::Source(failed));
                        }
                    }
                }
                Action::EndQemu => {
                    assert!(
                        self.at_destination == AtDestination::Live
                            || self.plan.run_state != RunState::Running
                            || self.plan.faults.destination_dies.is_some(),
                        "the source's QEMU ended and the guest does not run"
                    );
                    self.at_source = AtSource::Ended;
                }
                Action::KeepQemu | Action::RefuseCancel | Action::Warn(_) => {}
                Action::Arm(wait) => {
                    self.source_armed += 1;
                    let deadline = Happening::SourceDeadline(self.source_armed, wait);
                    self.at(self.now + DEADLINE, deadline);
                }
                Action::Finish(outcome) => {
                    self.source_outcome = Some(outcome);
                    self.send(
                        0,
                        Happening::Receiver(receiver::Event::Lost(why("the source has closed"))),
                    );
                }
            }
        }
    }

    pub(super) fn receiver_hears(&mut self, event: receiver::Event) {
        let actions = self.receiver.handle(event);
        self.receiver_does(actions);
    }

    fn receiver_does(&mut self, actions: Vec<receiver::Action>) {
        use receiver::Action;
        for action in actions {
            assert_eq!(self.receiver_outcome, None, "{action:?} after the end");
            match action {
                Action::Send(message) => {
                    if self.repeats(&message) {
                        self.send(1, Happening::ToSource(message.clone()));
                    }
                    self.send(1, Happening::ToSource(message));
                }
                Action::Journal(step) => {
                    let event = match self.journal() {
                        true => receiver::Event::Journaled(step),
                        false => receiver::Event::JournalFailed(step, why("disk")),
                    };
                    self.soon(Happening::Receiver(event));
                }
                Action::Place { batches } => {
                    assert_eq!(batches, DRAIN.batches);
                    let lacks = u8::from(self.plan.faults.pages_missing);
                    let placed = Drain {
                        version_map: [DRAIN.version_map[0] - lacks; 32],
                        batches,
                    };
                    self.soon(Happening::Receiver(receiver::Event::RamPlaced(placed)));
                }
                Action::Load => self.soon(Happening::Loads),
                Action::ReadMemory => {
                    let differs = u8::from(self.plan.faults.memory_differs);
                    let read = Verification {
                        digest: [READ.digest[0] + differs; 32],
                        ..READ
                    };
                    self.soon(Happening::Receiver(receiver::Event::MemoryRead(read)));
                }
                Action::Continue | Action::ReleaseEnd => {
                    self.continued += 1;
                    self.soon(Happening::Continues);
                }
                Action::KillQemu => {
                    assert_ne!(
                        self.at_destination,
                        AtDestination::Live,
                        "a guest is killed"
                    );
                    assert!(!self.committed, "a guest that was handed over is killed");
                    self.destination_dies();
                }
                Action::RefuseCancel | Action::Warn(_) => {}
                Action::Arm(wait) => {
                    self.receiver_armed += 1;
                    let deadline = Happening::ReceiverDeadline(self.receiver_armed, wait);
                    self.at(self.now + DEADLINE, deadline);
                }
                Action::Finish(outcome) => {
                    self.receiver_outcome = Some(outcome);
                    self.send(
                        1,
                        Happening::Source(source::Event::Lost(why("the receiver has closed"))),
                    );
                }
            }
        }
    }

    fn repeats(&self, message: &Message) -> bool {
        self.plan.repeats && matches!(message, Message::StageChange(_))
    }
}
