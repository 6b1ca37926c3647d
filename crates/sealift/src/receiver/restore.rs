//! `sealift receive --file`: a saved guest goes to the QEMU that waits for it, and goes on as it was saved.
//!
//! ```text
//!  file ─▶ end, header ─▶ is the QEMU for this guest? ─▶ batches ─▶ relay ─▶ QEMU
//!                                                          │ at the barrier: every page is the newest?
//!                                                          ▼
//!                    all batches placed, and QEMU has loaded them ─▶ cont, or the last byte
//! ```
//!
//! There is no source that could go on with the guest, so there is nothing to decide with anybody and no journal: until the last step
//! the guest is in the file, and a restore that failed can be tried again.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealift::arguments::receive::Arguments;
use sealift::event::{Access, Admitted, Guest, Stage, What};
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift::reporter::Reporter;
use sealift_identity::Pki;
use sealift_net::inbound::{self, Inbound, Placed, Standing};
use sealift_qemu::channel::{Channel, Closer};
use sealift_qemu::machine::{Machine, MigrationStatus as Status};
use sealift_qemu::ram::Want;
use sealift_seal::Suite;
use sealift_session::control::RunState;
use sealift_session::saved::{End, Header};
use tokio::sync::mpsc;

use super::admission;
use super::qemu_says::{self, Says};
use super::reins::go_on;
use super::relay::{self, Clearance};
use super::story::Story;
use super::target::{Endpoint, Taken, Target};
use super::unsealed::{STALE, Unsealed, failed, host, spoilt};
use crate::clock::ticks;
use crate::ending;
use crate::monitor::Monitor;
use crate::saved::Opened;
use crate::settings::Before;
use crate::signals::Signals;
use crate::under_way::UnderWay;
use crate::voice::Voice;
use crate::watch::{Seen, Watch};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);
/// How long QEMU may take to load what it was given: device state, and what its disks take to be opened.
const LOADS_WITHIN: Duration = Duration::from_secs(300);

