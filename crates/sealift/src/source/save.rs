//! `sealift send --file`: QEMU migrates, and what it sends is kept in a file that only its recipient opens.
//!
//! ```text
//!  QEMU ─▶ prologue ─▶ file: header ─▶ batches ─▶ the stream is whole, all of it written
//!    ▲                                               │ end, fsync, name
//!    └───────────── SHUT ◀───────────────────────────┘
//! ```
//!
//! There is no destination, so what one would say is said here: PONG, that the guest may be stopped, and, when the file is on the disk
//! under its name and not before, SHUT. A QEMU with a return path therefore says `completed` of a file that is safe; until then every failure
//! leaves the guest as it was. Without a return path QEMU does not wait.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sealift::arguments::send::Arguments;
use sealift::event::{Access, Admitted, Event, Guest, Stage, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::Recipient;
use sealift_net::outbound::{self, Outbound};
use sealift_qemu::channel::{Channel, Closer, WriteHalf};
use sealift_qemu::machine::MigrationStatus as Status;
use sealift_seal::Suite;
use sealift_session::clock::Pings;
use sealift_session::control::{RunState, SessionId};
use sealift_session::handoff::source::Outcome;
use sealift_session::saved::End;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::carry::Sources;
use super::guest::Asked;
use super::pace::Pace;
use super::return_path::ReturnPath;
use super::send::{CHANNELS, channels};
use super::story::{self, Facts, Story};
use super::{Pipeline, Prologue, guest, ingest, new_session, page_size, read_prologue};
use crate::ending;
use crate::monitor::Monitor;
use crate::saved::{Begun, Saving, not_written, take_back};
use crate::signals::Signals;
use crate::watch::{Seen, Watch};

/// How often it is looked at what has been written.
const TICK: Duration = Duration::from_millis(5);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);
/// How long QEMU may take to complete once it may.
const COMPLETES_WITHIN: Duration = Duration::from_secs(30);
/// How long QEMU may take from its last page to the end of its stream. What is in between is device state: some MiB, unless a device has
/// memory of its own.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
/// QEMU's capability to wait for a word before it stops the guest.
const SWITCHOVER_ACK: &str = "switchover-ack";

/// Runs the command.
pub(super) async fn run(
    arguments: &Arguments,
    file: &Path,
    recipient: &Path,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Ending {
    // What can be refused is refused before QEMU is asked for anything.
    let recipient = match Recipient::from_file(recipient) {
        Ok(recipient) => recipient,
        Err(error) => return ending::of_pki(&error).fault(Fault::User),
    };
    if file.symlink_metadata().is_ok() {
        return not_written(file, &std::io::ErrorKind::AlreadyExists.into());
    }
    match wait(arguments, channel, &reporter).await {
        Ok((main, further, signals)) => {
            let closer = main.closer();
            let save = Save {
                arguments,
                file,
                recipient,
                reporter,
            };
            let ending = save.guest(main, further, signals).await;
            // QEMU then gives up, if it has not completed, and the guest runs on.
            closer.close();
            ending
        }
        Err(ending) => ending,
    }
}

/// Waits for QEMU's first channel; those that follow come out of the queue.
async fn wait(
    arguments: &Arguments,
    channel: Option<Channel>,
    reporter: &Reporter,
) -> Result<(Channel, mpsc::Receiver<Channel>, Signals), Ending> {
    let mut channels = channels(arguments, channel)?;
    if let Some(address) = &arguments.listen {
        reporter.tell(Event {
            at: SystemTime::now(),
            session: None,
            what: What::Listening {
                address: address.to_string(),
            },
        });
    }
    let mut signals = Signals::listen()
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
    let main = tokio::select! {
        main = channels.recv() => main,
        () = signals.next() => return Err(Ending::stopped()),
    };
    let main = main.ok_or_else(|| {
        Ending::new(Kind::Host, "nothing waits for QEMU any more").fault(Fault::ThisHost)
    })?;
    let (further, theirs) = mpsc::channel(CHANNELS);
    tokio::spawn(async move {
        while let Some(channel) = channels.recv().await {
            // Beyond what multifd can have: closed.
            if further.try_send(channel).is_err() && further.is_closed() {
                return;
            }
        }
    });
    Ok((main, theirs, signals))
}

/// What is to be saved where.
struct Save<'a> {
    arguments: &'a Arguments,
    file: &'a Path,
    recipient: Recipient,
    reporter: Arc<Reporter>,
}

