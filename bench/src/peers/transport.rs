//! The ways of moving a guest that are held against each other.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use sealift_lab::Error;
use sealift_lab::guest::Guest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::order::Ready;
use super::run::Bench;

/// How a guest is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QEMU's own, one connection in the clear.
    Tcp,
    /// QEMU's own TLS on one connection.
    Tls,
    /// The same, pages sent before as what has changed in them.
    TlsXbzrle,
    /// The same, the guest slowed down while it rewrites faster than it is moved.
    TlsAutoConverge,
    /// The same, the guest moved after its memory was sent once; the rest follows as it asks for it.
    PostCopyTls,
    /// QEMU's own TLS, two connections for memory.
    MultifdTls,
    /// The same, memory compressed by zstd at its first level.
    MultifdTlsZstd,
    /// What this project is, pages through QEMU's stream at both ends.
    SealiftStream,
    /// The same with the access that it chooses by itself.
    Sealift,
}

/// QEMU may stop the guest for so long (milliseconds), whatever moves it.
pub(super) const DOWNTIME_LIMIT: u64 = 50;

/// Bytes per second: far above every link here, so that the link alone is the limit.
const BANDWIDTH: u64 = 10 << 30;

/// Of QEMU's channels for memory. The machines that this is measured on have two cores.
const CHANNELS: u64 = 2;

/// Where QEMU listens for QEMU; any port that is free in a new namespace.
const QEMU_PORT: u16 = 4444;

/// Of xbzrle, bytes: as much as any guest here rewrites, so that it is at its best.
const XBZRLE_CACHE: u64 = 512 << 20;

impl Transport {
    /// All, those that are likeliest to be beaten hard just before sealift.
    pub const ALL: [Self; 9] = [
        Self::Tcp,
        Self::Tls,
        Self::TlsXbzrle,
        Self::TlsAutoConverge,
        Self::PostCopyTls,
        Self::MultifdTls,
        Self::MultifdTlsZstd,
        Self::SealiftStream,
        Self::Sealift,
    ];

    /// What `--only` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsXbzrle => "tls-xbzrle",
            Self::TlsAutoConverge => "tls-auto-converge",
            Self::PostCopyTls => "post-copy-tls",
            Self::MultifdTls => "multifd-tls",
            Self::MultifdTlsZstd => "multifd-tls-zstd",
            Self::SealiftStream => "sealift-stream",
            Self::Sealift => "sealift",
        }
    }

    /// Whether it is this project's.
    #[must_use]
    pub fn is_sealift(self) -> bool {
        matches!(self, Self::SealiftStream | Self::Sealift)
    }

    /// Whether it is one of QEMU's own that nobody can read along.
    #[must_use]
    pub fn is_tls(self) -> bool {
        !self.is_sealift() && self != Self::Tcp
    }

    fn is_multifd(self) -> bool {
        matches!(self, Self::MultifdTls | Self::MultifdTlsZstd)
    }

    /// What else QEMU must be told at both ends.
    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::TlsXbzrle => &["xbzrle"],
            Self::TlsAutoConverge => &["auto-converge"],
            Self::PostCopyTls => &["postcopy-ram"],
            Self::MultifdTls | Self::MultifdTlsZstd => &["multifd"],
            Self::Tcp | Self::Tls | Self::SealiftStream | Self::Sealift => &[],
        }
    }

    /// Makes both ends ready, up to the order to move.
    pub(super) fn prepare(
        self,
        bench: &Bench,
        source: &mut Guest,
        destination: &mut Guest,
        directory: &Path,
    ) -> Result<Ready, Error> {
        for guest in [&mut *source, &mut *destination] {
            // So that nobody has to ask how it goes, which would disturb what is measured.
            switch_on(guest, &["events"])?;
        }
        if self.is_sealift() {
            return Ready::sealift(self, bench, destination, directory);
        }
        self.configure(bench, source, destination)?;
        let host = bench.hosts.b().ipv4();
        let uri = format!("tcp:{host}:{QEMU_PORT}");
        destination
            .qmp()
            .execute("migrate-incoming", json!({ "uri": uri }))?;
        let goes_over = self == Self::PostCopyTls;
        Ok(Ready::Qemu { uri, goes_over })
    }

    /// The same at both ends, but for who is the server and who the client.
    fn configure(
        self,
        bench: &Bench,
        source: &mut Guest,
        destination: &mut Guest,
    ) -> Result<(), Error> {
        for (guest, endpoint) in [(source, "client"), (destination, "server")] {
            let mut parameters = Map::new();
            parameters.insert("downtime-limit".into(), DOWNTIME_LIMIT.into());
            parameters.insert("max-bandwidth".into(), BANDWIDTH.into());
            // As libvirt has it: the source learns that the destination has loaded everything.
            switch_on(guest, &["return-path"])?;
            switch_on(guest, self.capabilities())?;
            if self.is_tls() {
                guest.qmp().execute(
                    "object-add",
                    json!({
                        "qom-type": "tls-creds-x509",
                        "id": "tls",
                        "endpoint": endpoint,
                        "dir": bench.certificates.directory(),
                        "verify-peer": true,
                    }),
                )?;
                parameters.insert("tls-creds".into(), "tls".into());
                if endpoint == "client" {
                    let name = bench.hosts.b().ipv4().to_string();
                    parameters.insert("tls-hostname".into(), name.into());
                }
            }
            if self == Self::TlsXbzrle {
                parameters.insert("xbzrle-cache-size".into(), XBZRLE_CACHE.into());
            }
            if self.is_multifd() {
                parameters.insert("multifd-channels".into(), CHANNELS.into());
            }
            if self == Self::MultifdTlsZstd {
                parameters.insert("multifd-compression".into(), "zstd".into());
                parameters.insert("multifd-zstd-level".into(), 1.into());
            }
            guest
                .qmp()
                .execute("migrate-set-parameters", Value::Object(parameters))?;
        }
        Ok(())
    }
}

fn switch_on(guest: &mut Guest, capabilities: &[&str]) -> Result<(), Error> {
    let capabilities: Vec<Value> = capabilities
        .iter()
        .map(|name| json!({ "capability": name, "state": true }))
        .collect();
    guest.qmp().execute(
        "migrate-set-capabilities",
        json!({ "capabilities": capabilities }),
    )?;
    Ok(())
}

impl FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(format!("there is no transport `{text}`, but {names}"))
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "plain tcp",
            Self::Tls => "TLS",
            Self::TlsXbzrle => "TLS + xbzrle",
            Self::TlsAutoConverge => "TLS + auto-converge",
            Self::PostCopyTls => "post-copy + TLS",
            Self::MultifdTls => "multifd 2 + TLS",
            Self::MultifdTlsZstd => "multifd 2 + TLS + zstd",
            Self::SealiftStream => "sealift, stream",
            Self::Sealift => "sealift",
        })
    }
}

impl Serialize for Transport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}
