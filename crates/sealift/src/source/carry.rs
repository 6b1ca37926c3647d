//! One guest on its way: everything that happens comes together here, the hand-off's machine says what to do about it, and here it is done.
//!
//! ```text
//!  control channel ─┐
//!  outbound ────────┤                     ┌─▶ control channel
//!  ingest ──────────┼─▶ Happened ─▶ Event ─▶ SourceHandoff ─▶ Action ─┼─▶ return path, QMP
//!  QMP ─────────────┤                     └─▶ journal
//!  signals, clock ──┘
//! ```
//!
//! All of it is one task: no two things happen at once. What takes time (the disk, QEMU, memory) is done elsewhere and comes back as
//! something that has happened.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealift::event::{Stage, What};
use sealift::outcome::Ending;
use sealift_net::Error;
use sealift_net::outbound::{self, Outbound};
use sealift_qemu::channel::Closer;
use sealift_qemu::machine::MigrationStatus;
use sealift_session::clock::Pings;
use sealift_session::control::{
    Direction, Epoch, ErrorKind, Failure, Fault, Frame, Message, Pong, Received, RunState,
    StageChange,
};
use sealift_session::handoff::source::{self as handoff, Action, Event, Outcome, SourceHandoff};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::ingest;
use super::link::Link;
use super::pace::Pace;
use super::return_path::{ReturnPath, Said};
use super::story::Story;
use crate::clock::{Armed, now_ns};
use crate::ending::{failure, failure_of};
use crate::fault;
use crate::journals::{Journals, Settled, Written};
use crate::memory;
use crate::monitor::Monitor;
use crate::signals::Signals;
use crate::watch::{Seen, Watch};

/// How often the gate and the window are looked at: a tenth of the shortest blackout that is worth asking for.
const TICK: Duration = Duration::from_millis(5);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);
/// How often the peer's clock is asked for.
const PING: Duration = Duration::from_secs(1);
/// A peer that answers pings once a second and says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// Everything that a guest on its way needs.
pub(crate) struct Carry {
    pub(crate) link: Link,
    pub(crate) outbound: Outbound,
    pub(crate) return_path: ReturnPath,
    /// Ends QEMU's channels.
    pub(crate) closers: Arc<std::sync::Mutex<Vec<Closer>>>,
    pub(crate) monitor: Option<Monitor>,
    pub(crate) handoff: SourceHandoff,
    pub(crate) journal: Journals,
    pub(crate) pace: Arc<Pace>,
    pub(crate) story: Story,
    pub(crate) signals: Signals,
    /// What the guest did when it was last known, for a QEMU that cannot be asked.
    pub(crate) run_state: Option<RunState>,
    /// It ran, and this program paused it, to go on at the destination.
    pub(crate) paused_for_the_move: bool,
    /// The names of the guest's RAM blocks, for reading its memory again.
    pub(crate) blocks: Vec<String>,
    pub(crate) digest: sealift_pages::Algorithm,
}

/// Where things that happen come from.
pub(crate) struct Sources {
    pub(crate) outbound: mpsc::UnboundedReceiver<outbound::Event>,
    pub(crate) ingest: mpsc::UnboundedReceiver<ingest::Event>,
}

/// Something that has happened.
enum Happened {
    Message(Result<Received, Error>),
    Outbound(outbound::Event),
    Ingest(ingest::Event),
    Seen(Result<Seen, sealift_qemu::Error>),
    Done(Done),
    Signal,
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
    pinged: Instant,
    deadline: Option<Armed>,
    /// The run state that the stream itself names: QEMU's own last word on it.
    streamed: Option<RunState>,
}

impl Carry {
    /// Carries the guest to the end. `begun` are the first things to do.
    pub(crate) async fn run(mut self, mut sources: Sources, begun: Vec<Action>) -> Ending {
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
            told: now,
            pinged: now - PING,
            deadline: None,
            streamed: None,
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.story.stage(Stage::PreCopy);
        let mut outcome = self.act(&mut going, begun);
        loop {
            if let Some(outcome) = outcome {
                return self.finish(outcome, &going).await;
            }
            let deadline = going.deadline;
            let happened = tokio::select! {
                // What the peer can bring about as often as it likes comes last.
                biased;
                wait = Armed::passed(deadline) => Happened::Deadline(wait),
                () = self.signals.next() => Happened::Signal,
                Some(event) = finished.recv() => Happened::Done(event),
                Some(look) = looks.recv() => Happened::Seen(look),
                _ = ticks.tick() => Happened::Tick,
                Some(event) = sources.ingest.recv() => Happened::Ingest(event),
                Some(event) = sources.outbound.recv() => Happened::Outbound(event),
                received = self.link.receiver.receive(), if going.tied => Happened::Message(received),
            };
            outcome = self.happened(&mut going, happened);
        }
    }