/// Runs the command.
pub(super) async fn run(
    arguments: &Arguments,
    file: &Path,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Ending {
    match begin(arguments, file, channel, reporter).await {
        Ok((going, sources, signals)) => going.run(sources, signals).await,
        Err(ending) => ending,
    }
}

/// A guest on its way out of a file.
struct Going {
    inbound: Inbound,
    placed: Placed,
    clearance: Clearance,
    /// Ends QEMU's main channel.
    closer: Closer,
    monitor: Option<Monitor>,
    /// How it was set up before.
    before: Option<Before>,
    end: End,
    story: Story,
    progress: Progress,
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    /// The file was read to its end.
    read: bool,
    /// QEMU has everything but the stream's last byte.
    holds_last_byte: bool,
    /// It has that too: it may run the guest.
    released: bool,
    /// All batches are with QEMU, since then.
    placed: Option<Instant>,
    /// QMP says that the guest is loaded.
    loaded: bool,
    /// QEMU was told to run the guest.
    continuing: bool,
}

/// Where things that happen come from.
struct Sources {
    inbound: mpsc::UnboundedReceiver<inbound::Event>,
    relay: mpsc::UnboundedReceiver<relay::Event>,
    qemu: mpsc::UnboundedReceiver<Says>,
}

async fn begin(
    arguments: &Arguments,
    file: &Path,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Result<(Going, Sources, Signals), Ending> {
    let signals = Signals::listen().map_err(|error| host(&error))?;
    let pki = Pki::for_receiver(&arguments.identity.pki)
        .map_err(|error| ending::of_pki(&error).in_file())?;
    let opened = Opened::open(file, &pki)?;
    drop(pki);
    let target = Arc::new(Target {
        endpoint: match (&arguments.qemu, channel) {
            (Some(address), _) => Endpoint::Address(address.clone()),
            (None, channel) => Endpoint::Standard(Mutex::new(channel)),
        },
        control: arguments.qmp.clone(),
        access: Want::Stream,
    });
    let mut taken = Taken::of(target).await.map_err(|error| host(&error))?;
    admission::decide(&opened.header.guest, taken.waiting.as_ref()).map_err(|refused| {
        let why = refused.explanation.as_str();
        Ending::new(
            Kind::Host,
            format!("the guest cannot be restored here: {why}"),
        )
        .fault(Fault::User)
        .in_file()
    })?;
    let prepared = taken.prepare().await;
    prepared.map_err(|why| failed(&why))?;
    let (going, sources) = start(taken, opened, reporter).await?;
    Ok((going, sources, signals))
}

async fn start(
    taken: Taken,
    opened: Opened,
    reporter: Arc<Reporter>,
) -> Result<(Going, Sources), Ending> {
    let main = taken.connect().await.map_err(|why| {
        Ending::new(Kind::Host, why)
            .fault(Fault::ThisHost)
            .in_file()
    })?;
    let (says, from_qemu) = mpsc::unbounded_channel();
    qemu_says::listen(main.reader, None, says).map_err(|error| host(&error))?;
    let hold_end = taken.monitor.is_none();
    let unsealed = Unsealed::start(opened, main.writer, hold_end, taken.connector())?;
    let going = Going {
        inbound: unsealed.inbound,
        placed: unsealed.placed,
        clearance: unsealed.clearance,
        closer: main.closer,
        monitor: taken.monitor,
        before: taken.before,
        end: unsealed.end,
        story: told(&unsealed.header, reporter),
        progress: Progress::default(),
    };
    let sources = Sources {
        inbound: unsealed.from_inbound,
        relay: unsealed.from_relay,
        qemu: from_qemu,
    };
    Ok((going, sources))
}

fn told(header: &Header, reporter: Arc<Reporter>) -> Story {
    let guest = &header.guest;
    let story = Story {
        voice: Voice::of_command(reporter).of(header.id),
        guest: guest.name.as_str().to_owned(),
        page_bytes: header.page_size.bytes() as u64,
        // It stands still, and what there is of it is carried.
        stage: Stage::StopAndCopy,
        teller: Teller::Us,
        source_knows: false,
        last: Standing::default(),
    };
    story.tell(What::Admitted(Admitted {
        guest: Guest {
            name: Some(guest.name.as_str().to_owned()),
            uuid: (guest.uuid != [0; 16]).then_some(guest.uuid),
        },
        memory_bytes: guest.memory_needed,
        lanes: 1,
        suite: Suite::P256,
        access: Access::Relay,
        access_reason: "a guest comes out of a file through QEMU's stream alone".to_owned(),
    }));
    story
}

impl Going {
    async fn run(mut self, mut sources: Sources, mut signals: Signals) -> Ending {
        let (watch, mut looks) = Watch::start(self.monitor.clone());
        let (refused, mut refusals) = UnderWay::<String>::new();
        let mut ticks = ticks(TELL);
        let ending = loop {
            let ending = tokio::select! {
                biased;
                Some(event) = sources.inbound.recv() => self.inbound(event),
                Some(event) = sources.relay.recv() => self.relay(event),
                Some(says) = sources.qemu.recv() => self.qemu(&says),
                Some(look) = looks.recv() => self.seen(look),
                Some(error) = refusals.recv() => Some(self.in_doubt(&error)),
                () = signals.next() => self.signal(),
                _ = ticks.tick() => self.tick(),
            };
            if let Some(ending) = ending {
                break ending;
            }
            self.step(&watch, &refused);
            if let Some(ending) = self.paused() {
                break ending;
            }
        };
        self.story.progress(&self.inbound.standing(), 0);
        self.inbound.close();
        self.closer.close();
        if !matches!(ending.kind(), Kind::Moved | Kind::InDoubt)
            && let Some(monitor) = &self.monitor
        {
            // It has half a guest, which is good for nothing.
            let _ = monitor.ask(Machine::quit).await;
        }
        if ending.kind() == Kind::Moved
            && let (Some(monitor), Some(before)) = (&self.monitor, self.before.take())
        {
            before.put_back(monitor, &self.story.voice).await;
        }
        ending
    }

    /// Does what can be done now.
    fn step(&mut self, watch: &Watch, refused: &UnderWay<String>) {
        let all = self.placed.floor() == self.end.batches && self.progress.read;
        if all && self.progress.placed.is_none() {
            self.progress.placed = Some(Instant::now());
            watch.hurry();
        }
        if !all {
            return;
        }
        if self.progress.holds_last_byte && !self.progress.released {
            self.progress.released = true;
            self.clearance.release_end();
        }
        let runs = self.end.run_state != RunState::Paused;
        if self.progress.loaded
            && runs
            && !self.progress.continuing
            && let Some(monitor) = self.monitor.clone()
        {
            self.progress.continuing = true;
            refused.start(async move {
                let error = go_on(&monitor).await.err()?;
                Some(ending::whole(&error))
            });
        }
    }

    /// The guest is here, and was paused when it was saved.
    fn paused(&self) -> Option<Ending> {
        let all = self.progress.placed.is_some() && self.progress.loaded;
        (all && self.end.run_state == RunState::Paused).then(|| {
            self.restored("it is paused, as it was when it was saved")
                .advice("run it on by the QMP command cont")
        })
    }

    fn inbound(&mut self, event: inbound::Event) -> Option<Ending> {
        match event {
            inbound::Event::Placed => {
                // Nobody is to be told which; but to ask is what makes it tell again.
                while self.placed.take_ranges().is_some() {}
                None
            }
            inbound::Event::LaneLost { error: None, .. } => {
                self.progress.read = true;
                None
            }
            inbound::Event::LaneLost {
                error: Some(error), ..
            } => Some(self.failed(&format!("the file cannot be read: {error}"))),
            inbound::Event::Broken(broken) => Some(self.failed(&spoilt(&broken))),
        }
    }

    fn relay(&mut self, event: relay::Event) -> Option<Ending> {
        match event {
            relay::Event::AtBarrier { .. } => {
                if self.inbound.versions()() != self.end.versions {
                    return Some(self.failed(STALE));
                }
                self.clearance.give();
                None
            }
            relay::Event::HoldsEnd => {
                self.progress.holds_last_byte = true;
                None
            }
            relay::Event::Broken { channel, error } => Some(self.failed(&format!(
                "QEMU took no more of channel {channel} ({error}); its log says why"
            ))),
        }
    }

    fn qemu(&self, says: &Says) -> Option<Ending> {
        match says {
            Says::ReturnPath {
                shut: Some(value @ 1..),
                ..
            } => Some(self.failed(&format!(
                "QEMU could not load the guest (it says {value}); its log says why"
            ))),
            Says::ReturnPath { shut, .. } => {
                (*shut == Some(0) && self.progress.released).then(|| self.by_itself())
            }
            // With a monitor QMP says more, and says it soon.
            Says::Ended if self.monitor.is_some() => None,
            Says::Ended if self.progress.released => Some(self.by_itself()),
            Says::Ended => Some(self.failed("QEMU closed its channel; its log says why")),
        }
    }

    fn seen(&mut self, look: Result<Seen, sealift_qemu::Error>) -> Option<Ending> {
        let seen = match look {
            Ok(seen) => seen,
            Err(error) if self.progress.continuing => {
                return Some(self.in_doubt(&ending::whole(&error)));
            }
            Err(error) => return Some(self.failed(&ending::whole(&error))),
        };
        match seen.migration.status {
            Status::Completed if self.progress.continuing && seen.status.let_go() => {
                Some(self.restored(match seen.status.running {
                    true => "it runs on",
                    false => "it sleeps, as it did when it was saved",
                }))
            }
            Status::Completed => {
                self.progress.loaded = true;
                None
            }
            Status::Failed => Some(self.failed(&match seen.migration.error {
                Some(error) => format!("QEMU could not load the guest: {error}"),
                None => "QEMU could not load the guest; its log says why".to_owned(),
            })),
            _ => None,
        }
    }

    fn signal(&self) -> Option<Ending> {
        if self.progress.released || self.progress.continuing {
            self.story
                .voice
                .warn("too late to cancel: the guest runs, or is about to");
            return None;
        }
        Some(Ending::new(Kind::Cancelled, "cancelled; the file is as it was").in_file())
    }

    fn tick(&mut self) -> Option<Ending> {
        let standing = self.inbound.standing();
        self.story.progress(&standing, self.placed.held());
        let since = self.progress.placed?;
        if since.elapsed() < LOADS_WITHIN {
            return None;
        }
        let why = "QEMU has been given all of the guest and does not say that it is loaded; its log may say why";
        match self.progress.released || self.progress.continuing {
            true => Some(self.in_doubt(why)),
            false => Some(self.failed(why)),
        }
    }

    fn restored(&self, how: &str) -> Ending {
        Ending::new(Kind::Moved, format!("{} is here; {how}", self.story.guest))
    }

    fn by_itself(&self) -> Ending {
        self.restored("its QEMU decides whether it runs: without --qmp it is not asked")
    }

    fn failed(&self, why: &str) -> Ending {
        // A guest that may run is not in the file alone any more.
        match self.progress.released || self.progress.continuing {
            true => self.in_doubt(why),
            false => Ending::new(Kind::Host, why)
                .fault(Fault::ThisHost)
                .advice("start QEMU anew for another try: what this one holds is no whole guest")
                .in_file(),
        }
    }

    fn in_doubt(&self, why: &str) -> Ending {
        Ending::new(
            Kind::InDoubt,
            format!("{} was restored, but {why}", self.story.guest),
        )
        .fault(Fault::ThisHost)
        .advice("ask QEMU by info status; end it before the file is restored again")
    }
}
