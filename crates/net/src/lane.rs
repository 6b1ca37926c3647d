//! A lane's connection, before threads take it over.

use std::net::{SocketAddr, TcpStream as Blocking};
use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Error;
use crate::target::CONNECT_WITHIN;

/// Bytes that may wait in the kernel without having been sent: what is there when the guest stops is in front of its last pages. At
/// 10 Gbit/s this is 100 µs of the link, longer than a writing thread needs to come back.
const NOT_SENT: u32 = 128 << 10;

/// What was written and is not confirmed by the other host's system for so long is lost, and with it the lane. That the peer lives the control channel says; this is for a
/// way that only this connection takes. A receiver reads its lanes whatever it waits for.
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// Opens a lane: connects and says hello.
///
/// # Errors
/// [`Error::Connect`].
pub async fn open(address: SocketAddr, hello: &[u8]) -> Result<Blocking, Error> {
    let failed = |source| Error::Connect {
        target: format!("{address} (a lane)"),
        source,
    };
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // Not every kernel has it; without it more waits in the socket, and nothing breaks.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT);
        SockRef::from(&stream).set_tcp_user_timeout(Some(UNCONFIRMED))?;
        stream.write_all(hello).await?;
        blocking(stream)
    };
    timeout(CONNECT_WITHIN, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)
}

/// Takes a connection off the reactor, for a thread to read or write.
///
/// # Errors
/// The system's.
pub fn blocking(stream: TcpStream) -> io::Result<Blocking> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let _ = SockRef::from(&stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)));
    Ok(stream)
}
