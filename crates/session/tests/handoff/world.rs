//! Both ends of a hand-off on a virtual clock: two machines, two QEMUs, two journals, and a link that delays and breaks.
//!
//! ```text
//!   source's QEMU ─▶ SourceHandoff ═ link, each way in order ═▶ ReceiverHandoff ─▶ receiver's QEMU
//!                        │ journal                                  │ journal
//! ```
//!
//! Whatever is to happen stands in one queue by its time. How long a thing takes comes from a list, so that a test can
//! make up any order that a link, a disk and two QEMUs can. After each happening the world looks at the two QEMUs.

mod ends;

use std::collections::BTreeMap;

use sealift_session::control::{Message, RunState};
use sealift_session::handoff::{ReceiverHandoff, SourceHandoff, Wait, receiver, source};

use super::{DRAIN, why};

/// What a test makes of the world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) source: source::Terms,
    pub(crate) receiver: receiver::Terms,
    pub(crate) run_state: RunState,
    /// How long each thing takes, in turn and over again.
    pub(crate) takes: Vec<u64>,
    /// Each end says each step twice, as it may after a reconnect.
    pub(crate) repeats: bool,
    pub(crate) faults: Faults,
}

/// What goes wrong, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) cut: Option<u64>,
    pub(crate) cancel_at_source: Option<u64>,
    pub(crate) cancel_at_receiver: Option<u64>,
    pub(crate) source_dies: Option<u64>,
    pub(crate) destination_dies: Option<u64>,
    /// The source's QEMU fails after SHUT was passed.
    pub(crate) source_fails: bool,
    /// The source's QEMU completes before SHUT was passed.
    pub(crate) completes_early: bool,
    pub(crate) load_fails: bool,
    pub(crate) continue_fails: bool,
    /// The destination's QEMU is told to run the guest, and says nothing.
    pub(crate) never_continues: bool,
    /// Which journal writes fail, counted over both ends.
    pub(crate) journal_fails: Option<usize>,
    pub(crate) pages_missing: bool,
    pub(crate) memory_differs: bool,
}

impl Faults {
    /// Nothing that ends a QEMU.
    pub(crate) fn spares_the_qemus(&self) -> bool {
        self.source_dies.is_none() && self.destination_dies.is_none() && !self.continue_fails
    }
}

/// Where the source's QEMU stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AtSource {
    /// As the guest was: it runs, if it ran.
    Live,
    Stopped,
    Completed,
    /// Ended after the move.
    Ended,
    Dead,
}

/// Where the destination's QEMU stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AtDestination {
    Waiting,
    Loaded,
    /// As the guest was: it runs, if it ran.
    Live,
    Dead,
}

#[derive(Debug)]
enum Happening {
    ToSource(Message),
    ToReceiver(Message),
    Source(source::Event),
    Receiver(receiver::Event),
    SourceDeadline(usize, Wait),
    ReceiverDeadline(usize, Wait),
    /// The source's QEMU says how it ended, unless it was made to give up before.
    Decides,
    Loads,
    Continues,
    Cut,
    SourceDies,
    DestinationDies,
}

pub(crate) struct World {
    plan: Plan,
    now: u64,
    queue: BTreeMap<(u64, usize), Happening>,
    queued: usize,
    source: SourceHandoff,
    receiver: ReceiverHandoff,
    pub(crate) at_source: AtSource,
    pub(crate) at_destination: AtDestination,
    /// The link carries, and until when each way is taken.
    up: bool,
    ways: [u64; 2],
    source_armed: usize,
    receiver_armed: usize,
    journaled: usize,
    /// The source's QEMU has said so, or closed its channel.
    completed: bool,
    committed: bool,
    continued: usize,
    pub(crate) source_outcome: Option<source::Outcome>,
    pub(crate) receiver_outcome: Option<receiver::Outcome>,
    pub(crate) happenings: u64,
}

