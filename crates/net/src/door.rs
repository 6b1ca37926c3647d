//! The receiver's port: control channels and lanes come to the same one.
//!
//! ```text
//!  accept ─▶ room for a stranger? ─▶ first byte ─┬─ 0x16 ─▶ TLS handshake ─▶ Caller::Control
//!              64 in all, 16 per address         └─ other ▶ 92 bytes ──────▶ Caller::Lane
//! ```
//!
//! Until a caller has proven itself, or was handed over, it costs a task, its socket, and what TLS needs for one handshake. It has ten
//! seconds for all that it has to say.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use sealift_session::lane::LaneHello;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::control::{HANDSHAKE_WITHIN, Secured};
use crate::lock::lock;

/// Callers that may be unproven at once. A handshake takes about a millisecond of a core: as many as this keep a host busy for less
/// than a tenth of a second.
const STRANGERS_MAX: usize = 64;
/// Those of them that may come from one address, so that one host cannot keep all others out. A session opens its lanes one after the
/// other.
const STRANGERS_PER_ADDRESS: usize = 16;

/// The content type of a TLS handshake record: what a TLS client's first byte is.
const TLS_HANDSHAKE: u8 = 0x16;

/// Somebody at the door.
#[derive(Debug)]
pub enum Caller {
    /// A peer that has proven who it is; nothing else is known of it.
    Control {
        /// Its connection.
        connection: Box<Secured>,
        /// Where it comes from.
        from: SocketAddr,
    },
    /// A connection that wants to be a lane. Its hello is not proven yet.
    Lane {
        /// The connection.
        stream: TcpStream,
        /// What it said.
        hello: [u8; LaneHello::LENGTH],
    },
    /// Somebody who was not let in, and why: for the log.
    Refused {
        /// Where from.
        from: SocketAddr,
        /// Why.
        error: Error,
    },
}

/// A port that is listened on.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

impl Door {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn open(address: &[SocketAddr]) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: address
                .first()
                .map_or_else(|| "nowhere".to_owned(), SocketAddr::to_string),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, the port being the real one.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes callers in until `callers` is closed. Whoever keeps its receiving end must take them quickly.
    pub async fn serve(self, config: Arc<ServerConfig>, callers: mpsc::Sender<Caller>) {
        let strangers = Arc::new(Strangers::default());
        loop {
            let (stream, from) = tokio::select! {
                () = callers.closed() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    // Descriptors have run out, or a connection was gone already. Either way the next try has to wait a little.
                    Err(_) => {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            // Without room the connection is closed; an honest peer tries again.
            let Some(stranger) = strangers.admit(from.ip()) else {
                continue;
            };
            let (config, callers) = (Arc::clone(&config), callers.clone());
            tokio::spawn(async move {
                if let Some(caller) = greet(stream, from, config).await {
                    let _ = callers.send(caller).await;
                }
                // Not before: where callers are taken slowly, those who wait are still strangers.
                drop(stranger);
            });
        }
    }
}

async fn greet(
    mut stream: TcpStream,
    from: SocketAddr,
    config: Arc<ServerConfig>,
) -> Option<Caller> {
    let deadline = Instant::now() + HANDSHAKE_WITHIN;
    let mut first = [0];
    let peeked = timeout_at(deadline, stream.peek(&mut first)).await;
    // Silence, and a connection that ends before its first byte: a port scan, a health check.
    let Ok(Ok(1)) = peeked else { return None };
    if first[0] == TLS_HANDSHAKE {
        let accepted = timeout_at(deadline, Secured::accept(stream, config)).await;
        return Some(match accepted {
            Ok(Ok(connection)) => Caller::Control {
                connection: Box::new(connection),
                from,
            },
            Ok(Err(error)) => Caller::Refused { from, error },
            Err(_) => Caller::Refused {
                from,
                error: Error::Silent(HANDSHAKE_WITHIN),
            },
        });
    }
    let mut hello = [0; LaneHello::LENGTH];
    match timeout_at(deadline, stream.read_exact(&mut hello)).await {
        Ok(Ok(_)) => Some(Caller::Lane { stream, hello }),
        _ => None,
    }
}

/// Who is unproven.
#[derive(Debug, Default)]
struct Strangers {
    from: Mutex<HashMap<IpAddr, usize>>,
}

impl Strangers {
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let address = network(address);
        let mut from = lock(&self.from);
        let all: usize = from.values().sum();
        let here = from.get(&address).copied().unwrap_or(0);
        if all >= STRANGERS_MAX || here >= STRANGERS_PER_ADDRESS {
            return None;
        }
        from.insert(address, here + 1);
        Some(Stranger {
            strangers: Arc::clone(self),
            address,
        })
    }
}

/// What one host has to itself: its address, and of IPv6 addresses the 2^64 of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// A place among the strangers, given back when dropped.
struct Stranger {
    strangers: Arc<Strangers>,
    address: IpAddr,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut from = lock(&self.strangers.from);
        if let Some(here) = from.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                from.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_others_out() {
        let strangers = Arc::new(Strangers::default());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held: Vec<_> = (0..STRANGERS_PER_ADDRESS)
            .map(|_| strangers.admit(a).unwrap())
            .collect();
        assert!(strangers.admit(a).is_none());
        assert!(strangers.admit(b).is_some());
        drop(held);
        assert!(strangers.admit(a).is_some());
        assert!(lock(&strangers.from).is_empty());
    }

    #[test]
    fn the_addresses_that_one_host_may_choose_from_count_as_one() {
        let strangers = Arc::new(Strangers::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..STRANGERS_PER_ADDRESS)
            .map(|n| strangers.admit(address(&format!("2001:db8::{n}"))).unwrap())
            .collect();
        assert!(strangers.admit(address("2001:db8::ffff")).is_none());
        assert!(strangers.admit(address("2001:db8:0:1::1")).is_some());
        drop(held);
        // IPv4 that came to a socket of IPv6's is not all one network.
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let strangers = Arc::new(Strangers::default());
        let held: Vec<_> = (0..=255)
            .map_while(|n| strangers.admit(IpAddr::from([10, 0, 0, n])))
            .collect();
        assert_eq!(held.len(), STRANGERS_MAX);
    }
}
