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
use std::time::{Duration, Instant};

use sealift::event::What;
use sealift::outcome::Ending;
use sealift_net::Error;
use sealift_net::control::{Receiver, Sender};
use sealift_net::inbound::{self, Inbound, Placed};
use sealift_qemu::channel::Closer;
use sealift_qemu::machine::Machine;
use sealift_session::clock::Pings;
use sealift_session::control::{
    Bytes, Choice, ErrorKind, Failure, Fault, Frame, Message, Pong, Received,
    wire::Progress as WireProgress,
};
use sealift_session::handoff::receiver::{
    self as handoff, Action, Event, Outcome, ReceiverHandoff,
};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::qemu_says::Says;
use super::relay::{self, Clearance};
use super::story::Story;
use crate::clock::{Armed, now_ns};
use crate::ending::{failure, failure_of};
use crate::fault;
use crate::journals::{Journals, Settled, Written};
use crate::memory;
use crate::monitor::Monitor;
use crate::watch::{Seen, Watch};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often the source is told how far this end is, and its clock is asked for.
const TELL: Duration = Duration::from_secs(1);
/// A source that asks for the clock once a second and says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// Everything that an arriving guest needs.
pub(crate) struct Session {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    /// What the source said before the session had begun.
    pub(crate) early: Option<Received>,
    pub(crate) inbound: Inbound,
    pub(crate) placed: Placed,
    pub(crate) clearance: Clearance,
    /// Ends QEMU's main channel.
    pub(crate) closer: Closer,
    pub(crate) monitor: Option<Monitor>,
    pub(crate) handoff: ReceiverHandoff,
    pub(crate) journal: Journals,
    pub(crate) story: Story,
    /// The names of the guest's RAM blocks, for reading its memory again.
    pub(crate) blocks: Vec<String>,
    pub(crate) digest: sealift_pages::Algorithm,
    /// What was agreed on: how many lanes.
    pub(crate) choice: Choice,
    /// The target is this session's as long as this is held.
    pub(crate) _turn: OwnedMutexGuard<()>,
}

/// Where things that happen come from.
pub(crate) struct Sources {
    pub(crate) inbound: mpsc::UnboundedReceiver<inbound::Event>,
    pub(crate) relay: mpsc::UnboundedReceiver<relay::Event>,
    pub(crate) qemu: mpsc::UnboundedReceiver<Says>,
    /// The operator wants it to end.
    pub(crate) cancel: mpsc::Receiver<()>,
}

/// Something that has happened.
enum Happened {
    Message(Result<Received, Error>),
    Inbound(inbound::Event),
    Relay(relay::Event),
    Qemu(Says),
    Seen(Result<Seen, sealift_qemu::Error>),
    Done(Done),
    Cancel,
    Tick,
    Deadline(Wait),
}

/// Something that was under way is done.
enum Done {
    Event(Event),
    Written(Written),
}

/// What the loop itself remembers.
struct Going {
    watch: Option<Watch>,
    done: mpsc::UnboundedSender<Done>,
    pings: Pings,
    /// The control channel stands.
    tied: bool,
    heard: Instant,
    told: Instant,
    deadline: Option<Armed>,
    /// All that came before the barrier, once it is placed: this may be before the source has counted it.
    at_barrier: Option<Drain>,
    /// QEMU has ended its return path without an error.
    shut: bool,
    /// QMP says that the guest is loaded and stands still.
    loaded: bool,
    /// The machine was told so.
    told_loaded: bool,
    /// The order to continue was given; how many answers are due before the guest counts as running.
    continuing: bool,
    /// It was ever given.
    ordered: bool,
}

