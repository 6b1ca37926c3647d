//! `sealift migrate`.

use sealift_qemu::Address;

use super::{Endpoint, Identity, Output, Records, Transfer, qmp};
use crate::units::Bandwidth;

/// Move a guest to another host.
///
/// Sets up QEMU over its control socket, sends the guest's memory while the guest goes on, lets QEMU stop it when what is left fits
/// into --max-downtime, has everything verified, and hands the guest over: at every moment at most one copy of it runs. If anything
/// fails before the hand-off is decided, the guest goes on here, as if nothing had been. Ctrl-C does the same; once the
/// hand-off is decided it is not heeded any more.
///
/// At the other end sealift receive must wait, with a QEMU that was started with -incoming.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sealift migrate --qmp /run/web1.qmp --to host-b.example
  sealift migrate --qmp /run/web1.qmp --to host-b.example --max-downtime 50ms --bandwidth 500Mbit
  sealift migrate --qmp /run/web1.qmp --to [2001:db8::7]:7325 --peer-name host-b.example --json | jq .

The exit codes are in sealift --help, the events of --json in docs/EVENTS.md.")]
pub struct Arguments {
    /// QEMU's control socket: unix:PATH, the path alone, or tcp:HOST:PORT.
    #[arg(long, value_name = "PATH", value_parser = qmp)]
    pub qmp: Address,
    /// The receiver; port 7325 unless another is given.
    #[arg(long, value_name = "HOST:PORT", value_parser = Endpoint::remote)]
    pub to: Endpoint,
    /// Who this host is.
    #[command(flatten)]
    pub identity: Identity,
    /// How the guest and the link are treated.
    #[command(flatten)]
    pub transfer: Transfer,
    /// The most to send in a second: 500Mbit, 1Gbit, 62MiB/s [default: what the link takes].
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<Bandwidth>,
    /// Pause the guest first, copy, and resume it at the other end: the least to send, the longest blackout.
    #[arg(long)]
    pub no_live: bool,
    /// Leave the source's QEMU as it is after the move, instead of ending it. Never continue it there while the guest runs at the
    /// destination: that makes two of it, on the same disks.
    #[arg(long)]
    pub keep_source: bool,
    /// What it leaves on this host.
    #[command(flatten)]
    pub records: Records,
    /// How it is told.
    #[command(flatten)]
    pub output: Output,
}

impl Arguments {
    /// The name that the receiver's certificate must prove.
    #[must_use]
    pub fn peer_name(&self) -> &str {
        self.transfer.peer_name(&self.to)
    }
}
