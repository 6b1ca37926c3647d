//! The ways of moving a guest that are held against each other.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use sealift_lab::guest::{Guest, PATIENCE};
use sealift_lab::hosts::Host;
use sealift_lab::{Context as _, Error};
use sealift_qemu::Address;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::program::Program;
use super::run::Bench;

/// How a guest is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QEMU's own, one connection in the clear.
    Tcp,
    /// QEMU's own TLS on one connection.
    Tls,
    /// QEMU's own TLS, two connections for memory.
    MultifdTls,
    /// The same, memory compressed by zstd at its first level: the one to beat.
    MultifdTlsZstd,
    /// What this project is.
    Sealift,
}

/// QEMU may stop the guest for so long (milliseconds), whatever moves it.
const DOWNTIME_LIMIT: u64 = 50;

/// Bytes per second: far above every link here, so that the link alone is the limit.
const BANDWIDTH: u64 = 10 << 30;

/// Of QEMU's channels for memory. The machines that this is measured on have two cores.
const CHANNELS: u64 = 2;

/// Where QEMU listens for QEMU; any port that is free in a new namespace.
const QEMU_PORT: u16 = 4444;

/// sealift's default port.
const SEALIFT_PORT: u16 = 7325;

/// What must exist for a run of sealift, by its own `--help`.
const NEEDED_COMMANDS: [&str; 2] = ["receive", "migrate"];

impl Transport {
    /// All, the one to beat just before sealift.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::Tls,
        Self::MultifdTls,
        Self::MultifdTlsZstd,
        Self::Sealift,
    ];

    /// What `--only` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::MultifdTls => "multifd-tls",
            Self::MultifdTlsZstd => "multifd-tls-zstd",
            Self::Sealift => "sealift",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::MultifdTls | Self::MultifdTlsZstd)
    }

    fn is_multifd(self) -> bool {
        matches!(self, Self::MultifdTls | Self::MultifdTlsZstd)
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
        if self == Self::Sealift {
            return Ready::sealift(bench, destination, directory);
        }
        self.configure(bench, source, destination)?;
        let host = bench.hosts.b().ipv4();
        let uri = format!("tcp:{host}:{QEMU_PORT}");
        destination
            .qmp()
            .execute("migrate-incoming", json!({ "uri": uri }))?;
        Ok(Ready::Qemu { uri })
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
            if self.is_multifd() {
                switch_on(guest, &["multifd"])?;
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

/// Everything waits for the order.
#[derive(Debug)]
pub(super) enum Ready {
    Qemu {
        uri: String,
    },
    Sealift {
        receiver: Box<Program>,
        migrate: Box<Command>,
    },
}

/// The guest is on its way.
#[derive(Debug)]
pub(super) enum Moving {
    Qemu,
    Sealift {
        receiver: Box<Program>,
        sender: Box<Program>,
    },
}

impl Ready {
    fn sealift(bench: &Bench, destination: &mut Guest, directory: &Path) -> Result<Self, Error> {
        let program = bench
            .sealift
            .as_ref()
            .ok_or_else(|| Error::new("there is no sealift that can move a guest"))?;
        let on = |host: &Host, verb: &str| {
            let mut command = host.command(program);
            command.arg(verb).arg("--pki");
            command.arg(bench.certificates.directory());
            command
        };
        let incoming = destination.path("incoming");
        // QEMU is told to listen there by the receiver.
        let incoming = format!("unix:{}", incoming.display());
        let at = format!("{}:{SEALIFT_PORT}", bench.hosts.b().ipv4());
        let mut receive = on(bench.hosts.b(), "receive");
        receive.args(["--listen", &at, "--qemu", &incoming]);
        receive.arg("--qmp").arg(control(destination)?);
        receive.args(["--allow-any", "--once", "--json"]);
        let mut receiver = Box::new(Program::start(receive, "receive", directory)?);
        receiver.wait_listening(SEALIFT_PORT, PATIENCE)?;

        let mut migrate = on(bench.hosts.a(), "migrate");
        migrate.args(["--to", &at, "--json"]);
        migrate.args(["--max-downtime", &format!("{DOWNTIME_LIMIT}ms")]);
        Ok(Self::Sealift {
            receiver,
            migrate: Box::new(migrate),
        })
    }

    /// sealift's processes that are there before the order.
    pub(super) fn waiting(&self) -> Option<u32> {
        match self {
            Self::Qemu { .. } => None,
            Self::Sealift { receiver, .. } => Some(receiver.pid()),
        }
    }

    /// Gives the order.
    pub(super) fn go(self, source: &mut Guest, directory: &Path) -> Result<Moving, Error> {
        match self {
            Self::Qemu { uri } => {
                source.qmp().execute("migrate", json!({ "uri": uri }))?;
                Ok(Moving::Qemu)
            }
            Self::Sealift {
                receiver,
                mut migrate,
            } => {
                migrate.arg("--qmp").arg(control(source)?);
                let sender = Box::new(Program::start(*migrate, "migrate", directory)?);
                Ok(Moving::Sealift { receiver, sender })
            }
        }
    }
}

/// The control socket that is left for sealift, as its commands take it.
fn control(guest: &Guest) -> Result<String, Error> {
    match guest.free_control() {
        Address::Unix(path) => Ok(path.display().to_string()),
        other => Err(Error::new(format!("the lab's guests have no {other}"))),
    }
}

/// Whether this sealift can move a guest; else what it lacks.
pub(super) fn lacks(sealift: &Path) -> Result<Option<&'static str>, Error> {
    let help = Command::new(sealift)
        .arg("--help")
        .output()
        .context(format!("cannot run {}", sealift.display()))?;
    let help = String::from_utf8_lossy(&help.stdout);
    let offers = |command: &str| {
        let mut lines = help.lines();
        lines.any(|line| line.split_whitespace().next() == Some(command))
    };
    Ok(NEEDED_COMMANDS.into_iter().find(|command| !offers(command)))
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
            Self::MultifdTls => "multifd 2 + TLS",
            Self::MultifdTlsZstd => "multifd 2 + TLS + zstd",
            Self::Sealift => "sealift",
        })
    }
}

impl Serialize for Transport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