    fn happened(&mut self, going: &mut Going, happened: Happened) -> Option<Outcome> {
        let mut events = Vec::new();
        match happened {
            Happened::Message(Ok(received)) => {
                going.heard = Instant::now();
                events.extend(self.message(going, received.message));
            }
            Happened::Message(Err(error)) => {
                going.tied = false;
                events.push(Event::Lost(lost(&error)));
            }
            Happened::Outbound(event) => events.extend(self.outbound(event)),
            Happened::Ingest(event) => events.extend(self.ingest(going, event)),
            Happened::Seen(Ok(seen)) => events.extend(self.seen(going, seen)),
            Happened::Seen(Err(_)) => self.socket_closed(going),
            Happened::Done(done) => events.extend(self.done(done)),
            Happened::Signal => events.push(Event::Cancel),
            Happened::Tick => events.extend(self.tick(going)),
            Happened::Deadline(wait) => {
                going.deadline = None;
                events.push(Event::Deadline(wait));
            }
        }
        for event in events {
            let actions = self.handoff.handle(event);
            if let Some(outcome) = self.act(going, actions) {
                return Some(outcome);
            }
        }
        None
    }

    fn message(&mut self, going: &mut Going, message: Message) -> Option<Event> {
        match message {
            Message::Acknowledgement(ranges) => {
                if let Err(error) = self.outbound.acknowledge(&ranges) {
                    let why = failure_of(ErrorKind::Protocol, Fault::Receiver, &error);
                    return Some(Event::Failed(why));
                }
                None
            }
            Message::ReturnPath(bytes) => self.return_path(bytes.as_slice()),
            Message::StageChange(change) => {
                self.story.peer_step(&change);
                Some(Event::Peer(change))
            }
            Message::Verification(verification) => Some(Event::PeerVerification(verification)),
            Message::Ping(ping) => {
                let now = now_ns();
                if let Ok(pong) = Pong::new(ping.id, now, now.max(now_ns())) {
                    self.send(Message::Pong(pong));
                }
                None
            }
            Message::Pong(pong) => {
                going.pings.pong(&pong, now_ns());
                None
            }
            Message::Failure(why) => {
                self.story.told_by_peer();
                Some(Event::Lost(why))
            }
            // For display at that end, or of a later version.
            Message::Progress(_) | Message::LaneTokens(_) | Message::Void(_) => None,
            other => Some(Event::Failed(failure(
                ErrorKind::Protocol,
                Fault::Receiver,
                &format!("the receiver sent {} while pages flow", other.kind()),
            ))),
        }
    }

    fn return_path(&mut self, bytes: &[u8]) -> Option<Event> {
        // An error is the channel's end, which says more about it.
        let said = self.return_path.take(bytes).ok()?;
        for said in said {
            match said {
                Said::SwitchoverAck => self.pace.gate_is_ours(),
                Said::Shut(0) => {}
                Said::Shut(value) => {
                    return Some(Event::Failed(failure(
                        ErrorKind::Qemu,
                        Fault::Receiver,
                        &format!(
                            "the destination's QEMU could not load the guest (it says {value}); see its log"
                        ),
                    )));
                }
                Said::NotUnderstood => {
                    return Some(Event::Failed(failure(
                        ErrorKind::Qemu,
                        Fault::Receiver,
                        "the destination's QEMU says something on the return path that sealift does not know",
                    )));
                }
            }
        }
        None
    }

