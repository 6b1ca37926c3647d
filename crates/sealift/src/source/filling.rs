//! A guest on its way into a file: what QEMU sends is written until it is whole, the file gets its end, and QEMU may complete.
//!
//! ```text
//!  pages ─▶ RAM is over ─▶ the stream is whole, all of it written ─▶ end, fsync, name ─▶ SHUT ─▶ QEMU says completed
//!    │                                                                  │                          │
//!    └── failed, cancelled: nothing stays of the file ◀─────────────────┘        in doubt, if not ─┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealift::event::Stage;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_net::outbound::{self, Outbound};
use sealift_qemu::machine::MigrationStatus as Status;
use sealift_session::clock::Pings;
use sealift_session::control::RunState;
use sealift_session::handoff::source::Outcome;
use sealift_session::saved::End;
use tokio::task::JoinHandle;

use super::pace::Pace;
use super::pipeline::Sources;
use super::return_path::ReturnPath;
use super::story::Story;
use super::{guest, ingest};
use crate::clock::ticks;
use crate::ending;
use crate::monitor::Monitor;
use crate::saved::{Saving, not_written, take_back};
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

/// A guest on its way into a file.
pub(super) struct Filling {
    /// Until it is being finished.
    pub(super) saving: Option<Saving>,
    pub(super) path: PathBuf,
    pub(super) recipient: String,
    pub(super) outbound: Outbound,
    /// When QEMU waits for an answer.
    pub(super) return_path: Option<ReturnPath>,
    pub(super) monitor: Option<Monitor>,
    pub(super) pace: Arc<Pace>,
    pub(super) story: Story,
    /// What the guest did when QEMU was asked.
    pub(super) run_state: Option<RunState>,
    /// What the stream itself says: QEMU's own last word on it.
    pub(super) streamed: Option<RunState>,
    /// The version map's digest, when RAM is over.
    pub(super) versions: Option<[u8; 32]>,
    pub(super) ram_ended: Option<Instant>,
    /// The stream is whole, in so many batches.
    pub(super) whole: Option<u64>,
    /// The file's end is being written.
    pub(super) finishing: Option<JoinHandle<std::io::Result<()>>>,
    /// The file is safe, since then.
    pub(super) kept: Option<Instant>,
    pub(super) cancelled: bool,
    pub(super) told: Instant,
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

impl Filling {
    pub(super) async fn run(&mut self, mut sources: Sources, mut signals: Signals) -> Ending {
        let (watch, mut looks) = Watch::start(self.monitor.clone());
        let mut ticks = ticks(TICK);
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
            if let Some(ending) = self.happened(happened, &watch) {
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

    fn happened(&mut self, happened: Happened, watch: &Watch) -> Option<Ending> {
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

    fn ingest(&mut self, event: ingest::Event, watch: &Watch) -> Option<Ending> {
        match event {
            ingest::Event::Stopping => self.stopped(watch),
            // A guest that is saved comes by the stream.
            ingest::Event::Distrusted { .. } => {}
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

    fn stopped(&mut self, watch: &Watch) {
        watch.hurry();
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

    fn finished(&mut self, finished: std::io::Result<()>, watch: &Watch) -> Option<Ending> {
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
                watch.hurry();
                None
            }
            // It says completed by now, or will.
            None if self.monitor.is_some() => None,
            None => Some(self.saved()),
        }
    }

    fn signal(&mut self) -> Option<Ending> {
        if self.kept.is_some() || (self.whole.is_some() && self.return_path.is_none()) {
            self.story
                .voice
                .warn("too late to cancel: QEMU has completed, or is about to");
            return None;
        }
        self.cancelled = true;
        // What is being written now is taken back when it is done.
        self.finishing.is_none().then(cancelled)
    }

    fn tick(&mut self) -> Option<Ending> {
        let standing = self.outbound.standing();
        // The gate is not held: nobody has to be ready at the other end.
        self.pace.adjust(&standing);
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
