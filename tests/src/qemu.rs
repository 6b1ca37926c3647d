//! The QEMUs on this machine and the machine types that they have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::hosts::Host;
use crate::tools::{self, progress, run};
use crate::{Context, Error, backport};

/// One QEMU that can be run.
#[derive(Clone, Debug)]
pub struct Qemu {
    binary: PathBuf,
    /// Where an unpacked QEMU finds its firmware; an installed one knows.
    data: Vec<PathBuf>,
    version: (u32, u32),
    full_version: String,
}

/// A machine type, without its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The PC of 1996, `pc`.
    I440fx,
    /// The PC of 2009.
    Q35,
    /// No PCI, no legacy; it has no versions either.
    Microvm,
}

impl Machine {
    /// The name that `-M` takes, of the given QEMU release: `pc-q35-7.2`.
    #[must_use]
    pub fn of_release(self, release: &str) -> String {
        match self {
            Self::I440fx => format!("pc-i440fx-{release}"),
            Self::Q35 => format!("pc-q35-{release}"),
            Self::Microvm => "microvm".to_owned(),
        }
    }
}

/// Installs what is missing and returns every QEMU of this machine, the oldest first. There are two,
/// 7.2 and 10.0, where the distribution's is older than 10.0, and else one.
pub fn all() -> Result<Vec<Qemu>, Error> {
    tools::install()?;
    let distribution = distribution()?;
    if distribution.is_modern() {
        progress(&format!(
            "NOT TESTED: QEMU 7.2. This machine's own QEMU is {} and there is no older one beside it",
            distribution.full_version
        ));
        return Ok(vec![distribution]);
    }
    Ok(vec![distribution, unpacked()?])
}

/// The one that the distribution installed.
pub(crate) fn distribution() -> Result<Qemu, Error> {
    let binary = tools::find("qemu-system-x86_64").ok_or_else(|| {
        Error::new("qemu-system-x86_64 is not in PATH (Debian package qemu-system-x86)")
    })?;
    Qemu::new(binary, Vec::new())
}

fn unpacked() -> Result<Qemu, Error> {
    let root = backport::root();
    let data = vec![root.join("usr/share/qemu"), root.join("usr/share/seabios")];
    Qemu::new(root.join(backport::BINARY), data)
}

impl Qemu {
    fn new(binary: PathBuf, data: Vec<PathBuf>) -> Result<Self, Error> {
        let printed = run(Command::new(&binary).arg("--version"))?;
        let full_version = parse_version(&printed).ok_or_else(|| {
            Error::new(format!(
                "{} printed no version: {printed}",
                binary.display()
            ))
        })?;
        let version =
            parse_release(full_version).context(format!("the version of {}", binary.display()))?;
        Ok(Self {
            binary,
            data,
            version,
            full_version: full_version.to_owned(),
        })
    }

    /// `7.2` or `10.0`: what names a release and its machine types.
    #[must_use]
    pub fn release(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// As QEMU prints it, with the package's version.
    #[must_use]
    pub fn full_version(&self) -> &str {
        &self.full_version
    }

    /// Whether it is 10.0 or later.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        self.version >= (10, 0)
    }

    /// This release's own version of a machine type.
    #[must_use]
    pub fn machine(&self, machine: Machine) -> String {
        machine.of_release(&self.release())
    }

    /// A command that runs it, with nothing but its data directories set, on a host if there is one.
    ///
    /// It ends with the thread that started it, so that a test or a demo that is killed leaves no guest behind; setpriv belongs to
    /// every Debian.
    pub(crate) fn command(&self, host: Option<&Host>) -> Command {
        let mut command = match host {
            Some(host) => host.command(&self.binary),
            None => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--pdeathsig", "KILL", "--"])
                    .arg(&self.binary);
                command
            }
        };
        for directory in &self.data {
            command.args([OsString::from("-L"), directory.into()]);
        }
        command
    }
}

/// `QEMU emulator version 7.2.22 (Debian …)` and more lines.
fn parse_version(printed: &str) -> Option<&str> {
    printed
        .lines()
        .next()?
        .strip_prefix("QEMU emulator version ")
}

fn parse_release(version: &str) -> Result<(u32, u32), Error> {
    let mut numbers = version.split(['.', ' ']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Error::new(format!(
            "`{version}` does not begin with two numbers"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_qemu_prints() {
        let printed = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright\n";
        let version = parse_version(printed).unwrap();
        assert_eq!(version, "10.0.2 (Debian 1:10.0.2+ds-2)");
        assert_eq!(parse_release(version).unwrap(), (10, 0));
        assert!(parse_release("git").is_err());
    }
}
