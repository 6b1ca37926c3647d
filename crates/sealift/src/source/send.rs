//! `sealift send`: waits for QEMU's `migrate`, and carries it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealift::arguments::send::{Arguments, Destination};
use sealift::event::{Event, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_qemu::channel::{Channel, Listener};
use tokio::sync::mpsc;

use super::guest::Asked;
use super::{
    Asking, Qemu, Way, cancelled, go, needs_return_path, new_session, page_size, read_prologue,
    save,
};
use crate::ending;
use crate::monitor::Monitor;
use crate::signals::Signals;

/// How often a thread that waits for QEMU looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(250);
/// Channels that QEMU may have opened and nobody has taken: more than multifd's 255 are not to be had.
pub(super) const CHANNELS: usize = 256;

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
    let mut channels = match channels(arguments, channel) {
        Ok(channels) => channels,
        Err(ending) => return ending,
    };
    if let Some(address) = &arguments.listen {
        way.reporter.tell(Event {
            at: SystemTime::now(),
            session: None,
            what: What::Listening {
                address: address.to_string(),
            },
        });
    }
    loop {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return Ending::because(Kind::Host, &error).fault(Fault::ThisHost),
        };
        let main = tokio::select! {
            main = channels.recv() => main,
            () = signals.next() => return Ending::stopped(),
        };
        let Some(main) = main else {
            return Ending::new(Kind::Host, "nothing waits for QEMU any more")
                .fault(Fault::ThisHost);
        };
        // What QEMU opens from here on belongs to this guest.
        let (further, theirs) = mpsc::channel(CHANNELS);
        let session = session(&way, arguments, main, theirs, signals);
        tokio::pin!(session);
        let ending = loop {
            tokio::select! {
                ending = &mut session => break ending,
                Some(channel) = channels.recv() => {
                    // Beyond what multifd can have: closed.
                    let _ = further.try_send(channel);
                }
            }
        };
        if arguments.once() {
            return ending;
        }
        way.reporter.tell(Event {
            at: SystemTime::now(),
            session: None,
            what: What::Outcome(ending),
        });
    }
}

/// QEMU's channels, in the order in which it opens them.
pub(super) fn channels(
    arguments: &Arguments,
    channel: Option<Channel>,
) -> Result<mpsc::Receiver<Channel>, Ending> {
    let host = |error: &(dyn std::error::Error + 'static)| {
        Ending::because(Kind::Host, error).fault(Fault::ThisHost)
    };
    let (found, channels) = mpsc::channel(CHANNELS);
    match &arguments.listen {
        Some(address) => {
            let listener = Listener::bind(address).map_err(|error| host(&error))?;
            thread::Builder::new()
                .name("accept".to_owned())
                .spawn(move || {
                    while !found.is_closed() {
                        // An error is one connection's.
                        if let Ok(Some(channel)) = listener.accept(Some(LOOK))
                            && found.blocking_send(channel).is_err()
                        {
                            return;
                        }
                    }
                })
                .map_err(|error| host(&error))?;
        }
        None => {
            if let Some(channel) = channel {
                let _ = found.try_send(channel);
            }
        }
    }
    Ok(channels)
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
        needs_return_path(&prologue)?;
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
    let ending = match prepared {
        Ok((prologue, monitor, asked, asking)) => {
            let qemu = Qemu {
                prologue,
                write,
                closers: Arc::new(Mutex::new(vec![closer.clone()])),
                further,
                monitor,
                asked,
                channels: None,
            };
            go(way, asking, qemu, signals).await
        }
        Err(ending) => ending,
    };
    // QEMU then gives up, if it has not completed, and the guest runs on.
    closer.close();
    ending
}
