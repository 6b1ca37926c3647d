//! What the commands that move a guest are told.
//!
//! ```text
//!   receive   ◀── QEMU's connections ── send        by hand: somebody gives QEMU its orders
//!      ▲                                  │
//!      └────── control, lanes ────────────┘
//!                                      migrate      over QMP: sealift gives them
//!                                      export       a saved guest, opened again
//! ```
//!
//! Texts are parsed here and nowhere else: what a command gets is an address, a length of time, a suite.

mod endpoint;
pub mod export;
pub mod migrate;
pub mod receive;
pub mod send;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sealift_qemu::ram::Want;
use sealift_qemu::{Address, AddressError};
use sealift_seal::Suite;

pub use endpoint::{DEFAULT_PORT, Endpoint, EndpointError};

use crate::reporter::{Face, Stdout};
use crate::units::{MaxDowntime, MemoryBudget, Patience};

/// Who this host is.
#[derive(Args, Clone, Debug)]
pub struct Identity {
    /// This host's certificates and keys, and the CA's certificate, in QEMU's or libvirt's layout.
    #[arg(
        long,
        value_name = "DIR",
        env = "SEALIFT_PKI",
        default_value = "/etc/sealift/pki"
    )]
    pub pki: PathBuf,
}

/// What every session leaves on this host.
#[derive(Args, Clone, Debug)]
pub struct Records {
    /// Where each session's journal is kept, which tells after a crash who must run the guest
    /// [default: /var/lib/sealift/sessions for root, otherwise sealift/sessions in the user's state directory].
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
}

/// How it is told.
#[derive(Args, Clone, Copy, Debug)]
pub struct Output {
    /// Tell events as JSON, one object a line, on standard output; on standard error where QEMU is connected to standard output.
    #[arg(long)]
    pub json: bool,
    /// Tell rounds, and the reasons for what was chosen, as well.
    #[arg(short, long)]
    pub verbose: bool,
}

impl Output {
    /// The reporter's face.
    #[must_use]
    pub const fn face(self, stderr_is_terminal: bool, stdout: Stdout) -> Face {
        Face::choose(self.json, stderr_is_terminal, stdout)
    }
}

/// How the source treats the guest and the link.
#[derive(Args, Clone, Debug)]
pub struct Transfer {
    /// The name in the receiver's certificate, where that is another than the host in --to.
    #[arg(long, value_name = "NAME")]
    peer_name: Option<String>,
    /// TCP connections that carry the guest's memory, 1 to 256; a receiver takes at most 16 [default: as many as help].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub lanes: Option<u16>,
    /// The longest that the guest may stand still when it moves: 300ms, 2s. sealift lets QEMU stop the guest when what is left
    /// fits in this.
    #[arg(long, value_name = "TIME", default_value = "300ms")]
    max_downtime: MaxDowntime,
    /// For how long a session goes on without a connection: the guest runs on here, and sealift comes back to the receiver and sends only what is missing. 0s ends the
    /// session with the first connection that breaks.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    resume_for: Patience,
    /// The longest that a guest, once it has stopped, waits for a broken connection. After that it goes on here, unless its hand-off was decided.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    max_blackout: Patience,
    /// What is compared before the guest runs at the destination.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value_t = Verify::Pages,
        requires_if("full", "qmp")
    )]
    pub verify: Verify,
    /// The key exchange to insist on [default: the best that both ends have].
    #[arg(long, value_name = "NAME", value_enum)]
    suite: Option<SuiteName>,
    /// The most memory that sealift takes on this host, beside a four-hundredth of the guest's: what it does not need for what is on its
    /// way remembers what pages held that were sent, so that only what changed of them is sent again. At least 128MiB, which remembers little; each further MiB
    /// goes for 5 to 7 MiB of pages.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory_budget: MemoryBudget,
    /// How the guest's memory is read.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Access::Auto)]
    pub access: Access,
    /// What is done about a guest that changes its memory faster than the link carries the changes.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value_t = IfNotConverging::Keep,
        requires_if("throttle", "qmp")
    )]
    pub if_not_converging: IfNotConverging,
}

impl Transfer {
    /// The longest that the guest may stand still.
    #[must_use]
    pub const fn max_downtime(&self) -> Duration {
        self.max_downtime.duration()
    }

    /// For how long a session goes on without a connection.
    #[must_use]
    pub const fn resume_for(&self) -> Duration {
        self.resume_for.duration()
    }

    /// For how long a guest that has stopped waits for one.
    #[must_use]
    pub const fn max_blackout(&self) -> Duration {
        self.max_blackout.duration()
    }

    /// The suites to offer, best first.
    #[must_use]
    pub fn suites(&self) -> Vec<Suite> {
        self.suite
            .map_or_else(|| Suite::ALL.to_vec(), |name| vec![name.into()])
    }

    /// The name that the receiver's certificate must prove.
    fn peer_name<'a>(&'a self, to: &'a Endpoint) -> &'a str {
        self.peer_name.as_deref().unwrap_or_else(|| to.name())
    }
}

/// What is compared before the guest runs at the destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Verify {
    /// A digest of every batch, and which page came last: always.
    Pages,
    /// Besides, both memories are read again while the guest stands still. Needs QMP at both ends, and lengthens the blackout.
    Full,
}

/// What is done about a guest that does not converge.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum IfNotConverging {
    /// It is said, and the guest goes on being sent at full speed: it may become quieter.
    #[default]
    Keep,
    /// The guest is slowed, step by step, until its changes fit the link, for twenty in a hundred of its time at the least and 95 at the most.
    /// Needs QMP.
    Throttle,
    /// The migration ends, and the guest goes on here.
    Abort,
}

impl From<IfNotConverging> for sealift_precopy::IfNotConverging {
    fn from(what: IfNotConverging) -> Self {
        match what {
            IfNotConverging::Keep => Self::Keep,
            IfNotConverging::Throttle => Self::Throttle,
            IfNotConverging::Abort => Self::Abort,
        }
    }
}

/// How a guest's memory is reached on this host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Access {
    /// Directly where that can be, otherwise by QEMU's stream; the report says which, and why.
    #[default]
    Auto,
    /// By the file behind it: a memory-backend-file or -memfd with share=on.
    Mapped,
    /// In QEMU's process, as root or as the user that QEMU runs as.
    Process,
    /// Only as QEMU sends and takes it. Needs no privilege.
    Stream,
}

impl From<Access> for Want {
    fn from(access: Access) -> Self {
        match access {
            Access::Auto => Self::Auto,
            Access::Mapped => Self::Mapped,
            Access::Process => Self::Process,
            Access::Stream => Self::Stream,
        }
    }
}

/// A suite's name on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SuiteName {
    #[value(name = "x25519-mlkem768")]
    X25519MlKem768,
    #[value(name = "p256-mlkem768")]
    P256MlKem768,
    #[value(name = "x25519")]
    X25519,
    #[value(name = "p256")]
    P256,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::X25519MlKem768 => Self::X25519MlKem768,
            SuiteName::P256MlKem768 => Self::P256MlKem768,
            SuiteName::X25519 => Self::X25519,
            SuiteName::P256 => Self::P256,
        }
    }
}

/// QEMU's control socket: `unix:PATH`, `tcp:HOST:PORT`, or the path alone.
fn qmp(text: &str) -> Result<Address, AddressError> {
    match text.split_once(':') {
        Some(("unix" | "tcp", _)) => text.parse(),
        _ => format!("unix:{text}").parse(),
    }
}

#[cfg(test)]
mod tests;
