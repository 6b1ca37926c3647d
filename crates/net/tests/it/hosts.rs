//! Two hosts with certificates of one CA, and one of another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use sealift_identity::authority::{self, Request};
use sealift_identity::{Moment, Pki};
use sealift_net::Error;
use sealift_net::control::Secured;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The receiver's name.
pub(crate) const RECEIVER: &str = "alpha.example.org";
const SOURCE: &str = "beta.example.org";

pub(crate) struct Hosts {
    directory: TempDir,
}

impl Hosts {
    pub(crate) fn new() -> Self {
        let hosts = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for ca in ["ours", "another"] {
            let ca = hosts.path(ca);
            let now = Moment::now();
            authority::init(&ca, "the lab", 2, now).unwrap();
            for name in [SOURCE, RECEIVER] {
                let request = Request {
                    name,
                    alternatives: &[],
                    days: 1,
                    out: None,
                    replace: false,
                };
                authority::issue(&ca, &request, now).unwrap();
            }
        }
        hosts
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn receiver(&self) -> Pki {
        Pki::for_receiver(&self.path("ours").join(RECEIVER)).unwrap()
    }

    pub(crate) fn source(&self) -> Pki {
        Pki::for_source(&self.path("ours").join(SOURCE)).unwrap()
    }

    /// A source of the same name that another CA has signed for.
    pub(crate) fn stranger(&self) -> Pki {
        Pki::for_source(&self.path("another").join(SOURCE)).unwrap()
    }
}

/// Connects as the source does.
pub(crate) async fn connect(address: SocketAddr, pki: &Pki) -> Result<Secured, Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(RECEIVER).unwrap();
    Secured::connect(stream, name, pki.client_config().unwrap()).await
}
