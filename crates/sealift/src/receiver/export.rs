//! `sealift export --raw`: a saved guest's stream, as QEMU wrote it and as any QEMU takes it, sealed by nothing.
//!
//! ```text
//!  file ─▶ end, header ─▶ batches ─▶ relay ─▶ a socket pair ─▶ standard output, or a file for its owner alone
//! ```
//!
//! The relay is the one that feeds a QEMU; here the other end of its channel is this program.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use sealift::arguments::export::Arguments;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_identity::Pki;
use sealift_net::inbound;
use sealift_qemu::channel::Channel;
use tokio::task::JoinHandle;

use super::relay;
use super::unsealed::{STALE, Unsealed, failed, host, spoilt};
use crate::ending;
use crate::saved::{Opened, Unfinished, not_written};
use crate::signals::Signals;

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments) -> Ending {
    match export(arguments).await {
        Ok(ending) | Err(ending) => ending,
    }
}

/// The relay does not wait for a further channel's turn: in one file there is none.
const ONE_STREAM: &str = "the guest was saved with multifd, in several streams at once, and one file holds one stream: restore it with \
                          sealift receive --file, or save it again without multifd";

async fn export(arguments: &Arguments) -> Result<Ending, Ending> {
    let mut signals = Signals::listen().map_err(|error| host(&error))?;
    if arguments.output.is_none() && io::stdout().is_terminal() {
        return Err(Ending::new(
            Kind::Usage,
            "standard output is a terminal, and a guest's memory is nothing to look at",
        )
        .fault(Fault::User)
        .advice("give --output FILE, or a pipe")
        .in_file());
    }
    let pki = Pki::for_receiver(&arguments.identity.pki)
        .map_err(|error| ending::of_pki(&error).in_file())?;
    let opened = Opened::open(&arguments.file, &pki)?;
    drop(pki);
    let output = match &arguments.output {
        Some(path) => {
            let file = Unfinished::create(path);
            Some((
                file.map_err(|error| not_written(path, &error).in_file())?,
                path.as_path(),
            ))
        }
        None => None,
    };
    warn(&opened, output.as_ref().map(|(_, path)| *path));
    let name = opened.header.guest.name.as_str().to_owned();
    let to = match &output {
        Some((file, _)) => file.file().try_clone(),
        None => standard_output(),
    };
    let mut going = Going::start(opened, to.map_err(|error| host(&error))?)?;
    let copied = tokio::select! {
        copied = going.run() => copied,
        () = signals.next() => Err(Ending::new(Kind::Cancelled, "cancelled; the file is as it was").in_file()),
    };
    going.unsealed.inbound.close();
    let whole = copied?;
    // All is with the relay, whose writer ends now; then its reader does.
    let path = output.as_ref().map(|(_, path)| *path);
    let unwritten = |error: &io::Error| match path {
        Some(path) => not_written(path, error).in_file(),
        None => host(error),
    };
    let copied = going.copying.await.map_err(|error| host(&error))?;
    copied.map_err(|error| unwritten(&error))?;
    if !whole {
        return Err(failed("a thread ended too early"));
    }
    if let Some((file, _)) = output {
        file.keep().map_err(|error| unwritten(&error))?;
    }
    Ok(Ending::new(Kind::Moved, format!("{name} is exported, in plaintext")).in_file())
}

/// Said each time: whoever reads the log later must find it.
fn warn(opened: &Opened, path: Option<&Path>) {
    use std::io::Write as _;
    let guest = sealift::figures::Shown(opened.header.guest.name.as_str());
    let where_to = path.map_or_else(
        || "standard output".to_owned(),
        |path| path.display().to_string(),
    );
    // Nobody is left to tell when even that cannot be written.
    let _ = writeln!(
        io::stderr(),
        "warning: {where_to} gets the memory of {guest} in plaintext, with every key and password in it; whoever can read it has them"
    );
}

fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// A guest on its way out of a file, to nowhere that would run it.
struct Going {
    unsealed: Unsealed,
    copying: JoinHandle<io::Result<()>>,
}

impl Going {
    fn start(opened: Opened, to: File) -> Result<Self, Ending> {
        let (theirs, channel) = Channel::pair().map_err(|error| host(&error))?;
        let none = Box::new(|| Err(ONE_STREAM.to_owned()));
        Ok(Self {
            unsealed: Unsealed::start(opened, channel.split().1, false, none)?,
            copying: tokio::task::spawn_blocking(move || copy(UnixStream::from(theirs), to)),
        })
    }

    /// Until every batch is with the relay's writer, or that cannot write; then what it wrote into knows why.
    async fn run(&mut self) -> Result<bool, Ending> {
        let Unsealed {
            end,
            inbound,
            placed,
            clearance,
            from_inbound,
            from_relay,
            ..
        } = &mut self.unsealed;
        let mut read = false;
        while !(read && placed.floor() == end.batches) {
            tokio::select! {
                Some(event) = from_inbound.recv() => match event {
                    inbound::Event::Placed => while placed.take_ranges().is_some() {},
                    inbound::Event::LaneLost { error: None, .. } => read = true,
                    inbound::Event::LaneLost { error: Some(error), .. } => {
                        return Err(failed(&format!("the file cannot be read: {error}")));
                    }
                    inbound::Event::Broken(broken) => return Err(failed(&spoilt(&broken))),
                },
                Some(event) = from_relay.recv() => match event {
                    relay::Event::AtBarrier { .. } if inbound.versions()() != end.versions => {
                        return Err(failed(STALE));
                    }
                    relay::Event::AtBarrier { .. } => clearance.give(),
                    relay::Event::HoldsEnd => {}
                    relay::Event::Broken { channel: 0, .. } => return Ok(false),
                    // There is nothing that another channel could be connected to.
                    relay::Event::Broken { .. } => return Err(failed(ONE_STREAM)),
                },
                else => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn copy(mut from: UnixStream, mut to: File) -> io::Result<()> {
    io::copy(&mut from, &mut to).map(drop)
}
