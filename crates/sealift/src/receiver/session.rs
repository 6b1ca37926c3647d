//! One guest that arrives: everything that happens comes together here, the hand-off's machine says what to do about it, and here it is
//! done.
//!
//! ```text
//!  control channel ─┐
//!  inbound ─────────┤                     ┌─▶ control channel
//!  relay ───────────┼─▶ Happened ─▶ Event ─▶ ReceiverHandoff ─▶ Action ─┼─▶ relay, QMP
//!  QEMU, QMP ───────┤                     └─▶ journal
//!  signals, clock ──┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealift::event::What;
use sealift::outcome::Ending;
use sealift_net::inbound::{self, Inbound, Placed};
use sealift_session::control::{
    Bytes, Choice, ErrorKind, Failure, Fault, Message, Placing, Received, wire::Progress,
};
use sealift_session::handoff::receiver::{
    self as handoff, Action, Event, Outcome, ReceiverHandoff,
};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::Visitor;
use super::comeback::Comeback;
use super::line::{Back, Line};
use super::placer;
use super::qemu_says::Says;
use super::reached::Reached;
use super::reins::Reins;
use super::relay;
use super::story::Story;
use crate::clock::{Armed, ticks};
use crate::ending::{failure, failure_of};
use crate::fault;
use crate::journals::{Journals, Settled};
use crate::tie::{self, Tie};
use crate::under_way::UnderWay;
use crate::watch::Seen;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often the source is told how far this end is.
const TELL: Duration = Duration::from_secs(1);

/// Everything that an arriving guest needs.
pub(crate) struct Session {
    pub(crate) tie: Tie,
    /// What the source said before the session had begun.
    pub(crate) early: Vec<Received>,
    pub(super) line: Line,
    /// Connections that want to be lanes.
    pub(super) visitors: Arc<Mutex<mpsc::Receiver<Visitor>>>,
    pub(crate) inbound: Inbound,
    pub(crate) placed: Placed,
    pub(crate) reins: Reins,
    pub(crate) handoff: ReceiverHandoff,
    pub(crate) journal: Journals,
    pub(crate) story: Story,
    pub(crate) reached: Reached,
    /// What was agreed on: how many lanes.
    pub(crate) choice: Choice,
    /// The target is this session's as long as this is held.
    pub(crate) _turn: OwnedMutexGuard<()>,
}

/// Where things that happen come from.
pub(crate) struct Sources {
    pub(crate) inbound: mpsc::UnboundedReceiver<inbound::Event>,
    pub(crate) relay: mpsc::UnboundedReceiver<relay::Event>,
    pub(crate) placer: mpsc::UnboundedReceiver<placer::Event>,
    pub(crate) qemu: mpsc::UnboundedReceiver<Says>,
    pub(crate) looks: mpsc::UnboundedReceiver<Result<Seen, sealift_qemu::Error>>,
    /// The operator wants it to end.
    pub(crate) cancel: mpsc::Receiver<()>,
    /// The source, when it comes back.
    pub(super) comebacks: mpsc::Receiver<Comeback>,
}

/// Something that has happened.
pub(super) enum Happened {
    Said(Result<Option<Message>, Failure>),
    ComesBack(Comeback),
    Back(Result<Back, Failure>),
    Inbound(inbound::Event),
    Relay(relay::Event),
    Placer(placer::Event),
    Qemu(Says),
    Seen(Result<Seen, sealift_qemu::Error>),
    Settled(Settled),
    Done(Event),
    Cancel,
    Tick,
    Deadline(Wait),
}

/// What the loop itself remembers.
pub(super) struct Going {
    under_way: UnderWay<Event>,
    told: Option<Instant>,
    pub(super) deadline: Option<Armed>,
    /// All that came before the barrier, once it is placed: this may be before the source has counted it.
    at_barrier: Option<Drain>,
}

