//! Waiting for QEMU to connect.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::{Channel, ChannelError, timespec};
use crate::Address;

/// Multifd has at most 255 channels beside the main one, and QEMU opens them without a pause.
const QUEUE: i32 = 256;

/// A socket that QEMU connects to, by `migrate unix:PATH` or `migrate tcp:HOST:PORT`.
#[derive(Debug)]
pub struct Listener {
    // Dropped first: while the socket is open no other file can get its inode.
    _file: Option<SocketFile>,
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens. A unix socket is for its owner alone (mode 0600); one that an ended process left behind is replaced,
    /// one that somebody listens on is not. With TCP the port 0 takes a free one.
    pub fn bind(address: &Address) -> Result<Self, ChannelError> {
        match address {
            Address::Unix(path) => {
                let (socket, file) = bind_unix(address, path)?;
                Ok(Self {
                    socket: Socket::Unix(socket),
                    address: address.clone(),
                    _file: Some(file),
                })
            }
            Address::Tcp { host, port } => {
                let (socket, port) =
                    bind_tcp(host, *port).map_err(|source| cannot_listen(address, source))?;
                Ok(Self {
                    socket: Socket::Tcp(socket),
                    address: Address::Tcp {
                        host: host.clone(),
                        port,
                    },
                    _file: None,
                })
            }
        }
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection, in the order in which QEMU made them; `None` when none came in time.
    pub fn accept(&self, timeout: Option<Duration>) -> Result<Option<Channel>, ChannelError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match self.try_accept() {
                Ok(socket) => return Channel::over_socket(socket).map(Some),
                // Aborted: the connection was gone before it was taken.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left =
                        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    let mut polled = [PollFd::new(self, PollFlags::IN)];
                    match poll(&mut polled, left.and_then(timespec).as_ref()) {
                        Ok(0) => return Ok(None),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(cannot_listen(&self.address, error.into())),
                    }
                }
                Err(error) => return Err(cannot_listen(&self.address, error)),
            }
        }
    }

    fn try_accept(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Socket::Unix(listener) => Ok(listener.accept()?.0.into()),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // The return path's messages are small, and QEMU waits for them.
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(listener) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        }
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((host, port))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn bind_unix(address: &Address, path: &Path) -> Result<(UnixListener, SocketFile), ChannelError> {
    let fails = |source: io::Error| cannot_listen(address, source);
    let socket = unix_socket(SocketType::STREAM).map_err(fails)?;
    // On Linux a socket's file gets the mode that the socket had: there is no moment with a wider one.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|error| fails(error.into()))?;
    let at = SocketAddrUnix::new(path).map_err(|error| fails(error.into()))?;
    match bind(&socket, &at) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(address, path, &at)?;
            bind(&socket, &at)
        }
        other => other,
    }
    .map_err(|error| fails(error.into()))?;
    let file = SocketFile::made(path).map_err(fails)?;
    listen(&socket, QUEUE).map_err(|error| fails(error.into()))?;
    Ok((socket.into(), file))
}

/// Removes a socket file that nobody listens on any more.
fn remove_stale(address: &Address, path: &Path, at: &SocketAddrUnix) -> Result<(), ChannelError> {
    let fails = |source: io::Error| cannot_listen(address, source);
    if !std::fs::symlink_metadata(path)
        .map_err(fails)?
        .file_type()
        .is_socket()
    {
        return Err(ChannelError::NotASocket {
            path: path.to_owned(),
        });
    }
    // The wrong type of socket, on purpose: a live listener refuses it by its type and never notices, where a right
    // one would use up the single connection that a waiting QEMU accepts.
    let probe = unix_socket(SocketType::DGRAM).map_err(fails)?;
    match connect(&probe, at) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(fails),
        Ok(()) | Err(Errno::PROTOTYPE) => Err(ChannelError::Taken {
            address: address.clone(),
        }),
        Err(error) => Err(fails(error.into())),
    }
}

fn unix_socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

fn cannot_listen(address: &Address, source: io::Error) -> ChannelError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ChannelError::Taken {
            address: address.clone(),
        },
        _ => ChannelError::Listen {
            address: address.clone(),
            source,
        },
    }
}

/// The file of a unix socket, removed when dropped, if it is still the one that was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn made(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