    fn outbound(&mut self, event: outbound::Event) -> Option<Event> {
        match event {
            outbound::Event::Epoch {
                lane,
                epoch,
                sealed_before,
            } => {
                let sealed = u32::try_from(sealed_before).unwrap_or(u32::MAX);
                match Epoch::new(lane, Direction::SourceToReceiver, epoch, sealed) {
                    Ok(epoch) => self.send(Message::Epoch(epoch)),
                    Err(error) => Some(Event::Failed(failure_of(
                        ErrorKind::Internal,
                        Fault::Source,
                        &error,
                    ))),
                }
            }
            // The control channel stands: the receiver is told.
            outbound::Event::LaneLost { lane, error } => Some(Event::Failed(failure(
                ErrorKind::Timeout,
                Fault::Network,
                &format!("lane {lane} broke: {error}"),
            ))),
            outbound::Event::Broken(broken) => Some(Event::Failed(failure(
                ErrorKind::Internal,
                Fault::Source,
                &format!("a batch could not be made: {broken}"),
            ))),
        }
    }

    fn ingest(&mut self, going: &mut Going, event: ingest::Event) -> Vec<Event> {
        match event {
            ingest::Event::Stopping => self.stopped(going),
            ingest::Event::RamEnded { batches, versions } => {
                let mut events = self.stopped(going);
                events.push(Event::Drained(Drain {
                    batches,
                    version_map: versions,
                }));
                events
            }
            ingest::Event::RunState(state) => {
                going.streamed = super::guest::run_state(&state);
                vec![]
            }
            // For sessions without a receiver.
            ingest::Event::Ping(_) | ingest::Event::Whole { .. } => vec![],
            ingest::Event::Ended => self.unless_gone(going, self.closed(going)),
            // Not a close: QEMU had something left to read, or was cut off.
            ingest::Event::Broken(error) => {
                let why = format!("the source's QEMU broke its channel off: {error}");
                let why = failure(ErrorKind::Qemu, Fault::Source, &why);
                self.unless_gone(going, Event::QemuFailed(why))
            }
            ingest::Event::Unsupported(what) => vec![Event::Failed(failure(
                ErrorKind::Qemu,
                Fault::User,
                what.explanation(),
            ))],
        }
    }

    /// What the guest did before it was stopped for the move. Where two say different things, it stays paused: whoever paused it can let
    /// it go on. But one that slept is what the stream says: an old QEMU wakes it for the move.
    fn left_in(&self, going: &Going) -> RunState {
        match (self.paused_for_the_move, going.streamed) {
            (true, _) => RunState::Running,
            (false, streamed) => match self.run_state {
                Some(RunState::Paused) => RunState::Paused,
                asked => streamed.or(asked).unwrap_or(RunState::Running),
            },
        }
    }

    /// A channel that ends says the same of a QEMU that gave up, and has the guest, and of one that is dead. One with a control socket is
    /// asked first.
    fn unless_gone(&self, going: &Going, event: Event) -> Vec<Event> {
        let Some(monitor) = self.monitor.clone() else {
            return vec![event];
        };
        let done = going.done.clone();
        tokio::spawn(async move {
            let lives = monitor.ask(sealift_qemu::machine::Machine::status).await;
            let gone = lives.is_err() && monitor.ends_within(ENDS_WITHIN).await;
            let event = if gone { Event::QemuGone } else { event };
            let _ = done.send(Done::Event(event));
        });
        vec![]
    }

    fn closed(&self, going: &Going) -> Event {
        Event::QemuClosed {
            run_state: self.left_in(going),
        }
    }

    /// The guest has stopped, if that was not known.
    fn stopped(&mut self, going: &Going) -> Vec<Event> {
        if self.handoff.stage() != handoff::Stage::PreCopy {
            return vec![];
        }
        if let Some(watch) = &going.watch {
            watch.hurry();
        }
        self.story.stage(Stage::StopAndCopy);
        let at_ns = now_ns();
        self.story.stopped(at_ns);
        vec![Event::GuestStopped { at_ns }]
    }

    fn seen(&mut self, going: &mut Going, seen: Seen) -> Vec<Event> {
        use sealift_qemu::machine::MigrationStatus as Status;
        for event in &seen.events {
            match event.name.as_str() {
                "STOP" => self.story.stopped(event.at_ns),
                "RESUME" => self.story.resumed(),
                _ => {}
            }
        }
        self.run_state = super::guest::run_state(&seen.status.state).or(self.run_state);
        self.pace.qemu_says(&seen.migration);
        self.story.qemu_says(&seen.migration);
        match seen.migration.status {
            Status::Completed => vec![Event::QemuCompleted {
                run_state: self.left_in(going),
            }],
            Status::Failed | Status::Cancelled => vec![Event::QemuFailed(failure(
                if seen.migration.status == Status::Failed {
                    ErrorKind::Qemu
                } else {
                    ErrorKind::Cancelled
                },
                Fault::Source,
                &match seen.migration.error {
                    Some(error) => format!("the source's QEMU gave the migration up: {error}"),
                    None if seen.migration.status == Status::Cancelled => {
                        "somebody cancelled the migration in the source's QEMU".to_owned()
                    }
                    None => "the source's QEMU gave the migration up; see its log".to_owned(),
                },
            ))],
            _ => vec![],
        }
    }

