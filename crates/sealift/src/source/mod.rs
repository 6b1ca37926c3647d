//! `sealift send` and `sealift migrate`: a guest leaves this host.
//!
//! ```text
//!  send:     QEMU connects ─▶ prologue ─▶ negotiate ─▶ admit ─┐
//!                                                             ├─▶ lanes ─▶ carry ─▶ Ending
//!  migrate:  negotiate ─▶ set QEMU up ─▶ prologue ─▶ admit ───┘
//! ```
//!
//! By hand somebody gives QEMU its orders, and it is QEMU that comes first. Over QMP sealift gives them, and asks the receiver before it
//! touches anything.

mod carry;
mod guest;
mod ingest;
mod intake;
mod link;
mod migrate;
mod pace;
mod parallel;
mod prologue;
mod return_path;
mod save;
mod send;
mod setup;
mod story;
mod tail;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealift::arguments::{Endpoint, Transfer, Verify};
use sealift::event::{Access, Admitted, Event, Guest, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::journal::About;
use sealift_identity::{Pki, Side};
use sealift_net::outbound::{Lane, Outbound, Plan};
use sealift_net::target::Target;
use sealift_pages::{Draft, Layout, PageSize};
use sealift_precopy::VersionMap;
use sealift_qemu::channel::{Channel, Closer, WriteHalf};
use sealift_seal::Keyed;
use sealift_session::control::{LaneCount, RamBlocks, SessionId};
use sealift_session::handoff::SourceHandoff;
use sealift_session::handoff::source::{Completion, Terms};
use sealift_session::handshake::Agreed;
use sealift_session::handshake::source::Negotiated;
use tokio::sync::mpsc;

use crate::journals::Journals;
use crate::monitor::Monitor;
use crate::signals::Signals;
use crate::{ending, journals, lock, random};
use carry::{Carry, Sources};
use guest::Asked;
use ingest::Ingest;
use intake::Intake;
use link::{Link, Order};
use pace::Pace;
use parallel::{Parallel, Quiesce};
use prologue::{NoPrologue, Prologue};
use return_path::ReturnPath;
use story::{Facts, Story};

pub(crate) use link::seed;
pub(crate) use migrate::run as migrate;
pub(crate) use send::run as send;

/// Lanes unless the operator says otherwise. One TCP connection is bound by one core and by one loss; two are not, and more helped
/// nothing on the links that were measured.
const LANES: u16 = 2;

/// zstd's level: the fastest that still finds what text and pointers repeat.
const LEVEL: i32 = 1;

/// What both commands are told.
pub(crate) struct Way {
    pki: Pki,
    order: Order,
    journals: PathBuf,
    reporter: Arc<Reporter>,
    max_downtime: Duration,
    /// The guest's name, when QEMU cannot be asked.
    name: Option<String>,
    /// QEMU stays when the guest has gone.
    keep: bool,
    /// Bytes per second that the lanes may take together.
    bandwidth: Option<u64>,
    /// The guest was running, and is paused for the move.
    pause: bool,
}

impl Way {
    fn new(
        pki: &std::path::Path,
        to: &Endpoint,
        peer_name: &str,
        transfer: &Transfer,
        journal: Option<&std::path::Path>,
        reporter: Arc<Reporter>,
    ) -> Result<Self, Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::Host, error).fault(Fault::ThisHost)
        };
        let lanes = u32::from(transfer.lanes.unwrap_or(LANES));
        Ok(Self {
            pki: Pki::for_source(pki).map_err(|error| ending::of_pki(&error))?,
            order: Order {
                target: Target::new(to.host().to_owned(), to.port()),
                peer_name: peer_name.to_owned(),
                lanes: LaneCount::new("--lanes", lanes).map_err(|error| host(&error))?,
                suites: transfer.suites(),
                verify_full: transfer.verify == Verify::Full,
            },
            journals: journals::directory(journal).map_err(|error| host(&error))?,
            reporter,
            max_downtime: transfer.max_downtime(),
            name: None,
            keep: true,
            bandwidth: None,
            pause: false,
        })
    }

    fn tell(&self, session: SessionId, what: What) {
        self.reporter.tell(Event {
            at: SystemTime::now(),
            session: Some(session),
            what,
        });
    }

    async fn negotiate(
        &self,
        session: SessionId,
        page_size: PageSize,
    ) -> Result<(Link, Negotiated), Ending> {
        let (link, negotiated) =
            link::negotiate(&self.order, &self.pki, session, page_size).await?;
        self.tell(
            session,
            What::Connected {
                peer: link.peer.clone(),
                tls: crate::TLS.to_owned(),
            },
        );
        Ok((link, negotiated))
    }
}