/// QEMU, as far as it is known before its guest's memory comes.
struct Source {
    prologue: Prologue,
    monitor: Option<Monitor>,
    asked: Option<Asked>,
    /// It waits for somebody to say that the guest may be stopped.
    waits_for_ack: bool,
}

impl Save<'_> {
    async fn guest(
        &self,
        main: Channel,
        further: mpsc::Receiver<Channel>,
        mut signals: Signals,
    ) -> Ending {
        let started = Instant::now();
        let closers = Arc::new(Mutex::new(vec![main.closer()]));
        let (read, write) = main.split();
        let source = tokio::select! {
            source = self.source(read) => source,
            () = signals.next() => Err(Ending::new(Kind::Cancelled, "cancelled before anything was saved")),
        };
        let begun = source.and_then(|source| self.begin(source, write, further, closers, started));
        match begun {
            Ok((mut going, sources)) => going.run(sources, signals).await,
            Err(ending) => ending,
        }
    }

    async fn source(&self, read: sealift_qemu::channel::ReadHalf) -> Result<Source, Ending> {
        let prologue = read_prologue(read).await?;
        let mut source = Source {
            prologue,
            monitor: None,
            asked: None,
            waits_for_ack: false,
        };
        if let Some(address) = &self.arguments.qmp {
            let monitor = Monitor::open(address.clone())
                .await
                .map_err(|error| ending::of_qemu(&error))?;
            let asked = monitor.ask(|machine| {
                let capabilities = machine.capabilities()?;
                let waits = capabilities.get(SWITCHOVER_ACK) == Some(&true);
                Ok((Asked::ask(machine)?, waits))
            });
            let (asked, waits) = asked.await.map_err(|error| ending::of_qemu(&error))?;
            source.monitor = Some(monitor);
            source.asked = Some(asked);
            source.waits_for_ack = waits;
        }
        Ok(source)
    }

    /// Begins the file and starts the threads.
    fn begin(
        &self,
        source: Source,
        write: WriteHalf,
        further: mpsc::Receiver<Channel>,
        closers: Arc<Mutex<Vec<Closer>>>,
        started: Instant,
    ) -> Result<(Going, Sources), Ending> {
        let Source {
            prologue,
            monitor,
            asked,
            waits_for_ack,
        } = source;
        let page_size = page_size(&prologue.facts)?;
        let name = self.arguments.guest.as_deref();
        let admission = guest::admission(&prologue.facts, asked.as_ref(), name, page_size, None)?;
        let session = new_session()?;
        let blocks = admission.blocks.clone();
        let guest = Guest {
            name: Some(admission.name.as_str().to_owned()),
            uuid: (admission.uuid != [0; 16]).then_some(admission.uuid),
        };
        let memory_bytes = admission.memory_needed;
        let Begun {
            saving,
            layout,
            keys,
            lane,
        } = Saving::begin(self.file, session, &self.recipient, admission, page_size)?;
        let story = self.story(
            session,
            guest,
            memory_bytes,
            page_size.bytes() as u64,
            started,
        );
        let mut return_path = prologue
            .facts
            .return_path
            .then(|| ReturnPath::new(write, true));
        match &mut return_path {
            Some(path) => {
                // What cannot be written is the channel's end, which its reader finds.
                for &ping in &prologue.facts.pings {
                    let _ = path.pong(ping);
                }
                if waits_for_ack {
                    let _ = path.acknowledge_switchover();
                }
            }
            None => story.tell(What::Warning {
                message: "QEMU migrates without a return path: it does not wait until the file is safe, and says completed before; \
                          believe what is said here, not that"
                    .to_owned(),
            }),
        }
        let pipeline = Pipeline {
            prologue,
            page_size,
            blocks,
            layout,
            keys,
            lanes: vec![lane],
            closers,
            further,
            max_downtime: self.arguments.transfer.max_downtime(),
            bandwidth: None,
            watch_for_the_end: true,
        };
        let (outbound, pace, sources) = pipeline.start()?;
        let going = Going {
            saving: Some(saving),
            path: self.file.to_owned(),
            recipient: recipient_name(&self.recipient),
            outbound,
            return_path,
            monitor,
            pace,
            story,
            run_state: asked.and_then(|asked| asked.run_state),
            streamed: None,
            versions: None,
            ram_ended: None,
            whole: None,
            finishing: None,
            kept: None,
            cancelled: false,
            told: started,
        };
        Ok((going, sources))
    }

    fn story(
        &self,
        session: SessionId,
        guest: Guest,
        memory_bytes: u64,
        page_bytes: u64,
        started: Instant,
    ) -> Story {
        let facts = Facts {
            guest: guest.clone(),
            peer: None,
            lanes: 1,
            suite: Suite::P256,
            tls: None,
            algorithm: sealift_pages::Algorithm::Blake3,
            page_bytes,
            unmanaged: None,
            keep_source: false,
        };
        let story = Story::new(Arc::clone(&self.reporter), session, facts, started);
        story.tell(What::Admitted(Admitted {
            guest,
            memory_bytes,
            lanes: 1,
            suite: Suite::P256,
            access: Access::Stream,
            access_reason: story::ACCESS_REASON.to_owned(),
        }));
        story
    }
}

