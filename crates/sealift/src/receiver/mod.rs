//! `sealift receive`: waits for sessions, one guest at a time for one waiting QEMU.
//!
//! ```text
//!  Door ─┬─ control channel ─▶ arrival: allowed? handshake, admission, lanes ─▶ session ─▶ Ending
//!        ├─ lane ────────────▶ the session that it names ────────────▲
//!        └─ control channel of a source that comes back ─▶ comeback ─┘
//! ```

mod admission;
mod arrival;
#[cfg(test)]
mod batches;
mod comeback;
mod export;
mod lanes;
mod line;
mod opening;
mod placer;
mod qemu_says;
mod reached;
mod reconnecting;
mod reins;
mod relay;
mod restore;
mod session;
mod story;
pub(crate) mod stream_end;
mod target;
mod unsealed;
mod warnings;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sealift::arguments::receive::{Allowed, Arguments, Origin};
use sealift::event::What;
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::{AllowList, Pki, explain};
use sealift_net::Error;
use sealift_net::door::{Caller, Door};
use sealift_net::target::Target as Host;
use sealift_qemu::channel::Channel;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

pub(crate) use export::run as export;

use crate::signals::Signals;
use crate::voice::Voice;
use crate::{ending, journals};
use comeback::{Rooms, Visitor};
use target::{Endpoint, Target};
use warnings::Warnings;

/// Callers that may wait to be looked at; more wait outside.
const CALLERS: usize = 64;
/// Eight inflate some 8 GB of guest memory in a second.
const THREADS_MAX: usize = 8;
/// Sessions that may be agreeing at once, for one target of which only one can have it.
const SESSIONS_MAX: usize = 64;
/// What all sessions of this receiver share.
pub(crate) struct Here {
    pki: Pki,
    allowed: AllowList,
    target: Arc<Target>,
    /// Held by the session that has the target.
    busy: Arc<tokio::sync::Mutex<()>>,
    journals: PathBuf,
    voice: Voice,
    rooms: Rooms,
    /// It is to end: no guest is taken any more.
    leaving: AtomicBool,
}

/// What a session came to.
enum Came {
    /// A guest was admitted, and this became of it.
    Guest(Ending),
    /// No guest was: a stranger, or one that was refused.
    Nothing(Ending),
    /// It is a session's that was here already.
    Back,
}

/// Runs the command.
pub(crate) async fn run(
    arguments: &Arguments,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Ending {
    match arguments.origin() {
        Origin::Network {
            listen,
            allowed,
            once,
        } => {
            let host = Host::new(listen.host().to_owned(), listen.port());
            let allowed = match allowed {
                Allowed::Any => AllowList::any(),
                Allowed::Names(names) => AllowList::named(names.iter().cloned()),
            };
            match prepare(arguments, allowed, channel, reporter) {
                Ok(here) => serve(Arc::new(here), &host, once)
                    .await
                    .unwrap_or_else(|ending| ending),
                Err(ending) => ending,
            }
        }
        Origin::File(file) => restore::run(arguments, file, channel, reporter).await,
    }
}

fn prepare(
    arguments: &Arguments,
    allowed: AllowList,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Result<Here, Ending> {
    let pki = Pki::for_receiver(&arguments.identity.pki).map_err(|error| ending::of_pki(&error))?;
    let journals = journals::directory(arguments.records.journal.as_deref())
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
    let endpoint = match (&arguments.qemu, channel) {
        (Some(address), _) => Endpoint::Address(address.clone()),
        (None, channel) => Endpoint::Standard(Mutex::new(channel)),
    };
    Ok(Here {
        pki,
        allowed,
        target: Arc::new(Target {
            endpoint,
            control: arguments.qmp.clone(),
            access: arguments.access.into(),
        }),
        busy: Arc::default(),
        journals,
        voice: Voice::of_command(reporter),
        rooms: Rooms::default(),
        leaving: AtomicBool::new(false),
    })
}

async fn serve(here: Arc<Here>, host: &Host, once: bool) -> Result<Ending, Ending> {
    let failed = |error: &Error| Ending::because(Kind::Host, error).fault(Fault::ThisHost);
    let addresses = host.resolve().await.map_err(|error| failed(&error))?;
    let door = Door::open(&addresses)
        .await
        .map_err(|error| failed(&error))?;
    let config = here
        .pki
        .server_config()
        .map_err(|error| ending::of_pki(&error))?;
    let mut signals = Signals::listen()
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
    here.voice.tell(What::Listening {
        address: door.address().to_string(),
    });

    let (callers, mut calling) = mpsc::channel(CALLERS);
    tokio::spawn(door.serve(config, callers));
    let mut sessions = JoinSet::new();
    let mut cancels: Vec<mpsc::Sender<()>> = Vec::new();
    let mut leaving = false;
    let mut warnings = Warnings::new(Instant::now());
    loop {
        let due = warnings.due();
        tokio::select! {
            // Also while it is to end: a guest that can no longer be refused may need its source to come back.
            Some(caller) = calling.recv() => match caller {
                // It tries again, or its operator does.
                Caller::Control { .. } if sessions.len() >= SESSIONS_MAX => {}
                Caller::Control { connection, from } => {
                    let (cancel, cancelled) = mpsc::channel(1);
                    cancels.retain(|cancel| !cancel.is_closed());
                    cancels.push(cancel);
                    sessions.spawn(arrival::arrive(Arc::clone(&here), connection, from, cancelled));
                }
                Caller::Lane { stream, hello } => here.rooms.visit((stream, hello)),
                Caller::Refused { from, error } => {
                    let warning = refusal(&here.pki, &error, &from.to_string());
                    if let Some(warning) = warnings.refused(Instant::now(), warning) {
                        here.voice.warn(warning);
                    }
                }
            },
            Some(came) = sessions.join_next() => {
                let came = came.unwrap_or_else(|error| {
                    Came::Guest(Ending::because(Kind::InDoubt, &error).fault(Fault::ThisHost))
                });
                match came {
                    Came::Guest(ending) if once || leaving => return Ok(ending),
                    Came::Guest(ending) => here.voice.tell(What::Outcome(ending)),
                    Came::Nothing(ending) => here.voice.warn(ending.line()),
                    Came::Back => {}
                }
                if leaving && sessions.is_empty() {
                    return Ok(stopped());
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                if let Some(warning) = warnings.left_out(Instant::now()) {
                    here.voice.warn(warning);
                }
            }
            () = signals.next() => {
                if sessions.is_empty() {
                    return Ok(stopped());
                }
                // A session that can still be ended ends; the others say why they cannot.
                leaving = true;
                here.leaving.store(true, Ordering::Relaxed);
                for cancel in &cancels {
                    let _ = cancel.try_send(());
                }
            }
        }
    }
}

/// Threads that decode, and as many that place: one for each processor, and no more than any link or disk keeps busy.
fn threads() -> usize {
    crate::processors().min(THREADS_MAX)
}

fn stopped() -> Ending {
    Ending::stopped()
}

fn refusal(pki: &Pki, error: &Error, from: &str) -> String {
    match error {
        Error::Tls(tls) => explain(tls, pki, from).to_string(),
        error => format!("{from}: {}", ending::whole(error)),
    }
}