impl Session {
    /// Receives the guest to the end.
    pub(crate) async fn run(mut self, mut sources: Sources) -> Ending {
        let (seen, mut looks) = mpsc::unbounded_channel();
        let (done, mut finished) = mpsc::unbounded_channel();
        let watch = self
            .monitor
            .clone()
            .map(|monitor| Watch::start(monitor, seen));
        let now = Instant::now();
        let mut going = Going {
            watch,
            done,
            pings: Pings::default(),
            tied: true,
            heard: now,
            told: now - TELL,
            deadline: None,
            at_barrier: None,
            shut: false,
            loaded: false,
            told_loaded: false,
            continuing: false,
            ordered: false,
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let early = self.early.take();
        if let Some(early) = early
            && let Some(outcome) = self.happened(&mut going, Happened::Message(Ok(early)))
        {
            return self.finish(outcome, &mut sources.cancel).await;
        }
        loop {
            let deadline = going.deadline;
            let happened = tokio::select! {
                // What the peer can bring about as often as it likes comes last.
                biased;
                wait = Armed::passed(deadline) => Happened::Deadline(wait),
                Some(()) = sources.cancel.recv() => Happened::Cancel,
                Some(event) = finished.recv() => Happened::Done(event),
                Some(look) = looks.recv() => Happened::Seen(look),
                Some(says) = sources.qemu.recv() => Happened::Qemu(says),
                _ = ticks.tick() => Happened::Tick,
                Some(event) = sources.relay.recv() => Happened::Relay(event),
                Some(event) = sources.inbound.recv() => Happened::Inbound(event),
                received = self.receiver.receive(), if going.tied => Happened::Message(received),
            };
            if let Some(outcome) = self.happened(&mut going, happened) {
                return self.finish(outcome, &mut sources.cancel).await;
            }
        }
    }

    fn happened(&mut self, going: &mut Going, happened: Happened) -> Option<Outcome> {
        let event = match happened {
            Happened::Message(Ok(received)) => {
                going.heard = Instant::now();
                self.message(going, received.message)
            }
            Happened::Message(Err(error)) => {
                going.tied = false;
                Some(Event::Lost(lost(&error)))
            }
            Happened::Inbound(event) => self.inbound(event),
            Happened::Relay(event) => self.relay(going, event),
            Happened::Qemu(says) => self.qemu(going, says),
            Happened::Seen(look) => self.seen(going, look),
            Happened::Done(done) => self.done(going, done),
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

    fn message(&mut self, going: &mut Going, message: Message) -> Option<Event> {
        match message {
            Message::Epoch(epoch) if epoch.check_within(&self.choice).is_ok() => {
                self.inbound.announce(epoch);
                None
            }
            Message::StageChange(change) => {
                self.story.peer_step(&change);
                Some(Event::Peer(change))
            }
            Message::Verification(verification) => Some(Event::PeerVerification(verification)),
            Message::Ping(ping) => {
                let now = now_ns();
                let pong = Pong::new(ping.id, now, now.max(now_ns())).ok()?;
                self.send(Message::Pong(pong))
            }
            Message::Pong(pong) => {
                going.pings.pong(&pong, now_ns());
                None
            }
            Message::Failure(why) => Some(Event::Lost(why)),
            Message::Progress(_) | Message::Void(_) => None,
            other => Some(Event::Failed(failure(
                ErrorKind::Protocol,
                Fault::Source,
                &format!("the source sent {} while pages flow", other.kind()),
            ))),
        }
    }

    fn inbound(&mut self, event: inbound::Event) -> Option<Event> {
        match event {
            inbound::Event::Placed => {
                while let Some(ranges) = self.placed.take_ranges() {
                    if let Some(lost) = self.send(Message::Acknowledgement(ranges)) {
                        return Some(lost);
                    }
                }
                None
            }
            // The source has closed it, or the link has broken: which, the control channel will say.
            inbound::Event::LaneLost { error: None, .. } => None,
            inbound::Event::LaneLost {
                lane,
                error: Some(error),
            } => Some(Event::Failed(failure(
                ErrorKind::Timeout,
                Fault::Network,
                &format!("lane {lane} broke: {error}"),
            ))),
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
                let (versions, done) = (self.inbound.versions(), going.done.clone());
                // Of a large guest it takes a while.
                tokio::task::spawn_blocking(move || {
                    let drain = Drain {
                        batches,
                        version_map: versions(),
                    };
                    let _ = done.send(Done::Event(Event::RamPlaced(drain)));
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

    fn qemu(&mut self, going: &mut Going, says: Says) -> Option<Event> {
        match says {
            Says::ReturnPath { bytes, shut } => {
                let data = Bytes::new("ReturnPath.data", bytes).ok()?;
                if let Some(lost) = self.send(Message::ReturnPath(data)) {
                    return Some(lost);
                }
                match shut {
                    Some(0) => {
                        going.shut = true;
                        self.shut(going)
                    }
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
            Says::Ended if self.monitor.is_some() || going.shut => None,
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

    /// QEMU has ended its return path without an error.
    fn shut(&mut self, going: &mut Going) -> Option<Event> {
        match &going.watch {
            Some(watch) => {
                watch.hurry();
                self.loaded(going)
            }
            // It had the last byte, and runs the guest if that ran.
            None => Some(Event::QemuContinued { at_ns: now_ns() }),
        }
    }

    fn loaded(&mut self, going: &mut Going) -> Option<Event> {
        let first = going.shut && going.loaded && !std::mem::replace(&mut going.told_loaded, true);
        first.then_some(Event::QemuLoaded)
    }

    fn seen(
        &mut self,
        going: &mut Going,
        look: Result<Seen, sealift_qemu::Error>,
    ) -> Option<Event> {
        use sealift_qemu::machine::MigrationStatus as Status;
        let Ok(seen) = look else {
            self.socket_closed(going);
            return None;
        };
        if going.continuing {
            let resumed = seen.events.iter().find(|event| event.name == "RESUME");
            if let Some(event) = resumed {
                going.continuing = false;
                return Some(Event::QemuContinued { at_ns: event.at_ns });
            }
            if seen.status.let_go() {
                going.continuing = false;
                return Some(Event::QemuContinued { at_ns: now_ns() });
            }
        }
        if seen.status.running && !going.ordered {
            // Nobody but this session may let it run.
            going.ordered = true;
            return Some(Event::QemuContinued { at_ns: now_ns() });
        }
        match seen.migration.status {
            Status::Completed if !seen.status.running => {
                going.loaded = true;
                self.loaded(going)
            }
            Status::Failed => Some(Event::QemuFailed(failure(
                ErrorKind::Qemu,
                Fault::Receiver,
                &match seen.migration.error {
                    Some(error) => {
                        format!("the destination's QEMU could not load the guest: {error}")
                    }
                    None => "the destination's QEMU could not load the guest; its log says why"
                        .to_owned(),
                },
            ))),
            _ => None,
        }
    }

    fn tick(&mut self, going: &mut Going) -> Option<Event> {
        let now = Instant::now();
        if going.tied && now.duration_since(going.heard) > SILENCE {
            going.tied = false;
            return Some(Event::Lost(failure(
                ErrorKind::Timeout,
                Fault::Network,
                &format!("the source said nothing for {} s", SILENCE.as_secs()),
            )));
        }
        if now.duration_since(going.told) < TELL {
            return None;
        }
        going.told = now;
        let standing = self.inbound.standing();
        self.story.progress(&standing, self.placed.held());
        let ping = going.pings.ping(now_ns());
        self.send(Message::Progress(WireProgress {
            pages: standing.pages,
            bytes: standing.bytes,
            held: self.placed.held(),
        }))
        .or_else(|| self.send(Message::Ping(ping)))
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
                    let (before, after) = fault::say(&message);
                    fault::at(before);
                    if let Some(lost) = self.send(message) {
                        actions.extend(self.handoff.handle(lost));
                    }
                    fault::at(after);
                }
                Action::Journal(step) => self.journal(going, step),
                // The relay places everything as it comes, and says when it has come to the barrier. The lanes may have been quicker than
                // the word that asks for it.
                Action::Place { .. } => {
                    if let Some(drain) = going.at_barrier {
                        actions.extend(self.handoff.handle(Event::RamPlaced(drain)));
                    }
                }
                Action::Load => {
                    if let Some(watch) = &going.watch {
                        watch.hurry();
                    }
                    fault::at("before-load");
                    // While QEMU loads: from here on the guest may be held.
                    self.journal_ahead(going);
                    self.clearance.give();
                    fault::at("after-load");
                }
                Action::ReadMemory => self.read_memory(going),
                Action::Continue => {
                    fault::at("before-continue");
                    self.continue_guest(going);
                    fault::at("after-continue");
                }
                Action::ReleaseEnd => {
                    fault::at("before-release");
                    self.clearance.release_end();
                    fault::at("after-release");
                }
                Action::KillQemu => self.kill_qemu(going),
                Action::Arm(wait) => going.deadline = Some(Armed::now(wait)),
                Action::RefuseCancel => self.story.tell(What::Warning {
                    message: "too late to cancel: the guest may be this host's already".to_owned(),
                }),
                Action::Warn(why) => self.story.tell(What::Warning {
                    message: why.to_string(),
                }),
                Action::Finish(outcome) => return Some(outcome),
            }
        }
        None
    }

    fn send(&self, message: Message) -> Option<Event> {
        let error = self.sender.send(Frame::of(message)).err()?;
        Some(Event::Lost(lost(&error)))
    }

    /// Has a step written, and comes back when the hand-off may go on.
    fn journal(&mut self, going: &Going, step: Step) {
        let done = going.done.clone();
        // The session has ended when nobody listens.
        self.journal.write(step, move |written| {
            let _ = done.send(Done::Written(written));
        });
    }

    /// Writes what will be asked for soon, while there is time.
    fn journal_ahead(&mut self, going: &Going) {
        let done = going.done.clone();
        self.journal.write_ahead(Step::Prepared, move |written| {
            let _ = done.send(Done::Written(written));
        });
    }

    /// Something that was under way is done.
    fn done(&mut self, going: &mut Going, done: Done) -> Option<Event> {
        match done {
            Done::Event(event) => {
                if let Event::RamPlaced(drain) = &event {
                    going.at_barrier = Some(*drain);
                }
                Some(event)
            }
            Done::Written(written) => match self.journal.settle(written) {
                Settled::Nothing => None,
                Settled::Written(step) => Some(Event::Journaled(step)),
                Settled::Failed(step, why) => Some(Event::JournalFailed(step, why)),
                Settled::Missing(why) => {
                    self.story.tell(What::Warning {
                        message: why.to_string(),
                    });
                    None
                }
            },
        }
    }

    fn read_memory(&self, going: &Going) {
        let Some(monitor) = self.monitor.clone() else {
            return;
        };
        let (blocks, digest, done) = (self.blocks.clone(), self.digest, going.done.clone());
        tokio::spawn(async move {
            let event = match memory::read(&monitor, blocks, digest).await {
                Ok(verification) => Event::MemoryRead(verification),
                Err(why) => Event::Failed(failure(ErrorKind::Qemu, Fault::Receiver, &why)),
            };
            let _ = done.send(Done::Event(event));
        });
    }

    /// The one place where a guest is let run at the destination.
    fn continue_guest(&self, going: &mut Going) {
        let Some(monitor) = self.monitor.clone() else {
            return;
        };
        going.continuing = true;
        going.ordered = true;
        let done = going.done.clone();
        if let Some(watch) = &going.watch {
            watch.hurry();
        }
        tokio::spawn(async move {
            match monitor.ask(Machine::cont).await {
                // One that takes long is watched on.
                Ok(()) | Err(sealift_qemu::Error::NoAnswer { .. }) => {}
                Err(error) => {
                    let why = failure_of(ErrorKind::Qemu, Fault::Receiver, &error);
                    let _ = done.send(Done::Event(Event::QemuFailed(why)));
                    return;
                }
            }
            // The network learns a little later; the guest runs by now, and an error here is not worth more than that.
            let _ = monitor.ask(Machine::announce_self).await;
        });
    }

    /// QEMU's control socket was closed. That its process has ended is another thing.
    fn socket_closed(&self, going: &Going) {
        let (monitor, done) = (self.monitor.clone(), going.done.clone());
        tokio::spawn(async move {
            let ended = match monitor {
                Some(monitor) => monitor.ends_within(QUITS_WITHIN).await,
                None => false,
            };
            let _ = done.send(Done::Event(if ended {
                Event::QemuGone
            } else {
                Event::Failed(failure(
                    ErrorKind::Qemu,
                    Fault::Receiver,
                    "the destination's QEMU closed its control socket, and lives: it cannot be told anything any more",
                ))
            }));
        });
    }

    fn kill_qemu(&mut self, going: &Going) {
        match self.monitor.clone() {
            Some(monitor) => {
                self.closer.close();
                let done = going.done.clone();
                tokio::spawn(async move {
                    if monitor.end(QUITS_WITHIN).await {
                        let _ = done.send(Done::Event(Event::QemuGone));
                    }
                });
            }
            // The stream ends before its end: QEMU fails, and ends by itself. That it has shows in its closing the channel.
            None => {
                self.inbound.close();
                self.clearance.abandon();
            }
        }
    }

    async fn finish(mut self, outcome: Outcome, cancel: &mut mpsc::Receiver<()>) -> Ending {
        let (in_doubt, confirmed) = match &outcome {
            Outcome::InDoubt { .. } => (true, false),
            Outcome::Aborted { confirmed, .. } => (false, *confirmed),
            Outcome::Moved { .. } => (false, self.story.source_knows),
        };
        let ending = self.story.end(outcome, &self.inbound.standing());
        self.journal.end(confirmed).await;
        self.sender.close(FAREWELL).await;
        if in_doubt && self.monitor.is_none() {
            // Without the rest of its stream QEMU would end, and with it what may be the only copy of the guest.
            self.story.tell(What::Warning {
                message: format!(
                    "{}; this process holds the guest for QEMU: end it only when the guest runs at the source",
                    ending.line()
                ),
            });
            let _ = cancel.recv().await;
        }
        self.inbound.close();
        self.closer.close();
        ending
    }
}

/// How long QEMU may take to end in good order; three times this is within what the machine waits for it.
const QUITS_WITHIN: Duration = Duration::from_secs(4);
/// How long the last messages may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

fn lost(error: &Error) -> Failure {
    failure_of(ErrorKind::Timeout, Fault::Network, error)
}