/// QEMU's side of a session.
pub(crate) struct Qemu {
    prologue: Prologue,
    /// The way back on the main channel.
    write: WriteHalf,
    closers: Arc<Mutex<Vec<Closer>>>,
    /// Further channels, as they come.
    further: mpsc::Receiver<Channel>,
    monitor: Option<Monitor>,
    asked: Option<Asked>,
}

/// A new session's id.
fn new_session() -> Result<SessionId, Ending> {
    random::array()
        .map(SessionId)
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))
}

/// Reads the beginning of QEMU's stream, off the reactor.
async fn read_prologue(read: sealift_qemu::channel::ReadHalf) -> Result<Prologue, Ending> {
    let reading = tokio::task::spawn_blocking(move || Prologue::read(read));
    let prologue = reading
        .await
        .map_err(|error| Ending::because(Kind::StillAtSource, &error).fault(Fault::ThisHost))?;
    prologue.map_err(|why| no_prologue(&why))
}

/// QEMU must wait for the destination.
fn needs_return_path(prologue: &Prologue) -> Result<(), Ending> {
    if !prologue.facts.return_path {
        let message = "QEMU migrates without a return path: it would not wait for the destination to have the guest";
        return Err(Ending::new(Kind::StillAtSource, message)
            .fault(Fault::User)
            .advice(
                "ask QEMU by info status: a small guest it may have stopped before it saw that nobody takes it, and cont runs it on; then \
                 switch the return path on, migrate_set_capability return-path on, or use sealift migrate",
            ));
    }
    Ok(())
}

fn no_prologue(why: &NoPrologue) -> Ending {
    let ending = |message: String| Ending::new(Kind::StillAtSource, message);
    match why {
        NoPrologue::Ended => {
            ending("QEMU closed its channel before it said which guest it is".to_owned())
                .fault(Fault::Guest)
                .advice("ask QEMU why: info migrate")
        }
        NoPrologue::Silent(waited) => ending(format!(
            "QEMU opened a channel and wrote nothing for {} s",
            waited.as_secs()
        ))
        .fault(Fault::Guest),
        NoPrologue::Broken(error) => {
            ending(format!("QEMU's channel broke: {error}")).fault(Fault::Guest)
        }
        NoPrologue::Unsupported(what) => ending(what.explanation().to_owned()).fault(Fault::User),
    }
}

/// A receiver that was asked, and what was agreed on with it so far.
struct Asking {
    session: SessionId,
    started: Instant,
    link: Link,
    negotiated: Negotiated,
    /// The page size that was offered.
    page_size: PageSize,
}

/// Everything that is agreed on before pages go.
struct Ready {
    session: SessionId,
    started: Instant,
    link: Link,
    agreed: Agreed<sealift_seal::Source>,
    lanes: Vec<Lane>,
    /// The receiver controls its QEMU.
    managed: bool,
    page_size: PageSize,
}

/// From a guest that is known and a receiver that was asked to the end.
async fn go(way: &Way, asking: Asking, qemu: Qemu, mut signals: Signals) -> Ending {
    let ready = tokio::select! {
        ready = agree(way, asking, &qemu) => ready,
        () = signals.next() => Err(cancelled()),
    };
    match ready {
        Ok(ready) => carry(way, ready, qemu, signals)
            .await
            .unwrap_or_else(|ending| ending),
        Err(ending) => ending,
    }
}

/// Somebody wanted it to end before it began.
fn cancelled() -> Ending {
    Ending::new(Kind::Cancelled, "cancelled before anything was sent")
}

async fn agree(way: &Way, asking: Asking, qemu: &Qemu) -> Result<Ready, Ending> {
    let Asking {
        session,
        started,
        mut link,
        negotiated,
        page_size: offered,
    } = asking;
    let facts = &qemu.prologue.facts;
    let page_size = page_size(facts)?;
    if page_size != offered {
        let message = format!(
            "the guest's pages have {} bytes, and {} were agreed on before that was known",
            page_size.bytes(),
            offered.bytes()
        );
        return Err(Ending::new(Kind::StillAtSource, message)
            .fault(Fault::Guest)
            .advice("use sealift send, which sees the guest first"));
    }
    let admission = guest::admission(facts, qemu.asked.as_ref(), way.name.as_deref(), page_size)?;
    let managed = negotiated.destination().managed;
    let mut agreed = link.admit(&way.pki, negotiated, admission).await?;
    way.tell(
        session,
        What::Admitted(Admitted {
            guest: named(&agreed),
            memory_bytes: agreed.admission.memory_needed,
            lanes: agreed.choice.lanes.lanes(),
            suite: agreed.suite,
            access: Access::Stream,
            access_reason: story::ACCESS_REASON.to_owned(),
        }),
    );
    let lanes = link.open_lanes(&way.pki, &mut agreed).await?;
    Ok(Ready {
        session,
        started,
        link,
        agreed,
        lanes,
        managed,
        page_size,
    })
}

