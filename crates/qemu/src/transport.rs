//! The socket under a control connection, with a deadline on everything it does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Address, descriptors};

#[derive(Debug)]
pub(crate) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Transport {
    pub(crate) fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        match address {
            Address::Unix(path) => connect_unix(path, timeout).map(Self::Unix),
            Address::Tcp { host, port } => connect_tcp(host, *port, timeout).map(Self::Tcp),
        }
    }

    /// The QEMU that made the socket; not known over TCP, and where somebody else passes on what is said.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Unix(stream) => crate::process::qemu(stream),
            Self::Tcp(_) => None,
        }
    }

    pub(crate) fn carries_descriptors(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Reads once; `None` when nothing came before the deadline, 0 bytes when the peer closed.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> io::Result<Option<usize>> {
        loop {
            let Some(left) = time_left(deadline) else {
                return Ok(None);
            };
            let result = match self {
                Self::Unix(stream) => stream
                    .set_read_timeout(Some(left))
                    .and_then(|()| stream.read(buffer)),
                Self::Tcp(stream) => stream
                    .set_read_timeout(Some(left))
                    .and_then(|()| stream.read(buffer)),
            };
            match result {
                Err(error) if is_pause(&error) => {}
                other => return other.map(Some),
            }
        }
    }

    /// Writes everything; a peer that does not take it before the deadline is an error.
    /// A descriptor goes with the first byte.
    pub(crate) fn write_all(
        &mut self,
        mut bytes: &[u8],
        mut fd: Option<BorrowedFd<'_>>,
        deadline: Instant,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = time_left(deadline).ok_or(io::ErrorKind::TimedOut)?;
            let result = match self {
                Self::Unix(stream) => {
                    stream
                        .set_write_timeout(Some(left))
                        .and_then(|()| match fd {
                            Some(fd) => descriptors::send(&*stream, bytes, &[fd]),
                            None => stream.write(bytes),
                        })
                }
                Self::Tcp(stream) => stream
                    .set_write_timeout(Some(left))
                    .and_then(|()| stream.write(bytes)),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    fd = None;
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // Frees QEMU's single place for a client even if somebody inherited a copy of the descriptor.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A unix socket with a full backlog makes `connect` wait without end, and std cannot limit that: so it
/// happens on a thread, which is left behind if it hangs.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_owned();
    thread::Builder::new()
        .name("qmp-connect".to_owned())
        .spawn(move || {
            let _ = sender.send(UnixStream::connect(path));
        })?;
    receiver
        .recv_timeout(timeout)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host's name gave no address");
    for address in (host, port).to_socket_addrs()? {
        let Some(left) = time_left(deadline) else {
            break;
        };
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `None` once the deadline is reached: a timeout of zero would mean "without limit" to the system.
fn time_left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// A timeout that ended or a signal: look at the deadline and try again.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