fn recipient_name(recipient: &Recipient) -> String {
    let certificate = recipient.certificate();
    match certificate.names.first() {
        Some(name) => name.to_string(),
        None => certificate.fingerprint(),
    }
}

/// A guest on its way into a file.
struct Going {
    /// Until it is being finished.
    saving: Option<Saving>,
    path: std::path::PathBuf,
    recipient: String,
    outbound: Outbound,
    /// When QEMU waits for an answer.
    return_path: Option<ReturnPath>,
    monitor: Option<Monitor>,
    pace: Arc<Pace>,
    story: Story,
    /// What the guest did when QEMU was asked.
    run_state: Option<RunState>,
    /// What the stream itself says: QEMU's own last word on it.
    streamed: Option<RunState>,
    /// The version map's digest, when RAM is over.
    versions: Option<[u8; 32]>,
    ram_ended: Option<Instant>,
    /// The stream is whole, in so many batches.
    whole: Option<u64>,
    /// The file's end is being written.
    finishing: Option<JoinHandle<std::io::Result<()>>>,
    /// The file is safe, since then.
    kept: Option<Instant>,
    cancelled: bool,
    told: Instant,
}

/// Something that has happened.
enum Happened {
    Outbound(outbound::Event),
    Ingest(ingest::Event),
    Seen(Result<Seen, sealift_qemu::Error>),
    Finished(std::io::Result<()>),
    Signal,
    Tick,
}

impl Going {
    async fn run(&mut self, mut sources: Sources, mut signals: Signals) -> Ending {
        let (seen, mut looks) = mpsc::unbounded_channel();
        let watch = self
            .monitor
            .clone()
            .map(|monitor| Watch::start(monitor, seen));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.story.stage(Stage::PreCopy);
        let ending = loop {
            let happened = tokio::select! {
                biased;
                Some(event) = sources.outbound.recv() => Happened::Outbound(event),
                Some(event) = sources.ingest.recv() => Happened::Ingest(event),
                finished = finished(&mut self.finishing) => {
                    self.finishing = None;
                    Happened::Finished(finished)
                }
                Some(look) = looks.recv() => Happened::Seen(look),
                () = signals.next() => Happened::Signal,
                _ = ticks.tick() => Happened::Tick,
            };
            if let Some(ending) = self.happened(happened, watch.as_ref()) {
                break ending;
            }
        };
        self.outbound.close();
        if ending.kind() != Kind::Moved {
            self.story.stage(Stage::Aborted);
            self.undo().await;
        }
        ending
    }

    /// Nothing stays of a file whose guest is not in it.
    async fn undo(&mut self) {
        if let Some(finishing) = self.finishing.take()
            && let Ok(Ok(())) | Err(_) = finishing.await
        {
            take_back(&self.path);
        }
        self.saving = None;
    }

