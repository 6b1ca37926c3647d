//! `sealift send`: waits for QEMU's `migrate`, and carries it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealift::arguments::send::{Arguments, Destination};
use sealift::event::What;
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_qemu::Address;
use sealift_qemu::channel::Channel;
use sealift_qemu::machine::MigrationStatus;
use tokio::sync::mpsc;

use super::channels::Channels;
use super::guest::Asked;
use super::prologue::{needs_return_path, read_prologue};
use super::{Asking, Qemu, Way, cancelled, go, new_session, page_size, save, throttle};
use crate::ending;
use crate::monitor::Monitor;
use crate::signals::Signals;

/// Runs the command. `channel` is QEMU's, when it started this program.
pub(crate) async fn run(
    arguments: &Arguments,
    channel: Option<Channel>,
    reporter: Arc<Reporter>,
) -> Ending {
    match arguments.destination() {
        Ok(Destination::Receiver { to, peer_name }) => {
            let way = Way::new(
                &arguments.identity.pki,
                to,
                peer_name,
                &arguments.transfer,
                arguments.records.journal.as_deref(),
                reporter,
            );
            match way {
                Ok(way) => {
                    let way = Way {
                        name: arguments.guest.clone(),
                        ..way
                    };
                    serve(arguments, way, channel).await
                }
                Err(ending) => ending,
            }
        }
        Ok(Destination::File { file, recipient }) => {
            save::run(arguments, file, recipient, channel, reporter).await
        }
        Err(ending) => ending,
    }
}

async fn serve(arguments: &Arguments, way: Way, channel: Option<Channel>) -> Ending {
    if let Some(Err(ending)) = arguments.qmp.as_ref().map(|qmp| way.suits(qmp)) {
        return ending;
    }
    let mut channels = match Channels::open(arguments, channel, &way.voice) {
        Ok(channels) => channels,
        Err(ending) => return ending,
    };
    loop {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return Ending::because(Kind::Host, &error).fault(Fault::ThisHost),
        };
        let main = match channels.main(&mut signals).await {
            Ok(main) => main,
            Err(ending) => return ending,
        };
        let ending = channels
            .meanwhile(|further| session(&way, arguments, main, further, signals))
            .await;
        if arguments.once() {
            return ending;
        }
        way.voice.tell(What::Outcome(ending));
    }
}

async fn session(
    way: &Way,
    arguments: &Arguments,
    main: Channel,
    further: mpsc::Receiver<Channel>,
    mut signals: Signals,
) -> Ending {
    let started = Instant::now();
    let closer = main.closer();
    let (read, write) = main.split();
    let prepared = async {
        let prologue = read_prologue(read).await?;
        if let Err(ending) = needs_return_path(&prologue) {
            closer.close();
            return Err(stands(arguments.qmp.as_ref(), ending).await);
        }
        let monitor = match &arguments.qmp {
            Some(address) => Some(
                Monitor::open(address.clone())
                    .await
                    .map_err(|error| ending::of_qemu(&error))?,
            ),
            None => None,
        };
        let asked = match &monitor {
            Some(monitor) => Some(
                monitor
                    .ask(Asked::ask)
                    .await
                    .map_err(|error| ending::of_qemu(&error))?,
            ),
            None => None,
        };
        let session = new_session()?;
        let page_size = page_size(&prologue.facts)?;
        let (link, negotiated) = way.negotiate(session, page_size).await?;
        let asking = Asking {
            session,
            started,
            link,
            negotiated,
            page_size,
        };
        Ok::<_, Ending>((prologue, monitor, asked, asking))
    };
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        () = signals.next() => Err(cancelled()),
    };
    let mut before = None;
    let ending = match prepared {
        Ok((prologue, monitor, asked, asking)) => {
            match throttle::ready(way.if_not_converging, monitor.as_ref(), &way.voice).await {
                Ok(readied) => {
                    before = monitor.clone().zip(readied);
                    let qemu = Qemu {
                        prologue,
                        write,
                        closers: Arc::new(Mutex::new(vec![closer.clone()])),
                        further,
                        monitor,
                        asked,
                    };
                    go(way, asking, qemu, signals).await
                }
                Err(ending) => asking.decline(ending).await,
            }
        }
        Err(ending) => ending,
    };
    // QEMU then gives up, if it has not completed, and the guest runs on.
    closer.close();
    if let Some((monitor, before)) = before
        && !monitor.ends_within(Duration::ZERO).await
    {
        before.put_back(&monitor, &way.voice).await;
    }
    ending
}

/// Where the guest of a QEMU is that waited for nobody: a small one may have gone into the channel whole before that was closed, and then it
/// stands still.
async fn stands(qmp: Option<&Address>, ending: Ending) -> Ending {
    let Some(address) = qmp else {
        return ending.guest_unasked();
    };
    let Ok(monitor) = Monitor::open(address.clone()).await else {
        return ending.guest_unasked();
    };
    match monitor.migration_ends(GIVES_UP_WITHIN).await {
        Some(MigrationStatus::Completed) => ending.guest_stopped(),
        Some(_) => ending,
        None => ending.guest_unasked(),
    }
}

/// How long QEMU may take to give a migration up.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(10);
