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
    Bytes, Choice, ErrorKind, Failure, Fault, Frame, Message, Placing, Received, Resume,
    wire::Progress,
};
use sealift_session::handoff::receiver::{
    self as handoff, Action, Event, Outcome, ReceiverHandoff,
};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::comeback::Comeback;
use super::line::{Back, Line};
use super::placer;
use super::qemu_says::Says;
use super::reached::Reached;
use super::reins::Reins;
use super::relay;
use super::story::Story;
use super::{Visitor, lanes};
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
enum Happened {
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
struct Going {
    under_way: UnderWay<Event>,
    told: Option<Instant>,
    deadline: Option<Armed>,
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

    fn happened(&mut self, going: &mut Going, happened: Happened) -> Option<Outcome> {
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
    fn acknowledge(&mut self) -> Option<Event> {
        while !self.line.is_down()
            && let Some(ranges) = self.placed.take_ranges()
        {
            if let Some(lost) = self.say(Message::Acknowledgement(ranges)) {
                return Some(lost);
            }
        }
        None
    }

    /// A connection is gone: then all are, and the source is waited for. The event is that it is not.
    fn broke(&mut self, why: Failure) -> Option<Event> {
        if !tie::is_of_the_link(&why) {
            return Some(Event::Lost(why));
        }
        if self.line.is_down() {
            return None;
        }
        if self.handoff.stage() == handoff::Stage::Over || !self.line.broke(&why) {
            return Some(Event::Lost(why));
        }
        self.tie.cut();
        self.inbound.interrupt();
        self.story.interrupted(&why);
        None
    }

    /// The source is at the door again, and has proven that it is the one: whatever is left of its connections is given up for the new one.
    fn comes_back(&mut self, comeback: Comeback) -> Option<Event> {
        if !self.line.is_down() {
            let why = failure(
                ErrorKind::Timeout,
                Fault::Network,
                "the source lost its connections",
            );
            // It is here again already.
            let _ = self.broke(why);
        }
        let Comeback {
            sender,
            receiver,
            keys,
            theirs,
            peer,
        } = comeback;
        let (lowest, seen) = self.inbound.seen();
        let internal = |error: &(dyn std::error::Error + 'static)| {
            Some(Event::Failed(failure_of(
                ErrorKind::Internal,
                Fault::Receiver,
                error,
            )))
        };
        let ours = match Bytes::new("Resume.seen", seen) {
            Ok(seen) => Resume {
                heard: self.tie.has_heard(),
                lowest,
                seen,
            },
            Err(invalid) => return internal(&invalid),
        };
        let tokens = match lanes::tokens(self.choice.lanes) {
            Ok(tokens) => tokens,
            Err(failure) => return Some(Event::Failed(failure)),
        };
        // Whoever came before these tokens has none of them.
        if let Ok(mut visitors) = self.visitors.try_lock() {
            while visitors.try_recv().is_ok() {}
        }
        for message in [Message::Resume(ours), Message::LaneTokens(tokens.clone())] {
            // A connection that is gone again is one that did not come.
            let _ = sender.send(Frame::of(message));
        }
        let (visitors, choice) = (Arc::clone(&self.visitors), self.choice.clone());
        self.line.gather(async move {
            let key = keys
                .lane_hello_key()
                .map_err(|error| failure_of(ErrorKind::Internal, Fault::Receiver, &error))?;
            let mut receiver = receiver;
            let mut visitors = visitors.lock().await;
            let gathered =
                lanes::gather(&mut receiver, &mut visitors, &tokens, &choice, &key).await?;
            Ok(Back {
                sender,
                receiver,
                keys,
                gathered,
                theirs,
                peer,
            })
        });
        None
    }

    /// The source is back.
    fn back(&mut self, going: &mut Going, back: Back) -> Option<Outcome> {
        let Back {
            sender,
            receiver,
            mut keys,
            gathered,
            theirs,
            peer,
        } = back;
        let opened = gathered.open(&mut keys).and_then(|(lanes, early)| {
            let resumed = self.inbound.resume(keys, lanes);
            resumed.map_err(|error| failure_of(ErrorKind::Resources, Fault::Receiver, &error))?;
            Ok(early)
        });
        let early = match opened {
            Ok(early) => early,
            Err(why) => {
                let actions = self.handoff.handle(Event::Failed(why));
                return self.act(going, actions);
            }
        };
        let after = self.line.up();
        if let Some(armed) = &mut going.deadline {
            armed.later(after);
        }
        if let Err(why) = self.tie.tie_on(sender, receiver, theirs.heard) {
            // Gone again, or not the source that it was.
            let event = self.broke(why)?;
            let actions = self.handoff.handle(event);
            return self.act(going, actions);
        }
        self.story.reconnected(after, &peer);
        // Of what was acknowledged last nobody knows whether it was heard.
        self.placed.tell_again(theirs.lowest);
        if let Some(event) = self.acknowledge() {
            let actions = self.handoff.handle(event);
            return self.act(going, actions);
        }
        self.said(going, early)
    }

    /// What the source said before it was listened to here.
    fn said(&mut self, going: &mut Going, early: Vec<Received>) -> Option<Outcome> {
        early.into_iter().find_map(|received| {
            let said = self.tie.take(received);
            self.happened(going, Happened::Said(said))
        })
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
    fn act(&mut self, going: &mut Going, actions: Vec<Action>) -> Option<Outcome> {
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