    fn tick(&mut self, going: &mut Going) -> Option<Event> {
        let now = Instant::now();
        if going.tied && now.duration_since(going.heard) > SILENCE {
            going.tied = false;
            return Some(Event::Lost(failure(
                ErrorKind::Timeout,
                Fault::Network,
                &format!("the receiver said nothing for {} s", SILENCE.as_secs()),
            )));
        }
        let standing = self.outbound.standing();
        let running = self.handoff.stage() == handoff::Stage::PreCopy;
        if running && self.pace.adjust(&standing) {
            // An error is the end of QEMU's channel, which is told elsewhere.
            let _ = self.return_path.open_gate();
        }
        self.outbound.set_window(self.pace.window());
        if now.duration_since(going.pinged) >= PING {
            going.pinged = now;
            let ping = going.pings.ping(now_ns());
            if let Some(lost) = self.send(Message::Ping(ping)) {
                return Some(lost);
            }
        }
        if now.duration_since(going.told) >= TELL {
            going.told = now;
            self.story.progress(&standing, &self.pace);
        }
        None
    }

    /// Does what the machine says, in its order. Returns how it ended, if it has.
    fn act(&mut self, going: &mut Going, actions: Vec<Action>) -> Option<Outcome> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => {
                    if let Message::StageChange(change) = &message {
                        self.story.step(change);
                        // While the destination's QEMU loads: from here on SHUT may be passed.
                        if let StageChange::Drained { .. } = change {
                            self.journal_ahead(going);
                        }
                    }
                    let (before, after) = fault::say(&message);
                    fault::at(before);
                    if let Some(lost) = self.send(message) {
                        actions.extend(self.handoff.handle(lost));
                    }
                    fault::at(after);
                }
                Action::Journal(step) => self.journal(going, step),
                Action::PassShut => {
                    if let Some(watch) = &going.watch {
                        watch.hurry();
                    }
                    fault::at("before-shut");
                    let told = self.return_path.shut();
                    fault::at("after-shut");
                    // A QEMU that could not be told has not completed. Whether it gave up and has the guest, or died with it, QMP knows.
                    if let (Err(error), None) = (told, &self.monitor) {
                        let why = format!(
                            "the source's QEMU closed its channel before it was told to complete: {error}"
                        );
                        let failed = failure(ErrorKind::Qemu, Fault::Source, &why);
                        actions.extend(self.handoff.handle(Event::QemuFailed(failed)));
                    }
                }
                Action::ReadMemory => self.read_memory(going),
                Action::CancelQemu => self.cancel_qemu(),
                Action::EndQemu => self.end_qemu(),
                Action::KeepQemu => self.story.kept(),
                Action::Arm(wait) => going.deadline = Some(Armed::now(wait)),
                Action::RefuseCancel => self.story.tell(What::Warning {
                    message: "too late to cancel: the source's QEMU decides now".to_owned(),
                }),
                Action::Warn(why) => self.story.tell(What::Warning {
                    message: why.to_string(),
                }),
                Action::Finish(outcome) => return Some(outcome),
            }
        }
        None
    }

    /// Queues a message; the connection's end is an event.
    fn send(&self, message: Message) -> Option<Event> {
        let error = self.link.sender.send(Frame::of(message)).err()?;
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
        self.journal.write_ahead(Step::Intent, move |written| {
            let _ = done.send(Done::Written(written));
        });
    }

    /// Something that was under way is done.
    fn done(&mut self, done: Done) -> Option<Event> {
        match done {
            Done::Event(event) => {
                if let Event::MemoryRead(verification) = &event {
                    self.story.read_again(verification.bytes);
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

    /// QEMU's control socket was closed. That its process has ended is another thing, and decides what may be said of the guest.
    fn socket_closed(&self, going: &Going) {
        let (monitor, done) = (self.monitor.clone(), going.done.clone());
        tokio::spawn(async move {
            let ended = match monitor {
                Some(monitor) => monitor.ends_within(ENDS_WITHIN).await,
                None => false,
            };
            let _ = done.send(Done::Event(if ended {
                Event::QemuGone
            } else {
                Event::Failed(failure(
                    ErrorKind::Qemu,
                    Fault::Source,
                    "the source's QEMU closed its control socket, and lives: what becomes of the guest cannot be seen any more",
                ))
            }));
        });
    }

    fn read_memory(&self, going: &Going) {
        let Some(monitor) = self.monitor.clone() else {
            return;
        };
        let (blocks, digest, done) = (self.blocks.clone(), self.digest, going.done.clone());
        tokio::spawn(async move {
            let event = match memory::read(&monitor, blocks, digest).await {
                Ok(verification) => Event::MemoryRead(verification),
                Err(why) => Event::Failed(failure(ErrorKind::Qemu, Fault::Source, &why)),
            };
            let _ = done.send(Done::Event(event));
        });
    }

    fn cancel_qemu(&self) {
        self.ask_qemu(sealift_qemu::machine::Machine::cancel);
        for closer in crate::lock(&self.closers).iter() {
            closer.close();
        }
    }

    fn ask_qemu(
        &self,
        question: fn(&mut sealift_qemu::machine::Machine) -> Result<(), sealift_qemu::Error>,
    ) {
        if let Some(monitor) = self.monitor.clone() {
            self.story.pending(tokio::spawn(async move {
                // What comes of it is seen in how QEMU goes on.
                let _ = monitor.ask(question).await;
            }));
        }
    }

    /// The guest runs at the destination: the copy here goes.
    fn end_qemu(&self) {
        if let Some(monitor) = self.monitor.clone() {
            let reporter = self.story.voice();
            self.story.pending(tokio::spawn(async move {
                let quit = monitor.ask(sealift_qemu::machine::Machine::quit).await;
                if quit.is_err() || !monitor.ends_within(QUITS_WITHIN).await {
                    reporter.warn("the source's QEMU did not end: end it, and never let it run, for the guest runs at the destination");
                }
            }));
        }
    }

    /// A QEMU that completed before it could be told to give up holds the guest stopped. The receiver was never told that it may run, and
    /// never will be: it goes on here.
    async fn let_run(&self, going: &Going) -> bool {
        let Some(monitor) = self.monitor.clone() else {
            return false;
        };
        if self.left_in(going) == RunState::Paused {
            return false;
        }
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            let asked = monitor.ask(|machine| Ok(machine.migration()?.status)).await;
            match asked {
                Ok(MigrationStatus::Completed) => {
                    return monitor
                        .ask(sealift_qemu::machine::Machine::cont)
                        .await
                        .is_ok();
                }
                Ok(status) if !status.is_final() && Instant::now() < deadline => {
                    tokio::time::sleep(TICK).await;
                }
                _ => return false,
            }
        }
    }

    async fn finish(mut self, mut outcome: Outcome, going: &Going) -> Ending {
        self.story.settle().await;
        if let Outcome::StillAtSource { stopped, .. } = &mut outcome
            && self.let_run(going).await
        {
            *stopped = false;
        }
        let standing = self.outbound.standing();
        let offset = going.pings.offset();
        // The receiver needs to be able to learn what it has not heard.
        let certain = match &outcome {
            Outcome::Moved { .. } => true,
            Outcome::StillAtSource { .. } => self.story.receiver_let_go,
            Outcome::InDoubt { .. } | Outcome::Gone { .. } => false,
        };
        self.journal.end(certain).await;
        let ending = self.story.end(outcome, &standing, &self.pace, &offset);
        // What was said last must reach the receiver before the connection goes.
        self.link.sender.close(FAREWELL).await;
        self.outbound.close();
        for closer in crate::lock(&self.closers).iter() {
            closer.close();
        }
        ending
    }
}

/// How long a process may take to end after it has closed its control socket: it closes it as one of the last things.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long QEMU may take to end in good order.
const QUITS_WITHIN: Duration = Duration::from_secs(10);
/// How long the last messages may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

fn lost(error: &Error) -> Failure {
    failure_of(ErrorKind::Timeout, Fault::Network, error)
}
