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

mod access;
mod carry;
mod channels;
mod filling;
mod guest;
mod ingest;
mod intake;
mod line;
mod link;
mod migrate;
mod outlet;
mod pace;
mod parallel;
mod pipeline;
mod prologue;
mod reconnecting;
mod reins;
mod return_path;
mod save;
mod send;
mod setup;
mod shares;
mod steps;
mod story;
mod tail;
mod throttle;
mod trust;
mod way_back;
mod window;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealift::arguments::{self, Endpoint, Transfer, Verify};
use sealift::event::{Admitted, Guest, Stage, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::journal::About;
use sealift_identity::{Pki, Side};
use sealift_net::outbound::{Compression, Lane};
use sealift_net::target::Target;
use sealift_pages::PageSize;
use sealift_precopy::IfNotConverging;
use sealift_qemu::Address;
use sealift_qemu::channel::{Channel, Closer, WriteHalf};
use sealift_session::control::{Admission, LaneCount, Role, SessionId};
use sealift_session::handoff::SourceHandoff;
use sealift_session::handoff::source::{Completion, Terms};
use sealift_session::handshake::Agreed;
use sealift_session::handshake::source::Negotiated;
use tokio::sync::mpsc;

use crate::journals::Journals;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::signals::Signals;
use crate::tie::Tie;
use crate::voice::Voice;
use crate::{ending, journals, random};
use access::Found;
use carry::Carry;
use guest::Asked;
use line::Line;
use link::{Link, Order};
use pipeline::Pipeline;
use prologue::Prologue;
use reins::Reins;
use return_path::ReturnPath;
use shares::Shares;
use story::{Facts, Story};
use way_back::WayBack;

pub(crate) use link::seed;
pub(crate) use migrate::run as migrate;
pub(crate) use send::run as send;
pub(crate) use throttle::PARAMETERS as THROTTLE;

/// Lanes unless the operator says otherwise. One TCP connection is bound by one core and by one loss; two are not, and more helped
/// nothing on the links that were measured.
const LANES: u16 = 2;

/// What both commands are told.
pub(crate) struct Way {
    pki: Arc<Pki>,
    order: Order,
    journals: PathBuf,
    voice: Voice,
    max_downtime: Duration,
    /// How long a broken link may keep the guest from running.
    max_blackout: Duration,
    if_not_converging: IfNotConverging,
    /// The guest's name, when QEMU cannot be asked.
    name: Option<String>,
    /// QEMU stays when the guest has gone.
    keep: bool,
    /// Bytes per second that the lanes may take together.
    bandwidth: Option<u64>,
    /// The guest was running, and is paused for the move.
    pause: bool,
    /// How the guest's memory is to be read.
    access: arguments::Access,
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
            pki: Arc::new(Pki::for_source(pki).map_err(|error| ending::of_pki(&error))?),
            order: Order {
                target: Target::new(to.host().to_owned(), to.port()),
                peer_name: peer_name.to_owned(),
                lanes: LaneCount::new("--lanes", lanes).map_err(|error| host(&error))?,
                suites: transfer.suites(),
                verify_full: transfer.verify == Verify::Full,
                shares: Shares::new(transfer.memory_budget, crate::processors()),
                resume_for: transfer.resume_for(),
            },
            journals: journals::directory(journal).map_err(|error| host(&error))?,
            voice: Voice::of_command(reporter),
            max_downtime: transfer.max_downtime(),
            max_blackout: transfer.max_blackout(),
            if_not_converging: transfer.if_not_converging.into(),
            name: None,
            keep: true,
            bandwidth: None,
            pause: false,
            access: transfer.access,
        })
    }

    /// Whether what was asked for can be done with a QEMU that is controlled there.
    fn suits(&self, qmp: &Address) -> Result<(), Ending> {
        match qmp {
            Address::Tcp { .. } if self.order.verify_full => Err(Ending::new(
                Kind::StillAtSource,
                "--verify full reads the guest's memory by a descriptor that is passed to QEMU, and TCP passes none",
            )
            .fault(Fault::User)
            .advice("give QEMU a unix socket too, -qmp unix:PATH,server,nowait, and name that")),
            _ => Ok(()),
        }
    }

    async fn negotiate(
        &self,
        session: SessionId,
        page_size: PageSize,
    ) -> Result<(Link, Negotiated), Ending> {
        let voice = self.voice.of(session);
        voice.stage(Stage::PreMigration);
        let (link, negotiated) =
            link::negotiate(&self.order, &self.pki, session, page_size).await?;
        voice.tell(What::Connected {
            peer: link.peer.clone(),
            tls: crate::TLS.to_owned(),
        });
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

/// A receiver that was asked, and what was agreed on with it so far.
struct Asking {
    session: SessionId,
    started: Instant,
    link: Link,
    negotiated: Negotiated,
    /// The page size that was offered.
    page_size: PageSize,
}

impl Asking {
    /// It comes to nothing, and the receiver is told why.
    async fn decline(self, ending: Ending) -> Ending {
        self.link.decline(&ending.line()).await;
        ending
    }
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
    /// How the guest's memory is read.
    found: Found,
}

/// From a guest that is known and a receiver that was asked to the end. The journal is made first: a host without one must not cost the
/// destination the QEMU that waits there.
async fn go(way: &Way, asking: Asking, qemu: Qemu, mut signals: Signals) -> Ending {
    let admission = match admission(way, &asking, &qemu) {
        Ok(admission) => admission,
        Err(ending) => return asking.decline(ending).await,
    };
    let journal = match journal(way, &asking, &admission, &qemu).await {
        Ok(journal) => journal,
        Err(error) => {
            let ending = Ending::because(Kind::StillAtSource, &*error).fault(Fault::ThisHost);
            return asking.decline(ending).await;
        }
    };
    let found = access::find(way.access, qemu.monitor.as_ref(), &qemu.prologue.facts).await;
    let found = match found {
        Ok(found) => found,
        Err(ending) => {
            journal.end(true).await;
            return asking.decline(ending).await;
        }
    };
    let ready = tokio::select! {
        ready = agree(way, asking, admission, found) => ready,
        () = signals.next() => Err(cancelled()),
    };
    match ready {
        Ok(ready) => carry(way, ready, qemu, journal, signals).await,
        Err(ending) => {
            journal.end(true).await;
            ending
        }
    }
}

/// Somebody wanted it to end before it began.
fn cancelled() -> Ending {
    Ending::new(Kind::Cancelled, "cancelled before anything was sent")
}

/// The guest, as its stream and its QEMU have it.
fn admission(way: &Way, asking: &Asking, qemu: &Qemu) -> Result<Admission, Ending> {
    let facts = &qemu.prologue.facts;
    let page_size = page_size(facts)?;
    if page_size != asking.page_size {
        let message = format!(
            "the guest's pages have {} bytes, and {} were agreed on before that was known",
            page_size.bytes(),
            asking.page_size.bytes()
        );
        return Err(Ending::new(Kind::StillAtSource, message)
            .fault(Fault::Guest)
            .advice("use sealift send, which sees the guest first"));
    }
    let name = way.name.as_deref();
    guest::admission(facts, qemu.asked.as_ref(), name, page_size)
}

async fn journal(
    way: &Way,
    asking: &Asking,
    admission: &Admission,
    qemu: &Qemu,
) -> Result<Journals, Box<dyn std::error::Error + Send + Sync>> {
    let qmp_address = qemu.monitor.as_ref();
    let about = About {
        guest_name: admission.name.as_str().to_owned(),
        guest_uuid: admission.uuid,
        peer_name: way.order.peer_name.clone(),
        qmp_address: qmp_address.map(|monitor| monitor.address().to_string()),
    };
    Journals::create(&way.journals, asking.session.0, Side::Source, about).await
}

async fn agree(
    way: &Way,
    asking: Asking,
    admission: Admission,
    found: Found,
) -> Result<Ready, Ending> {
    let Asking {
        session,
        started,
        mut link,
        negotiated,
        page_size,
    } = asking;
    let managed = negotiated.destination().managed;
    let voice = way.voice.of(session);
    voice.stage(Stage::Reservation);
    let mut agreed = link.admit(&way.pki, negotiated, admission).await?;
    voice.tell(What::Admitted(Admitted {
        guest: named(&agreed),
        memory_bytes: agreed.admission.memory_needed,
        lanes: agreed.choice.lanes.lanes(),
        suite: agreed.suite,
        access: found.access,
        access_reason: found.reason.clone(),
    }));
    let choice = agreed.choice.clone();
    let lanes = link
        .open_lanes(&way.pki, session, &choice, &mut agreed.keyed)
        .await?;
    Ok(Ready {
        session,
        started,
        link,
        agreed,
        lanes,
        managed,
        page_size,
        found,
    })
}

/// The guest, as it is told.
fn named(agreed: &Agreed<sealift_seal::Source>) -> Guest {
    Guest {
        name: Some(agreed.admission.name.as_str().to_owned()),
        uuid: (agreed.admission.uuid != [0; 16]).then_some(agreed.admission.uuid),
    }
}

async fn carry(way: &Way, ready: Ready, qemu: Qemu, journal: Journals, signals: Signals) -> Ending {
    let Ready {
        session,
        started,
        link,
        agreed,
        lanes,
        managed,
        page_size,
        found,
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
    let memory = Memory::of(&agreed.admission.blocks, agreed.digest);
    let facts = Facts {
        guest,
        peer: Some(link.peer.clone()),
        lanes: agreed.choice.lanes.lanes(),
        suite: agreed.suite,
        tls: Some(crate::TLS.to_owned()),
        algorithm: agreed.digest,
        page_bytes: page_size.bytes() as u64,
        unmanaged: unmanaged(managed, monitor.is_some()),
        keep_source: way.keep,
        access: found.access,
        access_reason: found.reason,
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
    let way_back = match WayBack::new(&way.order, &way.pki, &link, &agreed) {
        Ok(way_back) => way_back,
        Err(ending) => {
            journal.end(true).await;
            return ending;
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
        reach: found.reach,
        max_downtime: way.max_downtime,
        if_not_converging: way.if_not_converging,
        bandwidth: way.bandwidth,
        shares: way.order.shares,
        compression: Compression::Adaptive,
        keeps: way_back.is_some(),
        asked: monitor.is_some(),
        watch_for_the_end: false,
        voice: way.voice.of(session),
    };
    let (outbound, pace, sources) = match pipeline.start() {
        Ok(started) => started,
        Err(ending) => {
            journal.end(true).await;
            return ending;
        }
    };
    let (handoff, begun) = SourceHandoff::new(terms);
    let (reins, looks) = Reins::take(
        monitor,
        ReturnPath::new(write, knows_gate),
        closers,
        memory,
        asked.and_then(|asked| asked.run_state),
        way.pause,
    );
    let carry = Carry {
        tie: Tie::new(link.sender, link.receiver, Role::Receiver),
        line: Line::new(way_back, way.max_blackout),
        outbound,
        reins,
        handoff,
        journal,
        pace,
        story: Story::new(way.voice.of(session), facts, started),
        signals,
    };
    carry.run(sources, looks, begun).await
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