    fn happened(&mut self, happened: Happened, watch: Option<&Watch>) -> Option<Ending> {
        match happened {
            Happened::Outbound(event) => self.outbound(event),
            Happened::Ingest(event) => self.ingest(event, watch),
            Happened::Seen(look) => self.seen(look),
            Happened::Finished(finished) => self.finished(finished, watch),
            Happened::Signal => self.signal(),
            Happened::Tick => self.tick(),
        }
    }

    fn outbound(&self, event: outbound::Event) -> Option<Ending> {
        match event {
            // Whoever opens the file finds that by itself.
            outbound::Event::Epoch { .. } => None,
            outbound::Event::LaneLost { error, .. } => {
                Some(self.as_it_was(not_written(&self.path, &error)))
            }
            outbound::Event::Broken(broken) => Some(self.failed(
                Fault::ThisHost,
                format!("a batch could not be made: {broken}"),
            )),
        }
    }

    fn ingest(&mut self, event: ingest::Event, watch: Option<&Watch>) -> Option<Ending> {
        match event {
            ingest::Event::Stopping => self.stopped(watch),
            ingest::Event::RamEnded { versions, .. } => {
                self.stopped(watch);
                self.versions = Some(versions);
                self.ram_ended = Some(Instant::now());
            }
            ingest::Event::RunState(state) => self.streamed = guest::run_state(&state),
            ingest::Event::Ping(value) => {
                if let Some(path) = &mut self.return_path {
                    // What cannot be written is the channel's end, which its reader finds.
                    let _ = path.pong(value);
                }
            }
            ingest::Event::Whole { batches } => self.whole = Some(batches),
            // With all of it there QEMU has nothing more to say.
            ingest::Event::Ended if self.kept.is_some() && self.monitor.is_none() => {
                return Some(self.saved());
            }
            ingest::Event::Ended | ingest::Event::Broken(_) if self.whole.is_some() => {}
            ingest::Event::Ended => {
                return Some(self.failed(
                    Fault::Guest,
                    "QEMU closed its channel before the guest was whole: ask it why by info migrate".to_owned(),
                ));
            }
            ingest::Event::Broken(error) => {
                return Some(self.failed(Fault::Guest, format!("QEMU's channel broke: {error}")));
            }
            ingest::Event::Unsupported(what) => {
                return Some(self.failed(Fault::User, what.explanation().to_owned()));
            }
        }
        None
    }

    fn stopped(&mut self, watch: Option<&Watch>) {
        if let Some(watch) = watch {
            watch.hurry();
        }
        self.story.stage(Stage::StopAndCopy);
    }

    fn seen(&mut self, look: Result<Seen, sealift_qemu::Error>) -> Option<Ending> {
        let seen = match look {
            Ok(seen) => seen,
            Err(error) if self.kept.is_some() => return Some(self.in_doubt(&error.to_string())),
            Err(error) => return Some(self.failed(Fault::Guest, ending::whole(&error))),
        };
        self.pace.qemu_says(&seen.migration);
        self.story.qemu_says(&seen.migration);
        match seen.migration.status {
            Status::Completed if self.kept.is_some() => Some(self.saved()),
            Status::Failed | Status::Cancelled => {
                // The guest runs on: with its disks ahead of the file that would be no guest to restore.
                if self.kept.is_some() {
                    take_back(&self.path);
                }
                let how = match (&seen.migration.error, seen.migration.status) {
                    (Some(error), _) => format!("QEMU gave the migration up: {error}"),
                    (None, Status::Cancelled) => {
                        "somebody cancelled the migration in QEMU".to_owned()
                    }
                    (None, _) => "QEMU gave the migration up; see its log".to_owned(),
                };
                Some(self.failed(Fault::Guest, how))
            }
            _ => None,
        }
    }

    /// All that was sealed is in the file, and the stream is whole: time for its end.
    fn finish(&mut self) {
        let (Some(batches), Some(versions)) = (self.whole, self.versions) else {
            return;
        };
        let standing = self.outbound.standing();
        if standing.in_flight.batches > 0 || standing.batches < batches {
            return;
        }
        let Some(saving) = self.saving.take() else {
            return;
        };
        self.story.stage(Stage::Commitment);
        let end = End {
            // Other channels may have sent something behind the main one's end.
            batches: standing.batches,
            at: 0,
            versions,
            run_state: self
                .streamed
                .or(self.run_state)
                .unwrap_or(RunState::Running),
        };
        let written = standing.wire;
        self.finishing = Some(tokio::task::spawn_blocking(move || {
            saving.finish(written, end)
        }));
    }

