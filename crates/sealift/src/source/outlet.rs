//! The channel over which the source's QEMU is told to migrate.
//!
//! ```text
//!  migrate fd:sealift       a descriptor that is passed over QMP: works wherever QMP is a unix socket
//!  migrate tcp:HOST:PORT    where QMP is TCP's, which carries no descriptors
//! ```

use std::os::fd::AsFd as _;
use std::time::Duration;

use sealift::outcome::{Ending, Fault, Kind};
use sealift_qemu::Address;
use sealift_qemu::channel::{Channel, Listener};

use crate::ending;
use crate::monitor::Monitor;

/// How QEMU calls the channel that it is given.
const NAME: &str = "sealift";
/// How long QEMU may take to connect.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Tells QEMU to migrate, and has the channel.
pub(super) async fn open(monitor: &Monitor) -> Result<Channel, Ending> {
    match monitor.address() {
        Address::Unix(_) => passed(monitor).await,
        Address::Tcp { host, .. } => over_tcp(monitor, host.clone()).await,
    }
}

async fn passed(monitor: &Monitor) -> Result<Channel, Ending> {
    let (theirs, main) = Channel::pair().map_err(|error| host(&error))?;
    monitor
        .ask(move |machine| {
            machine.qmp().pass_fd(NAME, theirs.as_fd())?;
            machine.migrate(&format!("fd:{NAME}"))
        })
        .await
        .map_err(|error| ending::of_qemu(&error))?;
    Ok(main)
}

/// On the address at which QEMU's control socket is: it is this host's, or nothing can be done.
async fn over_tcp(monitor: &Monitor, at: String) -> Result<Channel, Ending> {
    let listener = Listener::bind(&Address::Tcp { host: at, port: 0 });
    let listener = listener.map_err(|error| host(&error))?;
    let uri = listener.address().to_string();
    monitor
        .ask(move |machine| machine.migrate(&uri))
        .await
        .map_err(|error| ending::of_qemu(&error))?;
    let accepting = tokio::task::spawn_blocking(move || listener.accept(Some(CONNECTS_WITHIN)));
    let accepted = accepting.await.map_err(|error| host(&error))?;
    accepted.map_err(|error| host(&error))?.ok_or_else(late)
}

fn host(error: &(dyn std::error::Error + 'static)) -> Ending {
    Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
}

fn late() -> Ending {
    let within = CONNECTS_WITHIN.as_secs();
    let message = format!("QEMU did not open a channel within {within} s");
    Ending::new(Kind::StillAtSource, message).fault(Fault::Guest)
}