impl Session {
    /// Receives the guest to the end.
    pub(crate) async fn run(mut self, mut sources: Sources) -> Ending {
        let (under_way, mut finished) = UnderWay::new();
        let mut going = Going {
            under_way,
            told: None,
            deadline: None,
            at_barrier: None,
        };
        let mut ticks = ticks(TICK);
        let early = std::mem::take(&mut self.early);
        if let Some(outcome) = self.said(&mut going, early) {
            return self.finish(outcome, &mut sources.cancel).await;
        }
        loop {
            // Nobody can be late while nobody can be heard.
            let own = |armed: &Armed| armed.is(Wait::Continued) || armed.is(Wait::Killed);
            let deadline = going
                .deadline
                .filter(|armed| !self.line.is_down() || own(armed));
            let happened = tokio::select! {
                // What the peer can bring about as often as it likes comes last.
                biased;
                wait = Armed::passed(deadline) => Happened::Deadline(wait),
                Some(()) = sources.cancel.recv() => Happened::Cancel,
                settled = self.journal.settled() => Happened::Settled(settled),
                Some(event) = finished.recv() => Happened::Done(event),
                Some(look) = sources.looks.recv() => Happened::Seen(look),
                Some(says) = sources.qemu.recv() => Happened::Qemu(says),
                _ = ticks.tick() => Happened::Tick,
                Some(event) = sources.relay.recv() => Happened::Relay(event),
                Some(event) = sources.placer.recv() => Happened::Placer(event),
                Some(event) = sources.inbound.recv() => Happened::Inbound(event),
                Some(comeback) = sources.comebacks.recv() => Happened::ComesBack(comeback),
                back = self.line.back() => Happened::Back(back),
                said = self.tie.hear() => Happened::Said(said),
            };
            if let Some(outcome) = self.happened(&mut going, happened) {
                return self.finish(outcome, &mut sources.cancel).await;
            }
        }
    }

    pub(super) fn happened(&mut self, going: &mut Going, happened: Happened) -> Option<Outcome> {
        let event = match happened {
            Happened::Said(Ok(message)) => message.and_then(|message| self.message(message)),
            Happened::Said(Err(why)) => self.broke(why),
            Happened::ComesBack(comeback) => self.comes_back(comeback),
            Happened::Back(Ok(back)) => return self.back(going, back),
            // What broke again may come again; what the source has said is for good.
            Happened::Back(Err(why)) if tie::is_of_the_link(&why) => None,
            Happened::Back(Err(why)) => Some(Event::Lost(why)),
            Happened::Inbound(event) => self.inbound(event),
            Happened::Relay(event) => self.relay(going, event),
            Happened::Placer(event) => self.placer(event),
            Happened::Qemu(says) => self.qemu(says),
            Happened::Seen(Ok(seen)) => self.reins.seen(seen),
            Happened::Seen(Err(_)) => {
                self.reins.socket_closed(&going.under_way);
                None
            }
            Happened::Settled(settled) => self.settled(settled),
            Happened::Done(event) => {
                if let Event::RamPlaced(drain) = &event {
                    going.at_barrier = Some(*drain);
                }
                Some(event)
            }
            Happened::Cancel => Some(Event::Cancel),
            Happened::Tick => self.tick(going),
            Happened::Deadline(wait) => {
                going.deadline = None;
                Some(Event::Deadline(wait))
            }
        };
        let actions = self.handoff.handle(event?);
        self.act(going, actions)
    }

