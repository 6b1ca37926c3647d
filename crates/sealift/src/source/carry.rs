//! One guest on its way: everything that happens comes together here, the hand-off's machine says what to do about it, and here it is done.
//!
//! ```text
//!  control channel ─┐
//!  line ────────────┤
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

use sealift::event::Stage;
use sealift::outcome::Ending;
use sealift_net::outbound::{self, Outbound};
use sealift_precopy::Remedy;
use sealift_qemu::machine::MigrationStatus;
use sealift_session::control::{Direction, Epoch, ErrorKind, Failure, Fault, Message, StageChange};
use sealift_session::handoff::source::{self as handoff, Action, Event, Outcome, SourceHandoff};
use sealift_session::handoff::{Drain, Step, Wait};
use tokio::sync::mpsc::UnboundedReceiver;

use super::ingest;
use super::line::Line;
use super::pace::Pace;
use super::pipeline::Sources;
use super::reins::Reins;
use super::return_path::Said;
use super::story::Story;
use super::way_back::Back;
use crate::clock::{Armed, now_ns, ticks};
use crate::ending::{failure, failure_of};
use crate::journals::{Journals, Settled};
use crate::signals::Signals;
use crate::tie::Tie;
use crate::under_way::UnderWay;
use crate::watch::Seen;

/// How often the gate and the window are looked at: a tenth of the shortest blackout that is worth asking for.
const TICK: Duration = Duration::from_millis(5);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);

/// Everything that a guest on its way needs.
pub(crate) struct Carry {
    pub(crate) tie: Tie,
    pub(super) line: Line,
    pub(crate) outbound: Outbound,
    pub(crate) reins: Reins,
    pub(crate) handoff: SourceHandoff,
    pub(crate) journal: Journals,
    pub(crate) pace: Arc<Pace>,
    pub(crate) story: Story,
    pub(crate) signals: Signals,
}

/// Something that has happened.
enum Happened {
    Said(Result<Option<Message>, Failure>),
    Back(Result<Back, Failure>),
    Outbound(outbound::Event),
    Ingest(ingest::Event),
    Seen(Result<Seen, sealift_qemu::Error>),
    Settled(Settled),
    Done(Event),
    Signal,
    Tick,
    Deadline(Wait),
}

/// What the loop itself remembers.
pub(super) struct Going {
    under_way: UnderWay<Event>,
    told: Instant,
    pub(super) deadline: Option<Armed>,
    /// Since when the guest stands still.
    pub(super) stopped: Option<Instant>,
    /// INTENT is in the journal, and nobody is there to be told: SHUT is not passed before somebody is.
    intends: bool,
}

impl Carry {
    /// Carries the guest to the end. `begun` are the first things to do.
    pub(crate) async fn run(
        mut self,
        mut sources: Sources,
        mut looks: UnboundedReceiver<Result<Seen, sealift_qemu::Error>>,
        begun: Vec<Action>,
    ) -> Ending {
        let (under_way, mut finished) = UnderWay::new();
        let mut going = Going {
            under_way,
            told: Instant::now(),
            deadline: None,
            stopped: None,
            intends: false,
        };
        let mut ticks = ticks(TICK);
        self.story.stage(Stage::PreCopy);
        let mut outcome = self.act(&mut going, begun);
        loop {
            if let Some(outcome) = outcome {
                return self.finish(outcome).await;
            }
            // Nobody can be late while nobody can be heard; but this host's QEMU can, and a receiver is not waited for by an end that has given up.
            let own = |armed: &Armed| armed.is(Wait::Aborted) || armed.is(Wait::Completed);
            let deadline = going
                .deadline
                .filter(|armed| !self.line.is_down() || own(armed));
            let happened = tokio::select! {
                // What the peer can bring about as often as it likes comes last.
                biased;
                wait = Armed::passed(deadline) => Happened::Deadline(wait),
                () = self.signals.next() => Happened::Signal,
                settled = self.journal.settled() => Happened::Settled(settled),
                Some(event) = finished.recv() => Happened::Done(event),
                Some(look) = looks.recv() => Happened::Seen(look),
                _ = ticks.tick() => Happened::Tick,
                Some(event) = sources.ingest.recv() => Happened::Ingest(event),
                Some(event) = sources.outbound.recv() => Happened::Outbound(event),
                back = self.line.back() => Happened::Back(back),
                said = self.tie.hear() => Happened::Said(said),
            };
            outcome = self.happened(&mut going, happened);
        }
    }

