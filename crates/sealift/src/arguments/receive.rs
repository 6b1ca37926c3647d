//! `sealift receive`.

use std::path::{Path, PathBuf};

use sealift_qemu::Address;

use super::{Access, Endpoint, Identity, Output, Records, qmp};
use crate::reporter::Stdout;

/// Take a guest from another host.
///
/// Waits for sources, proves who they are and who this host is, and takes the guests of those that it allows. Each guest goes to the
/// QEMU that waits for it, which was started with -incoming, with the same machine and devices as at the source. Nothing of a guest
/// runs before all of it has arrived and was verified; if anything goes wrong before that, the guest goes on at the source.
///
/// With --qmp both ends decide together when the guest runs here, and no failure can make two of it. Without it QEMU decides
/// by itself once it is given the stream's end; the report says so.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  A QEMU that waits, and a receiver that takes one guest for it:
    qemu-system-x86_64 … -incoming defer -qmp unix:/run/web1.qmp,server,nowait
    sealift receive --qemu unix:/run/web1.in --qmp /run/web1.qmp --allow host-a.example --once

  QEMU starts the receiver by itself:
    qemu-system-x86_64 … -incoming \"exec:sealift receive --allow host-a.example\"

  A guest that was saved by sealift send --file:
    sealift receive --file web1.sealed --qemu unix:/run/web1.in --qmp /run/web1.qmp

The exit codes are in sealift --help, the events of --json in docs/EVENTS.md.")]
pub struct Arguments {
    /// Where sources connect to; port 7325 unless another is given.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "[::]:7325",
        conflicts_with = "file"
    )]
    listen: Endpoint,
    /// Who this host is.
    #[command(flatten)]
    pub identity: Identity,
    /// Where QEMU waits: unix:PATH or tcp:HOST:PORT of its -incoming; one with -incoming defer and --qmp is told to listen there.
    /// Without it QEMU is at standard input and output.
    #[arg(long, value_name = "ADDRESS")]
    pub qemu: Option<Address>,
    /// QEMU's control socket: unix:PATH, the path alone, or tcp:HOST:PORT.
    #[arg(long, value_name = "PATH", value_parser = qmp)]
    pub qmp: Option<Address>,
    /// How the guest's memory is reached: through QEMU's stream, or by sealift itself, in the shared file behind it (mapped) or in QEMU's
    /// process. These need --qmp, and root, the capability to trace processes, or QEMU's own user. A way that is named and not there is an error.
    #[arg(
        long,
        value_name = "WAY",
        value_enum,
        default_value_t,
        conflicts_with = "file"
    )]
    pub access: Access,
    /// End after one session; without --qemu it always does.
    #[arg(long, conflicts_with = "file")]
    once: bool,
    /// Take guests from the host whose certificate has this name or address; may be given more than once.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present_any = ["allow_any", "file"],
        conflicts_with = "file"
    )]
    allow: Vec<String>,
    /// Take guests from everyone whom the CA gave a client certificate. With a CA that signs libvirt's clients too, that is all
    /// of them.
    #[arg(long, conflicts_with_all = ["allow", "file"])]
    allow_any: bool,
    /// Restore a guest from this file, which was sealed for this host's certificate, and listen to nobody.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it leaves on this host.
    #[command(flatten)]
    pub records: Records,
    /// How it is told.
    #[command(flatten)]
    pub output: Output,
}

/// Where the guest comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin<'a> {
    /// From a source that connects.
    Network {
        /// Where to.
        listen: &'a Endpoint,
        /// Who may.
        allowed: Allowed<'a>,
        /// One session, and no second one.
        once: bool,
    },
    /// From a sealed file.
    File(&'a Path),
}

/// Whose guests are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Allowed<'a> {
    /// Those of hosts with one of these names.
    Names(&'a [String]),
    /// Everyone's whom the CA gave a certificate.
    Any,
}

impl Arguments {
    /// Where the guest comes from.
    #[must_use]
    pub fn origin(&self) -> Origin<'_> {
        match &self.file {
            Some(file) => Origin::File(file),
            None => Origin::Network {
                listen: &self.listen,
                allowed: match self.allow_any {
                    true => Allowed::Any,
                    false => Allowed::Names(&self.allow),
                },
                once: self.once || self.qemu.is_none(),
            },
        }
    }

    /// What standard output is for.
    #[must_use]
    pub const fn stdout(&self) -> Stdout {
        match self.qemu {
            Some(_) => Stdout::Free,
            None => Stdout::Stream,
        }
    }
}
