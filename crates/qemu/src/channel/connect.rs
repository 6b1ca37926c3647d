//! Connecting to a QEMU that waits for a migration, or soon will.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Channel, ChannelError};
use crate::Address;

/// Between two attempts; nobody notices so little, and a QEMU that starts takes some ten times as long.
const PAUSE: Duration = Duration::from_millis(10);

impl Channel {
    /// Connects to where QEMU listens. A QEMU that is still starting is waited for until the timeout.
    pub fn connect(address: &Address, timeout: Duration) -> Result<Self, ChannelError> {
        let started = Instant::now();
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            let result = match address {
                Address::Unix(path) => connect_unix(path),
                Address::Tcp { host, port } => connect_tcp(host, *port, left),
            };
            match result {
                Ok(socket) => return Self::over_socket(socket),
                Err(error) if !left.is_zero() && may_come(&error) => {
                    thread::sleep(PAUSE.min(left));
                }
                Err(source) => {
                    return Err(ChannelError::Connect {
                        address: address.clone(),
                        tried: started.elapsed(),
                        source,
                    });
                }
            }
        }
    }
}

/// Whether QEMU may just not be there yet. `WouldBlock` is a unix socket whose queue is full.
fn may_come(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
    )
}

/// Not std's: that one waits without end while the queue is full.
fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn connect_tcp(host: &str, port: u16, left: Duration) -> io::Result<OwnedFd> {
    // std refuses a timeout of zero.
    const LEAST: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + left;
    // Not an error that is tried again: a name that is not known will not be known in a moment.
    let mut last = io::Error::other("the host's name gave no address");
    for address in (host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(LEAST)) {
            Ok(stream) => {
                // The return path's messages are small, and QEMU waits for them.
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