    fn finished(&mut self, finished: std::io::Result<()>, watch: Option<&Watch>) -> Option<Ending> {
        if let Err(error) = finished {
            return Some(self.as_it_was(not_written(&self.path, &error)));
        }
        if self.cancelled && self.return_path.is_some() {
            take_back(&self.path);
            return Some(cancelled());
        }
        self.kept = Some(Instant::now());
        match &mut self.return_path {
            Some(path) => {
                // If QEMU has closed its channel already, it will say so itself.
                let _ = path.shut();
                if let Some(watch) = watch {
                    watch.hurry();
                }
                None
            }
            // It says completed by now, or will.
            None if self.monitor.is_some() => None,
            None => Some(self.saved()),
        }
    }

    fn signal(&mut self) -> Option<Ending> {
        if self.kept.is_some() || (self.whole.is_some() && self.return_path.is_none()) {
            self.story.tell(What::Warning {
                message: "too late to cancel: QEMU has completed, or is about to".to_owned(),
            });
            return None;
        }
        self.cancelled = true;
        // What is being written now is taken back when it is done.
        self.finishing.is_none().then(cancelled)
    }

    fn tick(&mut self) -> Option<Ending> {
        let standing = self.outbound.standing();
        // The gate is not held: nobody has to be ready at the other end.
        let _ = self.pace.adjust(&standing);
        self.outbound.set_window(self.pace.window());
        if self.told.elapsed() >= TELL && self.kept.is_none() {
            self.told = Instant::now();
            self.story.progress(&standing, &self.pace);
        }
        self.finish();
        if let Some(kept) = self.kept
            && kept.elapsed() > COMPLETES_WITHIN
        {
            return Some(self.in_doubt("QEMU did not say completed"));
        }
        match self.ram_ended {
            Some(ended) if self.whole.is_none() && ended.elapsed() > ENDS_WITHIN => {
                Some(self.failed(
                    Fault::Guest,
                    "QEMU's stream did not come to an end that can be recognised, which its description is: a machine type with \
                     suppress-vmdesc writes none"
                        .to_owned(),
                ))
            }
            _ => None,
        }
    }

    fn saved(&mut self) -> Ending {
        let standing = self.outbound.standing();
        let outcome = Outcome::Moved {
            managed: false,
            resumed_ns: 0,
        };
        // Tells the report.
        let _ = self
            .story
            .end(outcome, &standing, &self.pace, &Pings::default().offset());
        self.story.stage(Stage::Done);
        let name = self.story.facts.guest.name.as_deref();
        Ending::saved(format!(
            "{} is saved in {}, for {}",
            name.unwrap_or("the guest"),
            self.path.display(),
            self.recipient
        ))
        .advice("end its QEMU before the guest is restored: cont would run it a second time")
    }

    fn in_doubt(&self, why: &str) -> Ending {
        Ending::new(
            Kind::InDoubt,
            format!(
                "the guest is whole in {}, but {why}: it may run on here",
                self.path.display()
            ),
        )
        .fault(Fault::Guest)
        .advice("ask QEMU by info status; if the guest runs, remove the file: its disks have gone on without it")
    }

    fn failed(&self, fault: Fault, message: String) -> Ending {
        self.as_it_was(Ending::new(Kind::StillAtSource, message).fault(fault))
    }

    /// QEMU gives up when its channel is closed, unless it did not wait for anybody.
    fn as_it_was(&self, ending: Ending) -> Ending {
        match self.return_path {
            Some(_) => ending,
            None if self.ram_ended.is_none() => ending,
            None => ending.advice(
                "QEMU did not wait, and may hold the guest stopped as if it were saved: ask by info status, and run it on by cont",
            ),
        }
    }
}

fn cancelled() -> Ending {
    Ending::new(Kind::Cancelled, "cancelled; nothing was kept of the file")
}

/// What came of the file's end; waits for ever where there is none.
async fn finished(finishing: &mut Option<JoinHandle<std::io::Result<()>>>) -> std::io::Result<()> {
    match finishing {
        Some(finishing) => finishing
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        None => std::future::pending().await,
    }
}