/// The guest, as it is told.
fn named(agreed: &Agreed<sealift_seal::Source>) -> Guest {
    Guest {
        name: Some(agreed.admission.name.as_str().to_owned()),
        uuid: (agreed.admission.uuid != [0; 16]).then_some(agreed.admission.uuid),
    }
}

async fn carry(way: &Way, ready: Ready, qemu: Qemu, signals: Signals) -> Result<Ending, Ending> {
    let Ready {
        session,
        started,
        link,
        agreed,
        lanes,
        managed,
        page_size,
    } = ready;
    let Qemu {
        prologue,
        write,
        closers,
        further,
        monitor,
        asked,
    } = qemu;
    let guest = named(&agreed);
    let knows_gate = guest::knows_gate(&prologue.facts, asked.as_ref());
    let blocks = agreed.admission.blocks.as_slice().iter();
    let blocks = blocks.map(|block| String::from_utf8_lossy(block.name()).into_owned());
    let blocks = blocks.collect();
    let digest = agreed.digest;
    let facts = Facts {
        guest,
        peer: Some(link.peer.clone()),
        lanes: agreed.choice.lanes.lanes(),
        suite: agreed.suite,
        tls: Some(crate::TLS.to_owned()),
        algorithm: digest,
        page_bytes: page_size.bytes() as u64,
        unmanaged: unmanaged(managed, monitor.is_some()),
        keep_source: way.keep,
    };
    let terms = Terms {
        managed,
        verify: agreed.offer.verify_full,
        keep: way.keep,
        completion: match monitor {
            Some(_) => Completion::ByQmp,
            None => Completion::ByClose,
        },
    };
    let about = About {
        guest_name: agreed.admission.name.as_str().to_owned(),
        guest_uuid: agreed.admission.uuid,
        peer_name: way.order.peer_name.clone(),
        qmp_address: monitor
            .as_ref()
            .map(|monitor| monitor.address().to_string()),
    };
    let journal = match Journals::create(&way.journals, session.0, Side::Source, about).await {
        Ok(journal) => journal,
        Err(error) => {
            link.decline(&*error).await;
            return Err(Ending::because(Kind::StillAtSource, &*error).fault(Fault::ThisHost));
        }
    };
    let pipeline = Pipeline {
        prologue,
        page_size,
        blocks: agreed.admission.blocks,
        layout: agreed.layout,
        keys: agreed.keyed,
        lanes,
        closers: Arc::clone(&closers),
        further,
        max_downtime: way.max_downtime,
        bandwidth: way.bandwidth,
        watch_for_the_end: false,
    };
    let (outbound, pace, sources) = match pipeline.start() {
        Ok(started) => started,
        Err(ending) => {
            journal.end(true).await;
            return Err(ending);
        }
    };
    let (handoff, begun) = SourceHandoff::new(terms);
    let carry = Carry {
        link,
        outbound,
        return_path: ReturnPath::new(write, knows_gate),
        closers,
        monitor,
        handoff,
        journal,
        pace,
        story: Story::new(Arc::clone(&way.reporter), session, facts, started),
        signals,
        run_state: asked.and_then(|asked| asked.run_state),
        paused_for_the_move: way.pause,
        blocks,
        digest,
    };
    Ok(carry.run(sources, begun).await)
}

/// Why the hand-off is not managed, if it is not.
fn unmanaged(destination: bool, source: bool) -> Option<String> {
    match (destination, source) {
        (true, true) => None,
        (true, false) => Some("the source has no --qmp".to_owned()),
        (false, true) => Some("the receiver has no --qmp".to_owned()),
        (false, false) => Some("neither end has --qmp".to_owned()),
    }
}

/// The guest's page size; where the stream is not understood, it does not matter.
fn page_size(facts: &prologue::Facts) -> Result<PageSize, Ending> {
    let bytes = facts
        .page_size
        .unwrap_or(sealift_stream::PageSize::KIB_4)
        .bytes();
    PageSize::new(bytes)
        .map_err(|error| Ending::because(Kind::StillAtSource, &error).fault(Fault::Guest))
}

