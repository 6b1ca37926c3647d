//! `sealift pki`: a small CA, and what certificates say.
//!
//! ```text
//!  init DIR ─▶ CA        issue DIR NAME ─▶ DIR/NAME, to be copied to the host
//!                        revoke DIR CERT ─▶ DIR/ca-crl.pem, to be copied to every host
//!  show PATH ─▶ what is there and whether it fits together
//! ```

mod lines;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use sealift_identity::Moment;
use sealift_identity::authority::{self, AuthorityError, Request};
use serde_json::json;

use crate::ending::whole;

/// Make certificates for hosts, take them back, show what they say.
///
/// Both ends of a migration show a certificate. Those that QEMU or libvirt already use work as they are; this makes new ones in
/// QEMU's layout: P-256 keys, one certificate for each role of a host.
#[derive(clap::Args)]
#[command(after_help = "\
Keep the CA's directory off the hosts: who has ca-key.pem can make a certificate for any name. Copy a host's directory there as \
it is, readable by the user that runs sealift.

Examples:
  sealift pki init ca
  sealift pki issue ca alpha.example.org --san 192.0.2.7
  scp -rp ca/alpha.example.org root@alpha.example.org:/etc/pki/sealift
  sealift pki show /etc/pki/sealift")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object for machines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Init(Init),
    Issue(Issue),
    Revoke(Revoke),
    Show(Show),
}

/// Ten years: replacing a CA means touching every host.
const AUTHORITY_DAYS: u32 = 3650;
/// Two years: a key that was lost unnoticed ends some day, and nobody renews all hosts every other month.
const HOST_DAYS: u32 = 730;

/// Make a CA: ca-cert.pem, and ca-key.pem for its user alone. One that exists is never replaced.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sealift pki init ca --name \"Example hosts\"")]
struct Init {
    /// Where to; made if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The CA's common name.
    #[arg(long, default_value = "sealift CA")]
    name: String,
    /// How long it is valid.
    #[arg(long, default_value_t = AUTHORITY_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
}

/// Issue a host's certificates: server-cert.pem for receiving, client-cert.pem for sending, each with its key, and the CA's beside
/// them.
#[derive(clap::Args)]
#[command(after_help = "\
NAME is what others call the host by (--to NAME) and let it in by (--allow NAME). A receiver that is called by other names or by \
its address needs these as well, each with --san.

Examples:
  sealift pki issue ca alpha.example.org
  sealift pki issue ca alpha --san alpha.example.org --san 192.0.2.7 --san 2001:db8::7")]
struct Issue {
    /// The CA's directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The host's DNS name or address.
    name: String,
    /// A further DNS name or address; may be given more than once.
    #[arg(long = "san", value_name = "NAME|IP")]
    alternatives: Vec<String>,
    /// How long they are valid; never longer than the CA.
    #[arg(long, default_value_t = HOST_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Where to, instead of NAME in the CA's directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the files of an earlier issue.
    #[arg(long)]
    replace: bool,
}

/// Revoke certificates: adds them to ca-crl.pem, which is to be copied to every host. A receiver or sender reads it when it starts.
#[derive(clap::Args)]
#[command(after_help = "\
The CA keeps a copy of each certificate, so that those of a host that is gone can be revoked.

Examples:
  sealift pki revoke ca alpha/client-cert.pem
  sealift pki revoke ca ca/issued/alpha.example.org-*.pem")]
struct Revoke {
    /// The CA's directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The certificates.
    #[arg(required = true, value_name = "CERT")]
    certificates: Vec<PathBuf>,
}

/// Show certificates: whom they are for, how long, and whether key, CA and list of revoked certificates fit.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sealift pki show /etc/pki/qemu
  sealift pki show --json /etc/pki/sealift/server-cert.pem | jq '.certificates[0].days_left'")]
struct Show {
    /// A directory in QEMU's or libvirt's layout, or one certificate.
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
}

/// Why it did not work.
pub(crate) enum Failure {
    Authority(AuthorityError),
    /// The result could not be written.
    Write(io::Error),
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(error) => f.write_str(&whole(error)),
            Self::Write(error) => write!(f, "cannot write the result: {error}"),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let now = Moment::now();
    let mut text = Vec::new();
    let result = match &arguments.command {
        Command::Init(init) => {
            authority::init(&init.directory, &init.name, init.days, now)?;
            let certificates = authority::show(&init.directory, now)?;
            lines::made(&mut text, &init.directory, &certificates).map(
                |()| json!({ "directory": text_of(&init.directory), "certificates": certificates }),
            )
        }
        Command::Issue(issue) => {
            let issued = authority::issue(&issue.directory, &issue.request(), now)?;
            let certificates = authority::show(&issued.directory, now)?;
            lines::issued(&mut text, &issued, &certificates).map(|()| {
                json!({
                    "directory": text_of(&issued.directory),
                    "replaced": issued.replaced,
                    "certificates": certificates,
                })
            })
        }
        Command::Revoke(revoke) => {
            let revoked = authority::revoke(&revoke.directory, &revoke.certificates, now)?;
            lines::revoked(&mut text, &revoked).map(
                |()| json!({ "list": text_of(&revoked.list), "new": revoked.new, "total": revoked.total }),
            )
        }
        Command::Show(show) => {
            let certificates = authority::show(&show.path, now)?;
            lines::certificates(&mut text, &certificates)
                .map(|()| json!({ "certificates": certificates }))
        }
    };
    let result = result.map_err(Failure::Write)?;
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        writeln!(out, "{result}")
    } else {
        out.write_all(&text)
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::Write),
    }
}

/// A path as JSON can have it: a name that is not UTF-8 gets replacement characters.
fn text_of(path: &Path) -> String {
    path.display().to_string()
}

impl Issue {
    fn request(&self) -> Request<'_> {
        Request {
            name: &self.name,
            alternatives: &self.alternatives,
            days: self.days,
            out: self.out.as_deref(),
            replace: self.replace,
        }
    }
}
