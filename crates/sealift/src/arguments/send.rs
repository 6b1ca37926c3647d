//! `sealift send`.

use std::path::{Path, PathBuf};

use sealift_qemu::Address;

use super::{Endpoint, Identity, IfNotConverging, Output, Records, Transfer, Verify, qmp};
use crate::outcome::{Ending, Fault, Kind};
use crate::reporter::Stdout;

/// Carry the guest that QEMU migrates to another host.
///
/// Waits until QEMU is told to migrate to it, and carries what QEMU sends to the receiver. Whoever gives QEMU its orders goes on doing
/// so: a person at the monitor, or a tool; sealift migrate gives them by itself. With multifd QEMU connects several times, and
/// all of it is carried in parallel. QEMU should have the capability return-path: without it, it takes for done what nobody has
/// received.
///
/// With --file the guest is saved to a file, sealed for the host that may restore it, and is not moved.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  By hand, in two steps:
    sealift send --to host-b.example --listen unix:/run/web1.out --qmp /run/web1.qmp --once
    (qemu) migrate -d unix:/run/web1.out

  QEMU starts it by itself:
    (qemu) migrate -d \"exec:sealift send --to host-b.example\"

  Save a guest for host-b, which restores it by sealift receive --file:
    sealift send --file web1.sealed --recipient host-b-cert.pem --listen unix:/run/web1.out

The exit codes are in sealift --help, the events of --json in docs/EVENTS.md.")]
pub struct Arguments {
    /// The receiver; port 7325 unless another is given.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = Endpoint::remote,
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    to: Option<Endpoint>,
    /// Who this host is.
    #[command(flatten)]
    pub identity: Identity,
    /// The socket that QEMU is told to migrate to: unix:PATH or tcp:HOST:PORT. Without it QEMU is at standard input and output.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// QEMU's control socket: unix:PATH, the path alone, or tcp:HOST:PORT. With it the hand-off can be managed.
    #[arg(long, value_name = "PATH", value_parser = qmp)]
    pub qmp: Option<Address>,
    /// End after one guest; without --listen it always does.
    #[arg(long)]
    once: bool,
    /// What to call the guest, where there is no --qmp to ask.
    #[arg(long, value_name = "NAME", conflicts_with = "qmp")]
    pub guest: Option<String>,
    /// Save the guest to this file, sealed.
    #[arg(
        long,
        value_name = "FILE",
        requires = "recipient",
        conflicts_with = "peer_name"
    )]
    file: Option<PathBuf>,
    /// The certificate of the host that may restore it.
    #[arg(long, value_name = "CERT", requires = "file", conflicts_with = "to")]
    recipient: Option<PathBuf>,
    /// How the guest and the link are treated.
    #[command(flatten)]
    pub transfer: Transfer,
    /// What it leaves on this host.
    #[command(flatten)]
    pub records: Records,
    /// How it is told.
    #[command(flatten)]
    pub output: Output,
}

/// Where the guest goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination<'a> {
    /// To a receiver.
    Receiver {
        /// Where it is.
        to: &'a Endpoint,
        /// The name that its certificate must prove.
        peer_name: &'a str,
    },
    /// Into a file.
    File {
        /// Which.
        file: &'a Path,
        /// The certificate of the host that may open it.
        recipient: &'a Path,
    },
}

impl Arguments {
    /// Where the guest goes.
    ///
    /// # Errors
    /// When a file is to be verified against a second memory, which is not there; and when nothing is named, which the command
    /// line's parser does not let pass.
    pub fn destination(&self) -> Result<Destination<'_>, Ending> {
        let wrong = |message, advice| {
            let ending = Ending::new(Kind::Usage, message);
            Err(ending.fault(Fault::User).advice(advice))
        };
        match (&self.to, &self.file, &self.recipient) {
            (Some(to), _, _) => Ok(Destination::Receiver {
                to,
                peer_name: self.transfer.peer_name(to),
            }),
            (None, Some(_), _) if self.transfer.verify == Verify::Full => wrong(
                "--verify full compares two guests' memories, and a file is none",
                "leave it out: what is in a file is verified when it is restored",
            ),
            (None, Some(_), _) if self.transfer.if_not_converging != IfNotConverging::Keep => {
                wrong(
                    "--if-not-converging is for guests that move: QEMU stops one that is saved when it likes",
                    "leave it out; to save a guest that is too busy, stop it first",
                )
            }
            (None, Some(file), Some(recipient)) => Ok(Destination::File { file, recipient }),
            (None, _, _) => wrong(
                "neither a receiver nor a file is named",
                "give --to HOST:PORT, or --file FILE and --recipient CERT",
            ),
        }
    }

    /// One guest, and no second one.
    #[must_use]
    pub const fn once(&self) -> bool {
        self.once || self.listen.is_none() || self.file.is_some()
    }

    /// What standard output is for.
    #[must_use]
    pub const fn stdout(&self) -> Stdout {
        match self.listen {
            Some(_) => Stdout::Free,
            None => Stdout::Stream,
        }
    }
}
