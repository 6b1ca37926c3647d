//! What the tests need of the machine, and getting it: with the system's package manager as root,
//! else by saying exactly what is missing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Context, Error, backport};

/// A program, and the Debian package that has it.
const NEEDED: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("as", "binutils"),
    ("ld", "binutils"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ss", "iproute2"),
];

/// Installs everything that is missing. Quick and without network when nothing is.
///
/// Holds a lock file, so that test processes that run at the same time do not get in each other's way.
pub fn install() -> Result<(), Error> {
    let directory = target_directory();
    fs::create_dir_all(&directory).context(format!("cannot make {}", directory.display()))?;
    let path = directory.join("lab.lock");
    let lock = File::create(&path).context(format!("cannot make {}", path.display()))?;
    lock.lock()
        .context(format!("cannot lock {}", path.display()))?;

    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    missing.dedup();
    install_packages(&missing)?;
    backport::install()
}

/// Installs packages with apt, or says how to. Nothing to install needs nothing.
pub fn install_packages(packages: &[&str]) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        return Err(Error::new(format!(
            "these Debian packages, or what matches them here, must be installed: {list}"
        )));
    }
    if !is_root() {
        return Err(Error::new(format!(
            "packages are missing and only root can install them; run\n  \
             apt-get update && apt-get install --no-install-recommends {list}"
        )));
    }
    progress(&format!("installing {list}"));
    run(Command::new("apt-get").args(["-q", "update"]))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(packages))?;
    Ok(())
}

/// Runs a program to its end and returns what it wrote; an error carries its stderr.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context(format!("cannot run {name}"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect();
        return Err(Error::new(format!(
            "`{name} {}` failed ({}):\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program's path, looked up in PATH.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // `ip` and `tc` are here, and not everybody's PATH says so.
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Cargo's target directory; all that the lab makes and keeps is below it.
#[must_use]
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// One line for the person who waits.
#[expect(
    clippy::print_stderr,
    reason = "the lab's users are people at a terminal and a CI log"
)]
pub fn progress(line: &str) {
    eprintln!("lab: {line}");
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    // The owner of this process's own directory in /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
