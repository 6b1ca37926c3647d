//! The order to move a guest, to QEMU or to sealift, and who then is at work.

use std::path::{Path, PathBuf};
use std::process::Command;

use sealift_lab::guest::{Guest, PATIENCE};
use sealift_lab::hosts::Host;
use sealift_lab::{Context as _, Error};
use sealift_qemu::Address;
use serde_json::json;

use super::run::Bench;
use super::transport::{DOWNTIME_LIMIT, Transport};
use crate::program::Program;

/// sealift's default port.
const SEALIFT_PORT: u16 = 7325;

/// What must exist for a run of sealift, by its own `--help`.
const NEEDED_COMMANDS: [&str; 2] = ["receive", "migrate"];

/// A sealift that can move guests.
#[derive(Clone, Debug)]
pub struct Sealift {
    program: PathBuf,
    /// Whether it can be told how to reach guest memory.
    pub knows_access: bool,
}

impl Sealift {
    /// Asks the program what it can; an error says what it lacks.
    pub fn new(program: &Path) -> Result<Self, Error> {
        let offered = help(program, None)?;
        let offers = |command: &&str| {
            let mut lines = offered.lines();
            lines.any(|line| line.split_whitespace().next() == Some(command))
        };
        if let Some(command) = NEEDED_COMMANDS.iter().find(|command| !offers(command)) {
            let program = program.display();
            return Err(Error::new(format!("{program} has no `{command}` yet")));
        }
        let mut knows_access = true;
        for command in NEEDED_COMMANDS {
            knows_access &= help(program, Some(command))?.contains("--access");
        }
        Ok(Self {
            program: program.to_owned(),
            knows_access,
        })
    }
}

/// Everything waits for the order.
#[derive(Debug)]
pub(super) enum Ready {
    Qemu {
        uri: String,
        goes_over: bool,
    },
    Sealift {
        receiver: Box<Program>,
        migrate: Box<Command>,
    },
}

/// The guest is on its way.
#[derive(Debug)]
pub(super) enum Moving {
    Qemu {
        /// In the midst of it, once its memory was sent once, the guest is to go over.
        goes_over: bool,
    },
    Sealift {
        receiver: Box<Program>,
        sender: Box<Program>,
    },
}

impl Ready {
    /// Starts a receiver, and makes the order for the source.
    pub(super) fn sealift(
        transport: Transport,
        bench: &Bench,
        destination: &mut Guest,
        directory: &Path,
    ) -> Result<Self, Error> {
        let sealift = bench
            .sealift
            .as_ref()
            .ok_or_else(|| Error::new("there is no sealift that can move a guest"))?;
        let on = |host: &Host, verb: &str| {
            let mut command = host.command(&sealift.program);
            command.arg(verb).arg("--pki");
            command.arg(bench.certificates.directory());
            if transport == Transport::SealiftStream {
                command.args(["--access", "stream"]);
            }
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
            Self::Qemu { uri, goes_over } => {
                source.qmp().execute("migrate", json!({ "uri": uri }))?;
                Ok(Moving::Qemu { goes_over })
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

/// What it says of itself, or of one of its commands.
fn help(sealift: &Path, command: Option<&str>) -> Result<String, Error> {
    let help = Command::new(sealift)
        .args(command)
        .arg("--help")
        .output()
        .context(format!("cannot run {}", sealift.display()))?;
    Ok(String::from_utf8_lossy(&help.stdout).into_owned())
}
