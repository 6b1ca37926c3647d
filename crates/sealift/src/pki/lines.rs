//! What people read.

use std::io::{self, Write};
use std::path::Path;

use sealift_identity::Moment;
use sealift_identity::authority::{Described, Issued, KeyState, Revocation, Trust};

pub(super) fn made(
    out: &mut impl Write,
    directory: &Path,
    authority: &[Described],
) -> io::Result<()> {
    writeln!(
        out,
        "Made a CA in {}. Keep ca-key.pem off the hosts.\n",
        directory.display()
    )?;
    certificates(out, authority)
}

pub(super) fn issued(
    out: &mut impl Write,
    issued: &Issued,
    described: &[Described],
) -> io::Result<()> {
    let directory = issued.directory.display();
    if issued.replaced {
        writeln!(
            out,
            "Replaced the certificates in {directory}. Those before stay valid until they are revoked."
        )?;
    }
    writeln!(
        out,
        "Copy {directory} to the host as it is, and name it there with --pki.\n"
    )?;
    certificates(out, described)
}

pub(super) fn revoked(out: &mut impl Write, revoked: &Revocation) -> io::Result<()> {
    let list = revoked.list.display();
    writeln!(
        out,
        "Certificates of this CA that are revoked: {}, of which new: {}.\n\
         Copy {list} to every host, beside its ca-cert.pem. What runs there reads it when it starts.",
        revoked.total, revoked.new
    )
}

pub(super) fn certificates(out: &mut impl Write, described: &[Described]) -> io::Result<()> {
    for (index, certificate) in described.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        one(out, certificate)?;
    }
    Ok(())
}

fn one(out: &mut impl Write, certificate: &Described) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "  {name:<12} {value}");
    let Described { subject, .. } = certificate;
    line("file", &certificate.file.display().to_string())?;
    line("subject", subject)?;
    if !certificate.authority {
        line("names", &certificate.names.join(", "))?;
    }
    line("use", usage(certificate))?;
    line("valid", &validity(certificate))?;
    line("issuer", &certificate.issuer)?;
    line(
        "trust",
        match certificate.trust {
            Trust::Signed if certificate.subject == certificate.issuer => "signed by itself",
            Trust::Signed => "signed by the CA beside it",
            Trust::NotSigned => "NOT signed by the CA beside it",
            Trust::NoAuthority => "unknown: no CA beside it",
        },
    )?;
    match &certificate.key {
        KeyState::Matches => line("key", "is beside it and belongs to it")?,
        KeyState::Differs => line("key", "beside it is ANOTHER certificate's")?,
        KeyState::Missing => line("key", "is not beside it")?,
        KeyState::Unusable { why } => line("key", why)?,
    }
    match certificate.revoked {
        Some(true) => line("revoked", "YES")?,
        Some(false) => line("revoked", "no")?,
        None => line("revoked", "unknown: no list (ca-crl.pem) beside it")?,
    }
    line("serial", &certificate.serial)?;
    line("SHA-256", &certificate.fingerprint)
}

fn usage(certificate: &Described) -> &'static str {
    match (
        certificate.authority,
        certificate.for_receivers,
        certificate.for_sources,
    ) {
        (true, ..) => "signing certificates",
        (_, true, true) => "sending and receiving guests",
        (_, true, false) => "receiving guests",
        (_, false, true) => "sending guests",
        (_, false, false) => "NEITHER sending NOR receiving guests",
    }
}

fn validity(certificate: &Described) -> String {
    let start = Moment::from_seconds(certificate.not_before);
    let end = Moment::from_seconds(certificate.not_after);
    let days = certificate.days_left;
    let state = match (certificate.in_date, days) {
        (false, ..0) => "EXPIRED".to_owned(),
        (false, _) => "NOT YET VALID".to_owned(),
        (true, 1) => "1 day left".to_owned(),
        (true, days) => format!("{days} days left"),
    };
    format!("{start} to {end}, {state}")
}
