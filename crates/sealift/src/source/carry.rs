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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sealift::event::{Stage, What};
use sealift::outcome::Ending;
use sealift_net::Error;
use sealift_net::outbound::{self, Outbound};
use sealift_qemu::channel::Closer;
use sealift_session::clock::Pings;
use sealift_session::control::{
    Direction, Epoch, ErrorKind, Failure, Fault, Frame, Message, Pong, Received, RunState,
};
use sealift_session::handoff::source::{Action, Event, Outcome, SourceHandoff};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::mpsc;
use tokio::time::{Instant as Time, MissedTickBehavior, interval, sleep_until};

use super::ingest;
use super::link::Link;
use super::pace::Pace;
use super::return_path::{ReturnPath, Said};
use super::story::Story;
use crate::ending::failure;
use crate::journals::Shared as Journals;
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
    pub(crate) journal: Arc<Journals>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) story: Story,
    pub(crate) signals: Signals,
    /// What the guest did when it was last known, for a QEMU that cannot be asked.
    pub(crate) run_state: RunState,
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
    Done(Event),
    Signal,
    Tick,
    Deadline(Wait),
}

/// What the loop itself remembers.
struct Going {
    watch: Option<Watch>,
    done: mpsc::UnboundedSender<Event>,
    pings: Pings,
    heard: Instant,
    told: Instant,
    pinged: Instant,
    deadline: Option<(Wait, Time)>,
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
                biased;
                received = self.link.receiver.receive() => Happened::Message(received),
                Some(event) = sources.outbound.recv() => Happened::Outbound(event),
                Some(event) = sources.ingest.recv() => Happened::Ingest(event),
                Some(event) = finished.recv() => Happened::Done(event),
                Some(look) = looks.recv() => Happened::Seen(look),
                () = self.signals.next() => Happened::Signal,
                wait = passed(deadline) => Happened::Deadline(wait),
                _ = ticks.tick() => Happened::Tick,
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
            Happened::Message(Err(error)) => events.push(Event::Lost(lost(&error))),
            Happened::Outbound(event) => events.extend(self.outbound(event)),
            Happened::Ingest(event) => events.extend(self.ingest(going, event)),
            Happened::Seen(Ok(seen)) => events.extend(self.seen(going, seen)),
            Happened::Seen(Err(error)) => events.push(match error {
                sealift_qemu::Error::Closed { .. } => Event::QemuGone,
                error => Event::Failed(crate::ending::failure_of(
                    ErrorKind::Qemu,
                    Fault::Source,
                    &error,
                )),
            }),
            Happened::Done(event) => {
                if let Event::MemoryRead(verification) = &event {
                    self.story.read_again(verification.bytes);
                }
                events.push(event);
            }
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
                    let why =
                        crate::ending::failure_of(ErrorKind::Protocol, Fault::Receiver, &error);
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
                    Err(error) => Some(Event::Failed(crate::ending::failure_of(
                        ErrorKind::Internal,
                        Fault::Source,
                        &error,
                    ))),
                }
            }
            outbound::Event::LaneLost { lane, error } => Some(Event::Lost(failure(
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
                going.streamed = Some(super::guest::run_state(&state));
                vec![]
            }
            // For sessions without a receiver.
            ingest::Event::Ping(_) | ingest::Event::Whole { .. } => vec![],
            ingest::Event::Ended => {
                vec![Event::QemuClosed]
            }
            ingest::Event::Broken(error) => {
                self.story.channel_broke(&error);
                vec![Event::QemuClosed]
            }
            ingest::Event::Unsupported(what) => vec![Event::Failed(failure(
                ErrorKind::Qemu,
                Fault::User,
                what.explanation(),
            ))],
        }
    }

    /// The guest has stopped, if that was not known.
    fn stopped(&mut self, going: &Going) -> Vec<Event> {
        if self.handoff.stage() != sealift_session::handoff::source::Stage::PreCopy {
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
            if event.name == "STOP" {
                self.story.stopped(event.at_ns);
            }
        }
        if let "running" | "paused" | "suspended" = seen.status.state.as_str() {
            self.run_state = super::guest::run_state(&seen.status.state);
        }
        self.pace.qemu_says(&seen.migration);
        self.story.qemu_says(&seen.migration);
        match seen.migration.status {
            Status::Completed => vec![Event::QemuCompleted {
                run_state: going.streamed.unwrap_or(self.run_state),
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
        if now.duration_since(going.heard) > SILENCE {
            return Some(Event::Lost(failure(
                ErrorKind::Timeout,
                Fault::Network,
                &format!("the receiver said nothing for {} s", SILENCE.as_secs()),
            )));
        }
        let standing = self.outbound.standing();
        if self.pace.adjust(&standing) {
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
                    }
                    if let Some(lost) = self.send(message) {
                        actions.extend(self.handoff.handle(lost));
                    }
                }
                Action::Journal(step) => self.journal(going, step),
                Action::PassShut => {
                    if let Some(watch) = &going.watch {
                        watch.hurry();
                    }
                    // If QEMU has closed its channel already, it will say so itself.
                    let _ = self.return_path.shut();
                }
                Action::ReadMemory => self.read_memory(going),
                Action::CancelQemu => self.cancel_qemu(),
                Action::EndQemu => self.ask_qemu(sealift_qemu::machine::Machine::quit),
                Action::KeepQemu => self.story.kept(),
                Action::Arm(wait) => going.deadline = Some((wait, Time::now() + patience(wait))),
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

    fn journal(&self, going: &Going, step: Step) {
        let (journal, done) = (Arc::clone(&self.journal), going.done.clone());
        tokio::task::spawn_blocking(move || {
            let event = match journal.append(step) {
                Ok(()) => Event::Journaled(step),
                Err(error) => Event::JournalFailed(
                    step,
                    crate::ending::failure_of(ErrorKind::Resources, Fault::Source, &error),
                ),
            };
            // The session has ended when nobody listens.
            let _ = done.send(event);
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
            let _ = done.send(event);
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

    async fn finish(mut self, outcome: Outcome, going: &Going) -> Ending {
        self.story.settle().await;
        let standing = self.outbound.standing();
        let offset = going.pings.offset();
        if !matches!(outcome, Outcome::InDoubt { .. } | Outcome::Gone { .. }) {
            self.journal.forget();
        }
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

/// How long the last messages may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

async fn passed(deadline: Option<(Wait, Time)>) -> Wait {
    match deadline {
        Some((wait, at)) => {
            sleep_until(at).await;
            wait
        }
        None => std::future::pending().await,
    }
}

/// What hangs is ended after so long.
const fn patience(wait: Wait) -> Duration {
    Duration::from_secs(match wait {
        // The receiver's QEMU loads device state, and both may read all of memory at 1 GB/s.
        Wait::Prepared => 300,
        // QEMU has everything that it waits for.
        Wait::Completed => 30,
        // The receiver writes its journal and says `cont`; its disks may have to be opened.
        Wait::Active => 60,
        // The receiver ends its QEMU.
        Wait::Aborted | Wait::Killed => 15,
        Wait::Done => 30,
    })
}

fn lost(error: &Error) -> Failure {
    crate::ending::failure_of(ErrorKind::Timeout, Fault::Network, error)
}

/// Nanoseconds since 1970 on this host's wall clock.
fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
