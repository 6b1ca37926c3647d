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
use std::time::Instant;

use sealift::arguments::send::Arguments;
use sealift::event::{Access, Admitted, Guest, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::Recipient;
use sealift_net::outbound::Compression;
use sealift_precopy::IfNotConverging;
use sealift_qemu::channel::{Channel, Closer, WriteHalf};
use sealift_seal::Suite;
use sealift_session::control::SessionId;
use tokio::sync::mpsc;

use super::channels::Channels;
use super::filling::Filling;
use super::guest::Asked;
use super::pipeline::{Pipeline, Sources};
use super::prologue::read_prologue;
use super::return_path::ReturnPath;
use super::shares::Shares;
use super::story::{Facts, Story};
use super::{Prologue, guest, new_session, page_size};
use crate::ending;
use crate::monitor::Monitor;
use crate::saved::{Begun, Saving, not_written};
use crate::signals::Signals;
use crate::voice::Voice;

/// QEMU's capability to wait for a word before it stops the guest.
const SWITCHOVER_ACK: &str = "switchover-ack";
/// zstd's level: the fastest that still finds what text and pointers repeat. No link says what more would bring.
const LEVEL: i32 = 1;

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
    let save = Save {
        arguments,
        file,
        recipient,
        voice: Voice::of_command(reporter),
    };
    save.run(channel).await.unwrap_or_else(|ending| ending)
}

/// What is to be saved where.
struct Save<'a> {
    arguments: &'a Arguments,
    file: &'a Path,
    recipient: Recipient,
    voice: Voice,
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
    async fn run(&self, channel: Option<Channel>) -> Result<Ending, Ending> {
        let mut channels = Channels::open(self.arguments, channel, &self.voice)?;
        let mut signals = Signals::listen()
            .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
        let main = channels.main(&mut signals).await?;
        let closer = main.closer();
        let ending = channels
            .meanwhile(|further| self.guest(main, further, signals))
            .await;
        // QEMU then gives up, if it has not completed, and the guest runs on.
        closer.close();
        Ok(ending)
    }

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
            Ok((mut filling, sources)) => filling.run(sources, signals).await,
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
    ) -> Result<(Filling, Sources), Ending> {
        let Source {
            prologue,
            monitor,
            asked,
            waits_for_ack,
        } = source;
        let page_size = page_size(&prologue.facts)?;
        let name = self.arguments.guest.as_deref();
        let admission = guest::admission(&prologue.facts, asked.as_ref(), name, page_size)?;
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
            None => story.voice.warn(
                "QEMU migrates without a return path: it does not wait until the file is safe, and says completed before; \
                          believe what is said here, not that",
            ),
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
            reach: None,
            max_downtime: self.arguments.transfer.max_downtime(),
            if_not_converging: IfNotConverging::Keep,
            bandwidth: None,
            shares: Shares::new(self.arguments.transfer.memory_budget, crate::processors()),
            compression: Compression::Level(LEVEL),
            keeps: false,
            asked: false,
            watch_for_the_end: true,
            voice: story.voice.clone(),
        };
        let (outbound, pace, sources) = pipeline.start()?;
        let filling = Filling {
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
        Ok((filling, sources))
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
            access: Access::Stream,
            access_reason: BY_STREAM.to_owned(),
        };
        let story = Story::new(self.voice.of(session), facts, started);
        story.tell(What::Admitted(Admitted {
            guest,
            memory_bytes,
            lanes: 1,
            suite: Suite::P256,
            access: Access::Stream,
            access_reason: BY_STREAM.to_owned(),
        }));
        story
    }
}

/// Why a guest that is saved comes by the stream.
const BY_STREAM: &str = "a guest that is saved comes by the stream";

fn recipient_name(recipient: &Recipient) -> String {
    let certificate = recipient.certificate();
    match certificate.names.first() {
        Some(name) => name.to_string(),
        None => certificate.fingerprint(),
    }
}