    fn message(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Epoch(epoch) => match epoch.check_within(&self.choice) {
                Ok(()) => {
                    self.inbound.announce(epoch);
                    None
                }
                Err(invalid) => Some(Event::Failed(failure_of(
                    ErrorKind::Protocol,
                    Fault::Source,
                    &invalid,
                ))),
            },
            Message::StageChange(change) => {
                self.story.peer_step(&change);
                Some(Event::Peer(change))
            }
            Message::Verification(verification) => Some(Event::PeerVerification(verification)),
            Message::Failure(why) => Some(Event::Lost(why)),
            Message::Progress(_) => None,
            other => Some(Event::Failed(failure(
                ErrorKind::Protocol,
                Fault::Source,
                &format!("the source sent {} while pages flow", other.kind()),
            ))),
        }
    }

    fn inbound(&mut self, event: inbound::Event) -> Option<Event> {
        match event {
            inbound::Event::Placed => self.acknowledge(),
            // Where nobody comes back, the control channel says whether the source has closed it.
            inbound::Event::LaneLost { error: None, .. } if !self.line.waits() => None,
            inbound::Event::LaneLost { lane, error } => {
                let (kind, why) = match error {
                    // What does not open was changed on the way.
                    Some(error) if error.kind() == io::ErrorKind::InvalidData => {
                        (ErrorKind::Integrity, error.to_string())
                    }
                    Some(error) => (ErrorKind::Timeout, error.to_string()),
                    None => (ErrorKind::Timeout, "it was closed".to_owned()),
                };
                let why = format!("lane {lane} broke: {why}");
                let why = failure(kind, Fault::Network, &why);
                match self.broke(why) {
                    // The control channel stands: the source is told.
                    Some(Event::Lost(why)) => Some(Event::Failed(why)),
                    other => other,
                }
            }
            inbound::Event::Broken(broken) => {
                let (kind, fault) = match &broken {
                    inbound::Broken::Seal(_)
                    | inbound::Broken::Decode(_)
                    | inbound::Broken::Resolve(_)
                    | inbound::Broken::Altered(_) => (ErrorKind::Integrity, Fault::Network),
                    inbound::Broken::Placement(_) => (ErrorKind::Qemu, Fault::Receiver),
                    _ => (ErrorKind::Protocol, Fault::Source),
                };
                Some(Event::Failed(failure(kind, fault, &broken.to_string())))
            }
        }
    }

    fn relay(&mut self, going: &Going, event: relay::Event) -> Option<Event> {
        match event {
            relay::Event::AtBarrier { batches } => {
                let versions = self.inbound.versions();
                // Of a large guest it takes a while.
                going.under_way.compute(move || {
                    Event::RamPlaced(Drain {
                        batches,
                        version_map: versions(),
                    })
                });
                None
            }
            relay::Event::HoldsEnd => Some(Event::HeldEnd),
            relay::Event::Broken { channel, error } => Some(Event::QemuFailed(failure(
                ErrorKind::Qemu,
                Fault::Receiver,
                &format!(
                    "the destination's QEMU took no more of channel {channel} ({error}); its log says why"
                ),
            ))),
        }
    }

    /// Tells the source what is in place, when it is there to hear it.
    pub(super) fn acknowledge(&mut self) -> Option<Event> {
        while !self.line.is_down()
            && let Some(ranges) = self.placed.take_ranges()
        {
            if let Some(lost) = self.say(Message::Acknowledgement(ranges)) {
                return Some(lost);
            }
        }
        None
    }

    fn placer(&mut self, event: placer::Event) -> Option<Event> {
        match event {
            placer::Event::Placing { blocks } => {
                for &block in &blocks {
                    self.story.tell(What::Access(self.reached.settled(block)));
                }
                self.say(Message::Placing(Placing::new(blocks).ok()?))
            }
            placer::Event::LeftToStream { block, why } => {
                self.story.tell(What::Access(self.reached.left(block, why)));
                None
            }
            placer::Event::AccessLost(why) => Some(Event::Failed(failure(
                ErrorKind::Qemu,
                Fault::Receiver,
                &format!("the destination lost its access to the guest's memory: {why}"),
            ))),
        }
    }

    fn qemu(&mut self, says: Says) -> Option<Event> {
        match says {
            Says::ReturnPath { bytes, shut } => {
                let data = Bytes::new("ReturnPath.data", bytes).ok()?;
                if let Some(lost) = self.say(Message::ReturnPath(data)) {
                    return Some(lost);
                }
                match shut {
                    Some(0) => self.reins.shut(),
                    Some(value) => Some(Event::QemuFailed(failure(
                        ErrorKind::Qemu,
                        Fault::Receiver,
                        &format!(
                            "the destination's QEMU could not load the guest (it says {value}); its log says why"
                        ),
                    ))),
                    None => None,
                }
            }
            // With a monitor QMP says more, and says it soon.
            Says::Ended if self.reins.managed() || self.reins.is_shut() => None,
            Says::Ended if self.handoff.stage() == handoff::Stage::Aborting => {
                Some(Event::QemuGone)
            }
            Says::Ended => Some(Event::QemuFailed(failure(
                ErrorKind::Qemu,
                Fault::Receiver,
                "the destination's QEMU closed its channel; its log says why",
            ))),
        }
    }

    /// What has become of a step in the journal.
    fn settled(&self, settled: Settled) -> Option<Event> {
        match settled {
            Settled::Written(step) => Some(Event::Journaled(step)),
            Settled::Failed(step, why) => Some(Event::JournalFailed(step, why)),
            Settled::Missing(why) => {
                self.story.voice.warn(why.to_string());
                None
            }
        }
    }

    fn tick(&mut self, going: &mut Going) -> Option<Event> {
        if let Some(lost) = self.line.gives_up() {
            return Some(Event::Lost(lost));
        }
        if let Err(why) = self.tie.tend()
            && let Some(lost) = self.broke(why)
        {
            return Some(lost);
        }
        if going.told.is_some_and(|told| told.elapsed() < TELL) {
            return None;
        }
        going.told = Some(Instant::now());
        let standing = self.inbound.standing();
        self.story.progress(&standing, self.placed.held());
        self.say(Message::Progress(Progress {
            pages: standing.pages,
            bytes: standing.bytes,
            held: self.placed.held(),
        }))
    }

    /// Does what the machine says, in its order. Returns how it ended, if it has.
    pub(super) fn act(&mut self, going: &mut Going, actions: Vec<Action>) -> Option<Outcome> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => {
                    if let Message::StageChange(change) = &message {
                        self.story.step(change);
                    }
                    if let Some(lost) = self.say(message) {
                        actions.extend(self.handoff.handle(lost));
                    }
                }
                Action::Journal(step) => self.journal.write(step),
                // The relay places everything as it comes, and says when it has come to the barrier. The lanes may have been quicker than
                // the word that asks for it.
                Action::Place { .. } => {
                    if let Some(drain) = going.at_barrier {
                        actions.extend(self.handoff.handle(Event::RamPlaced(drain)));
                    }
                }
                Action::Load => {
                    fault::at("before-load");
                    // While QEMU loads: from here on the guest may be held.
                    self.journal.write_ahead(Step::Prepared);
                    self.reins.load();
                    fault::at("after-load");
                }
                Action::ReadMemory => self.reins.read_memory(&going.under_way),
                Action::Continue => self.reins.continue_guest(&going.under_way),
                Action::ReleaseEnd => self.reins.release_end(),
                Action::KillQemu => self.reins.kill(&mut self.inbound, &going.under_way),
                Action::Arm(wait) => going.deadline = Some(Armed::now(wait)),
                Action::RefuseCancel => self
                    .story
                    .voice
                    .warn("too late to cancel: the guest may be this host's already"),
                Action::Warn(why) => self.story.voice.warn(why.to_string()),
                Action::Finish(outcome) => return Some(outcome),
            }
        }
        None
    }

    /// The connection's end may be an event.
    fn say(&mut self, message: Message) -> Option<Event> {
        let said = self.tie.say(message);
        said.err().and_then(|why| self.broke(why))
    }

    async fn finish(mut self, outcome: Outcome, cancel: &mut mpsc::Receiver<()>) -> Ending {
        let (in_doubt, confirmed) = match &outcome {
            Outcome::InDoubt { .. } => (true, false),
            Outcome::Aborted { confirmed, .. } => (false, *confirmed),
            Outcome::Moved { .. } => (false, self.story.source_knows),
        };
        if let Outcome::Moved { .. } = &outcome {
            self.reins.put_back(&self.story.voice).await;
        }
        let ending = self.story.end(outcome, &self.inbound.standing());
        self.journal.end(confirmed).await;
        self.tie.close().await;
        if in_doubt && !self.reins.managed() {
            // Without the rest of its stream QEMU would end, and with it what may be the only copy of the guest.
            self.story.voice.warn(format!(
                "{}; this process holds the guest for QEMU: end it only when the guest runs at the source",
                ending.line()
            ));
            let _ = cancel.recv().await;
        }
        self.inbound.close();
        self.reins.close();
        ending
    }
}
