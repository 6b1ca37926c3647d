//! Certificates for two hosts, and every kind that must be refused.
//!
//! ```text
//!  DIR/ca/…          the CA that both hosts trust
//!      host-a/…      the source's files      host-b/…   the receiver's
//!      NAME/…        further ones, each with one thing wrong
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use sealift_identity::Moment;
use sealift_identity::authority::{self, Request};
use tempfile::TempDir;

use crate::{Context, Error};

/// How long certificates of the lab are valid: longer than any test.
const DAYS: u32 = 30;
/// The CA is older and lives longer than anything that it signs here.
const CA_DAYS: u32 = 36_500;
/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;

/// A CA and what it issued.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

/// What a certificate is valid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Now,
    /// It was once.
    Expired,
    /// It will be.
    NotYet,
}

impl Certificates {
    /// Makes the CA.
    pub fn new() -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("sealift-lab-pki-")
            .tempdir()
            .context("cannot make a directory")?;
        let long_ago = shifted(-10 * 365);
        authority::init(&directory.path().join("ca"), "lab", CA_DAYS, long_ago)
            .context("making a CA")?;
        Ok(Self { directory })
    }

    /// Issues a host's files, in a directory of the host's name.
    pub fn issue(&self, name: &str, address: &str, validity: Validity) -> Result<PathBuf, Error> {
        let now = match validity {
            Validity::Now => Moment::now(),
            Validity::Expired => shifted(-365),
            Validity::NotYet => shifted(365),
        };
        let alternatives = [address.to_owned(), "localhost".to_owned()];
        let out = self.path(name);
        let request = Request {
            name,
            alternatives: &alternatives,
            days: DAYS,
            out: Some(&out),
            replace: false,
        };
        authority::issue(&self.path("ca"), &request, now)
            .context(format!("issuing certificates for {name}"))?;
        Ok(out)
    }

    /// Revokes the client's certificate in `of`, and gives the list of revoked ones to the host with the files in `to`.
    pub fn revoke_client(&self, of: &Path, to: &Path) -> Result<(), Error> {
        let list = authority::revoke(
            &self.path("ca"),
            &[of.join("client-cert.pem")],
            Moment::now(),
        )
        .context("revoking")?
        .list;
        copy(&list, &to.join("ca-crl.pem"))
    }

    /// Where a host's files are.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Lets a host that connects show the certificate that it was given to be connected to.
pub fn show_the_servers_as_clients(files: &Path) -> Result<(), Error> {
    copy(
        &files.join("server-cert.pem"),
        &files.join("client-cert.pem"),
    )?;
    copy(&files.join("server-key.pem"), &files.join("client-key.pem"))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).context(format!("cannot copy to {}", to.display()))?;
    Ok(())
}

/// So many days from now.
fn shifted(days: i64) -> Moment {
    Moment::from_seconds(Moment::now().seconds().saturating_add(days * DAY))
}