/// Longer than all that a fair list of times adds up to, so that a deadline passes only where something hangs; a list may have
/// longer ones.
pub(crate) const DEADLINE: u64 = 10_000;

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let (source, actions) = SourceHandoff::new(plan.source);
        let receiver = ReceiverHandoff::new(plan.receiver);
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            source,
            receiver,
            at_source: AtSource::Live,
            at_destination: AtDestination::Waiting,
            up: true,
            ways: [0; 2],
            source_armed: 0,
            receiver_armed: 0,
            journaled: 0,
            completed: false,
            committed: false,
            continued: 0,
            source_outcome: None,
            receiver_outcome: None,
            happenings: 0,
            plan,
        };
        world.source_does(actions);
        let stopped = world.takes();
        let at_ns = stopped;
        world.at(
            stopped,
            Happening::Source(source::Event::GuestStopped { at_ns }),
        );
        let faults = world.plan.faults.clone();
        for (time, happening) in [
            (faults.cut, Happening::Cut),
            (
                faults.cancel_at_source,
                Happening::Source(source::Event::Cancel),
            ),
            (
                faults.cancel_at_receiver,
                Happening::Receiver(receiver::Event::Cancel),
            ),
            (faults.source_dies, Happening::SourceDies),
            (faults.destination_dies, Happening::DestinationDies),
        ] {
            if let Some(time) = time {
                world.at(time, happening);
            }
        }
        world
    }

    /// Lets all happen that is to happen.
    pub(crate) fn run(&mut self) {
        while let Some(((now, _), happening)) = self.queue.pop_first() {
            self.now = now;
            self.happenings += 1;
            assert!(self.happenings < 1_000, "it does not end");
            self.happen(happening);
            self.look();
        }
    }

    /// What holds at every instant.
    fn look(&self) {
        let runs = self.plan.run_state == RunState::Running;
        assert!(
            !(runs
                && self.at_source == AtSource::Live
                && self.at_destination == AtDestination::Live),
            "two guests run"
        );
        if self.at_destination == AtDestination::Live {
            assert!(self.committed, "it continued before Commit");
        }
        assert!(self.continued <= 1, "it continued twice");
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToSource(Message::StageChange(change)) => {
                self.source_hears(source::Event::Peer(change));
            }
            Happening::ToSource(Message::Verification(read)) => {
                self.source_hears(source::Event::PeerVerification(read));
            }
            Happening::ToReceiver(Message::StageChange(change)) => {
                self.receiver_hears(receiver::Event::Peer(change));
            }
            Happening::ToReceiver(Message::Verification(read)) => {
                self.receiver_hears(receiver::Event::PeerVerification(read));
            }
            Happening::ToSource(Message::Failure(why)) => {
                self.source_hears(source::Event::Lost(why));
            }
            Happening::ToReceiver(Message::Failure(why)) => {
                self.receiver_hears(receiver::Event::Lost(why));
            }
            Happening::ToSource(other) | Happening::ToReceiver(other) => {
                panic!("{} is nothing of a hand-off's", other.kind())
            }
            Happening::Source(event) => self.source_event(event),
            Happening::Receiver(event) => self.receiver_hears(event),
            Happening::SourceDeadline(armed, wait) => {
                if armed == self.source_armed {
                    self.source_hears(source::Event::Deadline(wait));
                }
            }
            Happening::ReceiverDeadline(armed, wait) => {
                if armed == self.receiver_armed {
                    self.receiver_hears(receiver::Event::Deadline(wait));
                }
            }
            Happening::Decides => self.decides(),
            Happening::Loads => self.loads(),
            Happening::Continues => self.continues(),
            Happening::Cut => self.cut(),
            Happening::SourceDies => {
                if self.at_source != AtSource::Ended {
                    self.at_source = AtSource::Dead;
                    self.soon(Happening::Source(source::Event::QemuGone));
                }
            }
            Happening::DestinationDies => self.destination_dies(),
        }
    }

    fn source_event(&mut self, event: source::Event) {
        match event {
            source::Event::GuestStopped { .. } => {
                // One that was made to give up before does not stop the guest.
                if self.at_source != AtSource::Live || self.source.stage() != source::Stage::PreCopy
                {
                    return;
                }
                self.at_source = AtSource::Stopped;
                self.source_hears(event);
                self.soon(Happening::Source(source::Event::Drained(DRAIN)));
                if self.plan.faults.completes_early {
                    self.soon(Happening::Decides);
                }
            }
            other => self.source_hears(other),
        }
    }

    fn decides(&mut self) {
        if self.at_source != AtSource::Stopped {
            return;
        }
        let run_state = self.plan.run_state;
        let event = if self.plan.faults.source_fails {
            self.at_source = AtSource::Live;
            source::Event::QemuFailed(why("the source's QEMU failed"))
        } else {
            self.at_source = AtSource::Completed;
            self.completed = true;
            match self.plan.source.completion {
                source::Completion::ByQmp => source::Event::QemuCompleted { run_state },
                source::Completion::ByClose => source::Event::QemuClosed { run_state },
            }
        };
        // The channel's close may be seen before the word.
        if self.plan.source.completion == source::Completion::ByQmp {
            self.soon(Happening::Source(source::Event::QemuClosed { run_state }));
        }
        self.soon(Happening::Source(event));
    }

    fn loads(&mut self) {
        if self.at_destination != AtDestination::Waiting {
            return;
        }
        if self.plan.faults.load_fails {
            let failed = receiver::Event::QemuFailed(why("the destination's QEMU failed"));
            self.soon(Happening::Receiver(failed));
            return;
        }
        self.at_destination = AtDestination::Loaded;
        self.soon(Happening::Receiver(if self.plan.receiver.managed {
            receiver::Event::QemuLoaded
        } else {
            receiver::Event::HeldEnd
        }));
    }

    fn continues(&mut self) {
        if self.at_destination != AtDestination::Loaded {
            return;
        }
        if self.plan.faults.never_continues {
            return;
        }
        if self.plan.faults.continue_fails {
            let failed = receiver::Event::QemuFailed(why("its images are locked"));
            self.soon(Happening::Receiver(failed));
            return;
        }
        self.at_destination = AtDestination::Live;
        let at_ns = self.now;
        self.soon(Happening::Receiver(receiver::Event::QemuContinued {
            at_ns,
        }));
    }

    fn destination_dies(&mut self) {
        self.at_destination = AtDestination::Dead;
        self.soon(Happening::Receiver(receiver::Event::QemuGone));
    }

    fn cut(&mut self) {
        self.up = false;
        self.queue.retain(|_, queued| {
            !matches!(queued, Happening::ToSource(_) | Happening::ToReceiver(_))
        });
        self.soon(Happening::Source(source::Event::Lost(why("cut"))));
        self.soon(Happening::Receiver(receiver::Event::Lost(why("cut"))));
    }

    fn journal(&mut self) -> bool {
        self.journaled += 1;
        self.plan.faults.journal_fails != Some(self.journaled)
    }

    /// In order, behind what was sent the same way before; nothing when the link is cut, which both have heard of then.
    fn send(&mut self, way: usize, happening: Happening) {
        if !self.up {
            return;
        }
        let arrives = self.ways[way].max(self.now) + self.takes();
        self.ways[way] = arrives;
        self.at(arrives, happening);
    }

    fn soon(&mut self, happening: Happening) {
        let time = self.now + self.takes();
        self.at(time, happening);
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((time, self.queued), happening);
    }

    fn takes(&self) -> u64 {
        self.plan.takes[self.queued % self.plan.takes.len()]
    }
}