/// What carries pages from QEMU to the lanes.
struct Pipeline {
    prologue: Prologue,
    page_size: PageSize,
    blocks: RamBlocks,
    layout: Layout,
    keys: Keyed<sealift_seal::Source>,
    lanes: Vec<Lane>,
    closers: Arc<Mutex<Vec<Closer>>>,
    further: mpsc::Receiver<Channel>,
    max_downtime: Duration,
    bandwidth: Option<u64>,
    /// Nobody else will say that the whole stream has come.
    watch_for_the_end: bool,
}

impl Pipeline {
    fn start(self) -> Result<(Outbound, Arc<Pace>, Sources), Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
        };
        let page_bytes = self.page_size.bytes() as u64;
        let blocks = self.blocks.as_slice();
        let pages: Vec<u64> = blocks
            .iter()
            .map(|block| block.length() / page_bytes)
            .collect();
        let names: Arc<[Vec<u8>]> = blocks.iter().map(|block| block.name().to_vec()).collect();
        let memory = blocks.iter().map(|block| block.length()).sum();
        let pace = Arc::new(Pace::new(memory, self.page_size, self.max_downtime));
        let (events, from_outbound) = mpsc::unbounded_channel();
        let outbound = Outbound::start(
            Plan {
                layout: Arc::new(self.layout),
                workers: crate::workers(),
                level: LEVEL,
                duplicates_key: u64::from_ne_bytes(random::array().map_err(|error| host(&error))?),
                bandwidth: self.bandwidth,
                window: pace.window(),
                versions: VersionMap::new(&pages),
                keys: self.keys,
            },
            self.lanes,
            events,
        )
        .map_err(|error| host(&error))?;

        let (told, from_ingest) = mpsc::unbounded_channel();
        let quiesce = Arc::new(Quiesce::default());
        let parallel_page_size = self.prologue.facts.page_size;
        let (ingest, begun) = Ingest::new(
            self.prologue,
            Draft::new(self.page_size),
            page_bytes,
            outbound.feed(0),
            Arc::clone(&pace),
            Arc::clone(&quiesce),
            told.clone(),
        );
        let ingest = match self.watch_for_the_end {
            true => ingest.watching_for_the_end(),
            false => ingest,
        };
        thread::Builder::new()
            .name("ingest-0".to_owned())
            .spawn(move || ingest.run(begun))
            .map_err(|error| host(&error))?;
        let further = Further {
            feeds: outbound.feed(1),
            page_size: self.page_size,
            stream_page_size: parallel_page_size.unwrap_or(sealift_stream::PageSize::KIB_4),
            blocks: names,
            pace: Arc::clone(&pace),
            quiesce,
            closers: self.closers,
            events: told,
        };
        tokio::spawn(further.serve(self.further));
        let sources = Sources {
            outbound: from_outbound,
            ingest: from_ingest,
        };
        Ok((outbound, pace, sources))
    }
}

/// Starts a reader for each further channel.
struct Further {
    feeds: sealift_net::outbound::Feed,
    page_size: PageSize,
    stream_page_size: sealift_stream::PageSize,
    blocks: Arc<[Vec<u8>]>,
    pace: Arc<Pace>,
    quiesce: Arc<Quiesce>,
    closers: Arc<Mutex<Vec<Closer>>>,
    events: mpsc::UnboundedSender<ingest::Event>,
}

/// QEMU's channels, the main one among them: the window is shared by all, and each may have one batch beyond it (WIRE.md §1).
const CHANNELS_MAX: u16 = 32;

impl Further {
    async fn serve(self, mut channels: mpsc::Receiver<Channel>) {
        let mut number = 0_u16;
        // Kept: to drop one would end its direction, and QEMU might take that for the end of the migration.
        let mut ways_back = Vec::new();
        while let Some(channel) = channels.recv().await {
            number += 1;
            if number >= CHANNELS_MAX {
                let _ = self
                    .events
                    .send(ingest::Event::Unsupported(prologue::Unsupported::Channels));
                return;
            }
            self.pace.one_more_channel();
            lock(&self.closers).push(channel.closer());
            let (read, write) = channel.split();
            ways_back.push(write);
            self.quiesce.join(number);
            let reader = Parallel {
                channel: number,
                parser: sealift_stream::multifd::Parser::new(self.stream_page_size),
                draft: Draft::new(self.page_size),
                feed: self.feeds.of(number),
                page_bytes: self.page_size.bytes() as u64,
                blocks: Arc::clone(&self.blocks),
                pace: Arc::clone(&self.pace),
                quiesce: Arc::clone(&self.quiesce),
            };
            let intake = Intake::new(read);
            let started = thread::Builder::new()
                .name(format!("ingest-{number}"))
                .spawn(move || reader.run(intake));
            if started.is_err() {
                // Without its reader the channel blocks QEMU, and the session ends by its deadlines.
                self.quiesce.leave(number);
            }
        }
    }
}
