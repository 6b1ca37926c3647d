//! Where a peer is: `HOST:PORT`, and what its certificate must say.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::{fmt, io};

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::Error;

/// How long a connection may take to be made: a host that is up answers within a round trip; this leaves room for three lost SYNs.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A host and a port as the user wrote them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// A host, by name or address, and a port.
    #[must_use]
    pub const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }

    /// The host without its port: what its certificate must name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All addresses, in the system's order of preference.
    ///
    /// # Errors
    /// [`Error::Resolve`].
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map(Iterator::collect::<Vec<_>>);
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(Error::Resolve {
                host: self.host.clone(),
                source: io::Error::new(io::ErrorKind::NotFound, "no addresses"),
            }),
            Err(source) => Err(Error::Resolve {
                host: self.host.clone(),
                source,
            }),
        }
    }

    /// Connects to the first address that answers; that one is where the lanes go too.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Connect`] with what the last address said.
    pub async fn connect(&self) -> Result<TcpStream, Error> {
        let deadline = Instant::now() + CONNECT_WITHIN;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no addresses");
        for address in self.resolve().await? {
            match timeout_at(deadline, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Error::Connect {
            target: self.to_string(),
            source: last,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