    fn happened(&mut self, going: &mut Going, happened: Happened) -> Option<Outcome> {
        let mut events = Vec::new();
        match happened {
            Happened::Said(Ok(message)) => {
                events.extend(message.and_then(|message| self.message(message)));
            }
            Happened::Said(Err(why)) => events.extend(self.broke(why)),
            Happened::Back(Ok(back)) => {
                events.extend(self.back(going, back));
                if going.intends && !self.line.is_down() {
                    going.intends = false;
                    events.push(Event::Journaled(Step::Intent));
                }
            }
            Happened::Back(Err(why)) => events.push(Event::Lost(self.line.lost(&why))),
            Happened::Outbound(event) => events.extend(self.outbound(going, event)),
            Happened::Ingest(event) => events.extend(self.ingest(going, event)),
            Happened::Seen(Ok(seen)) => events.extend(self.seen(seen)),
            Happened::Seen(Err(_)) => self.reins.socket_closed(&going.under_way),
            Happened::Settled(Settled::Written(Step::Intent)) if self.line.is_down() => {
                going.intends = true;
            }
            Happened::Settled(settled) => events.extend(self.settled(settled)),
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

    fn message(&mut self, message: Message) -> Option<Event> {
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
            Message::Failure(why) => {
                self.story.told_by_peer();
                Some(Event::Lost(why))
            }
            Message::Placing(blocks) => {
                self.outbound.placed(blocks.as_slice());
                None
            }
            // For display at that end, or of a later version.
            Message::Progress(_) | Message::LaneTokens(_) => None,
            other => Some(Event::Failed(failure(
                ErrorKind::Protocol,
                Fault::Receiver,
                &format!("the receiver sent {} while pages flow", other.kind()),
            ))),
        }
    }

    fn return_path(&mut self, bytes: &[u8]) -> Option<Event> {
        // An error is the channel's end, which says more about it.
        let said = self.reins.return_path.take(bytes).ok()?;
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

    fn outbound(&mut self, going: &Going, event: outbound::Event) -> Option<Event> {
        match event {
            outbound::Event::Epoch {
                lane,
                epoch,
                sealed_before,
            } => {
                let sealed = u32::try_from(sealed_before).unwrap_or(u32::MAX);
                match Epoch::new(lane, Direction::SourceToReceiver, epoch, sealed) {
                    Ok(epoch) => self.say(Message::Epoch(epoch)),
                    Err(error) => Some(Event::Failed(failure_of(
                        ErrorKind::Internal,
                        Fault::Source,
                        &error,
                    ))),
                }
            }
            outbound::Event::LaneLost { lane, error } => self.lane_broke(lane, &error),
            // Of a QEMU that dies the memory goes first.
            outbound::Event::Broken(broken @ outbound::Broken::Memory(_)) => {
                let why = failure(ErrorKind::Qemu, Fault::Source, &broken.to_string());
                self.reins.unless_gone(Event::Failed(why), &going.under_way)
            }
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
            ingest::Event::Distrusted { block, why } => {
                self.story.distrusted(&block, &why);
                vec![]
            }
            ingest::Event::RamEnded { batches, versions } => {
                let mut events = self.stopped(going);
                events.push(Event::Drained(Drain {
                    batches,
                    version_map: versions,
                }));
                events
            }
            ingest::Event::RunState(state) => {
                self.reins.streamed(&state);
                vec![]
            }
            // For sessions without a receiver.
            ingest::Event::Ping(_) | ingest::Event::Whole { .. } => vec![],
            ingest::Event::Ended => {
                let run_state = self.reins.left_in();
                let closed = Event::QemuClosed { run_state };
                self.reins
                    .unless_gone(closed, &going.under_way)
                    .into_iter()
                    .collect()
            }
            // Not a close: QEMU had something left to read, or was cut off.
            ingest::Event::Broken(error) => {
                let why = format!("the source's QEMU broke its channel off: {error}");
                let why = failure(ErrorKind::Qemu, Fault::Source, &why);
                let broken = Event::QemuFailed(why);
                self.reins
                    .unless_gone(broken, &going.under_way)
                    .into_iter()
                    .collect()
            }
            ingest::Event::Unsupported(what) => vec![Event::Failed(failure(
                ErrorKind::Qemu,
                Fault::User,
                what.explanation(),
            ))],
        }
    }

    /// The guest has stopped, if that was not known.
    fn stopped(&mut self, going: &mut Going) -> Vec<Event> {
        if self.handoff.stage() != handoff::Stage::PreCopy {
            return vec![];
        }
        going.stopped = Some(Instant::now());
        self.tie.hurry();
        self.reins.hurry();
        self.story.stage(Stage::StopAndCopy);
        let at_ns = now_ns();
        self.story.stopped(at_ns);
        vec![Event::GuestStopped { at_ns }]
    }

    fn seen(&mut self, seen: Seen) -> Vec<Event> {
        use MigrationStatus as Status;
        for event in &seen.events {
            match event.name.as_str() {
                "STOP" => self.story.stopped(event.at_ns),
                "RESUME" => self.story.resumed(),
                _ => {}
            }
        }
        self.reins.seen(&seen.status.state);
        self.pace.qemu_says(&seen.migration);
        self.story.qemu_says(&seen.migration);
        match seen.migration.status {
            Status::Completed => vec![Event::QemuCompleted {
                run_state: self.reins.left_in(),
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
        let standing = self.outbound.standing();
        // A link that is gone says nothing of what it can carry, and nobody could hear of a guest that stops.
        if self.handoff.stage() == handoff::Stage::PreCopy && !self.line.is_down() {
            let adjusted = self.pace.adjust(&standing);
            if adjusted.opens {
                // An error is the end of QEMU's channel, which is told elsewhere.
                let _ = self.reins.return_path.open_gate();
                self.outbound.release();
            }
            if let Some(failed) = self.remedy(adjusted.remedy) {
                return Some(failed);
            }
        }
        self.outbound.set_pace(self.pace.of_pages());
        self.outbound.set_window(self.pace.window());
        if going.told.elapsed() >= TELL {
            going.told = Instant::now();
            self.story.progress(&standing, &self.pace);
        }
        if let Some(given_up) = self.gives_up(going) {
            return Some(given_up);
        }
        let tended = self.tie.tend();
        tended.err().and_then(|why| self.broke(why))
    }

    /// Does what is to be done about a guest that does not converge.
    fn remedy(&mut self, remedy: Remedy) -> Option<Event> {
        match remedy {
            Remedy::None => None,
            Remedy::Throttle { percent } => {
                if let Some(told) = self.reins.throttle(percent) {
                    self.story.throttled(&told);
                }
                None
            }
            Remedy::Abort { why } => Some(Event::Failed(failure(
                ErrorKind::Convergence,
                Fault::Guest,
                &why.to_string(),
            ))),
        }
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
                            self.journal.write_ahead(Step::Intent);
                        }
                    }
                    if let Some(lost) = self.say(message) {
                        actions.extend(self.handoff.handle(lost));
                    }
                }
                Action::Journal(step) => self.journal.write(step),
                Action::PassShut => {
                    if let Err(failed) = self.reins.pass_shut() {
                        actions.extend(self.handoff.handle(Event::QemuFailed(failed)));
                    }
                }
                Action::ReadMemory => self.reins.read_memory(&going.under_way),
                Action::CancelQemu => self.reins.cancel(),
                Action::EndQemu => self.reins.end(self.story.voice.clone()),
                Action::KeepQemu => self.story.kept(),
                Action::Arm(wait) => going.deadline = Some(Armed::now(wait)),
                Action::RefuseCancel => self
                    .story
                    .voice
                    .warn("too late to cancel: the source's QEMU decides now"),
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

    async fn finish(mut self, mut outcome: Outcome) -> Ending {
        self.reins.settle().await;
        if let Outcome::Moved { .. } = &outcome {
            self.say_last_word().await;
        }
        if let Outcome::StillAtSource { stopped, .. } = &mut outcome
            && self.reins.let_run().await
        {
            *stopped = false;
        }
        let standing = self.outbound.standing();
        // The receiver needs to be able to learn what it has not heard.
        let certain = match &outcome {
            Outcome::Moved { .. } => true,
            Outcome::StillAtSource { .. } => self.story.receiver_let_go,
            Outcome::InDoubt { .. } | Outcome::Gone { .. } => false,
        };
        self.journal.end(certain).await;
        let offset = self.tie.offset();
        let ending = self.story.end(outcome, &standing, &self.pace, &offset);
        // What was said last must reach the receiver before the connection goes.
        self.tie.close().await;
        self.outbound.close();
        self.reins.close();
        ending
    }
}
