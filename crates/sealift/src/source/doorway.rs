//! The channels over which the source's QEMU is told to migrate.
//!
//! ```text
//!  several   migrate unix:/run/sealift-…/qemu   a main channel, and some for memory: QEMU copies less, and its destination loads on
//!                                               several threads; QEMU must be able to reach the socket
//!  one       migrate fd:sealift                 a descriptor that is passed over QMP: works wherever QMP is a unix socket
//!            migrate tcp:HOST:PORT              where QMP is TCP's, which carries no descriptors
//! ```
//!
//! The socket is in a directory that nobody but QEMU's user can enter, and takes connections from that one process only. It goes as soon as
//! all channels are there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sealift::outcome::{Ending, Fault, Kind};
use sealift_qemu::Address;
use sealift_qemu::channel::{Channel, Listener};
use sealift_qemu::machine::MigrationStatus;
use tokio::sync::mpsc;

use crate::monitor::Monitor;
use crate::{ending, random};

/// Channels for memory. Each has a reader here and a loading thread in the destination's QEMU, and two of these keep up with what the
/// workers compress on the machines that were measured.
pub(super) const CHANNELS: u8 = 2;

/// How QEMU calls the one channel that it is given.
const NAME: &str = "sealift";
/// How long QEMU may take to connect.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has, or has given up.
const LOOK: Duration = Duration::from_millis(20);

/// QEMU has begun to migrate over these.
pub(super) struct Opened {
    pub(super) main: Channel,
    /// Those for memory, as they come.
    pub(super) further: mpsc::Receiver<Channel>,
    /// How many of them.
    pub(super) channels: u8,
    /// Kept until all have come.
    pub(super) doorway: Option<Doorway>,
}

/// Tells QEMU to migrate: over so many channels for memory if it can, over one channel otherwise.
pub(super) async fn open(monitor: &Monitor, channels: u8) -> Result<Opened, Ending> {
    if channels > 0
        && let Some(pid) = monitor.pid()
        && let Some(opened) = several(monitor, pid, channels).await?
    {
        return Ok(opened);
    }
    let main = match monitor.address() {
        Address::Unix(_) => passed(monitor).await?,
        Address::Tcp { host, .. } => over_tcp(monitor, host.clone()).await?,
    };
    // Nothing else is opened.
    let (_, further) = mpsc::channel(1);
    Ok(Opened {
        main,
        further,
        channels: 0,
        doorway: None,
    })
}

/// `None` when QEMU does not get through to the socket: it may have another view of the file system, or not be allowed to.
async fn several(monitor: &Monitor, pid: u32, channels: u8) -> Result<Option<Opened>, Ending> {
    let Ok((doorway, mut found)) = Doorway::open(pid, usize::from(channels) + 1) else {
        return Ok(None);
    };
    let uri = doorway.address.to_string();
    monitor
        .ask(move |machine| {
            machine.set_multifd(channels)?;
            machine.migrate(&uri)
        })
        .await
        .map_err(|error| ending::of_qemu(&error))?;
    let deadline = Instant::now() + CONNECTS_WITHIN;
    loop {
        if let Ok(main) = tokio::time::timeout(LOOK, found.recv()).await {
            return Ok(main.map(|main| Opened {
                main,
                further: found,
                channels,
                doorway: Some(doorway),
            }));
        }
        let migration = monitor
            .ask(sealift_qemu::machine::Machine::migration)
            .await
            .map_err(|error| ending::of_qemu(&error))?;
        if migration.status == MigrationStatus::Failed {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
    }
}

async fn passed(monitor: &Monitor) -> Result<Channel, Ending> {
    let (theirs, main) = Channel::pair().map_err(|error| host(&error))?;
    monitor
        .ask(move |machine| {
            machine.set_multifd(0)?;
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
        .ask(move |machine| {
            machine.set_multifd(0)?;
            machine.migrate(&uri)
        })
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

/// A socket that takes one process's connections. Dropping it removes it.
pub(super) struct Doorway {
    address: Address,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Doorway {
    /// For so many connections of this process, which come out in their order.
    fn open(pid: u32, connections: usize) -> io::Result<(Self, mpsc::Receiver<Channel>)> {
        let directory = Directory::made(pid)?;
        let path = directory.0.join("qemu");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address).map_err(io::Error::other)?;
        give(&path, pid)?;
        let (found, channels) = mpsc::channel(connections);
        let closed = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closed);
        let serve = move || {
            let mut left = connections;
            while left > 0 && !over.load(Ordering::Relaxed) && !found.is_closed() {
                // An error is one connection's, and another process's connection is closed.
                if let Ok(Some(channel)) = listener.accept(Some(LOOK))
                    && channel.pid() == Some(pid)
                {
                    left -= 1;
                    // There is room for all of them.
                    let _ = found.try_send(channel);
                }
            }
            // The socket first: the directory has to be empty.
            drop(listener);
            drop(directory);
        };
        let thread = thread::Builder::new()
            .name("doorway".to_owned())
            .spawn(serve)?;
        let doorway = Self {
            address,
            closed,
            thread: Some(thread),
        };
        Ok((doorway, channels))
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A directory for one process's user, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn made(pid: u32) -> io::Result<Self> {
        let number: [u8; 8] = random::array().map_err(io::Error::other)?;
        let name = format!("sealift-{:016x}", u64::from_ne_bytes(number));
        let path = base()?.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self(path);
        give(&directory.0, pid)?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where sockets live: the system's place for root's, the user's own for others'.
fn base() -> io::Result<PathBuf> {
    const ROOT: u32 = 0;
    if user("self")? == ROOT {
        return Ok(PathBuf::from("/run"));
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|set| Path::new(set).is_absolute());
    Ok(own.map_or_else(std::env::temp_dir, PathBuf::from))
}

/// Makes a file the property of the user that a process runs as. Only root can give, and only where it is needed.
fn give(path: &Path, pid: u32) -> io::Result<()> {
    let theirs = user(&pid.to_string())?;
    if theirs == user("self")? {
        return Ok(());
    }
    chown(path, Some(theirs), None)
}

fn user(process: &str) -> io::Result<u32> {
    Ok(fs::metadata(Path::new("/proc").join(process))?.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn path(doorway: &Doorway) -> PathBuf {
        match &doorway.address {
            Address::Unix(path) => path.clone(),
            Address::Tcp { .. } => unreachable!(),
        }
    }

    #[test]
    fn it_takes_one_process_and_goes_when_all_have_come() {
        let (doorway, mut found) = Doorway::open(std::process::id(), 2).unwrap();
        let path = path(&doorway);
        let _first = UnixStream::connect(&path).unwrap();
        let _second = UnixStream::connect(&path).unwrap();
        assert!(found.blocking_recv().is_some());
        assert!(found.blocking_recv().is_some());
        assert!(found.blocking_recv().is_none());
        drop(doorway);
        assert!(!path.exists());
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn another_process_finds_it_closed() {
        const INIT: u32 = 1;
        let Ok((doorway, mut found)) = Doorway::open(INIT, 1) else {
            // Only root can give the directory to another user.
            return;
        };
        let mut stranger = UnixStream::connect(path(&doorway)).unwrap();
        let end = io::Read::read(&mut stranger, &mut [0]);
        assert!(matches!(end, Ok(0)) || end.is_err());
        drop(doorway);
        assert!(found.blocking_recv().is_none());
    }
}
