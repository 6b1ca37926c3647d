//! A Debian guest with real programs: PostgreSQL and nginx at work, a page cache full of Debian's files, and a clerk who compares.
//!
//! The disk is made once, by debootstrap from the machine's own mirror. `tests/debian` has what is run in it, `tests/clerk` the program that
//! keeps it busy; these are not on the disk but in the initial file system, and so always as they are now.
//!
//! ```text
//!   target/debian/
//!     root.partial/       while it is made
//!     disk-N.ext4         2 GiB, sparse: nobody writes to it
//!       ▲
//!   DIRECTORY/disk.qcow2  what one run's guest has written, at whichever host it is
//! ```

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::linux::{self, Linux, Member};
use crate::tools::{self, progress, run};
use crate::{Context as _, Error, backport, static_program};

/// What is installed beside what Debian cannot do without: the two servers, and as much more as makes a gigabyte's page cache full.
const PACKAGES: &str = "postgresql,nginx-light,perl,python3,git,busybox-static";

/// Goes into the disk's name. To be raised when what is on it changes: [`PACKAGES`], `prepare` or `bank.sql`.
const RECIPE: u32 = 1;

/// Less than what is on the disk and what the database has for itself: the page cache has no room left over.
const MEMORY: &str = "1G";

/// The disk. Its file holds only what is used of it.
const DISK: &str = "2G";

/// Needed to build it, and the packages that have them.
const TOOLS: [(&str, &str); 3] = [
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
];

/// What the disk takes, of the kernel's modules. `init` knows the order.
const MODULES: [&str; 6] = [
    "virtio/virtio.ko",
    "virtio/virtio_ring.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
];

/// The guest, ready to be launched.
#[derive(Clone, Debug)]
pub struct Debian {
    linux: Linux,
    disk: PathBuf,
}

impl Debian {
    /// Takes root and, the first time, a network and some minutes.
    pub fn new() -> Result<Self, Error> {
        let disk = disk()?;
        let modules = linux::drivers()?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian");
        let mut members = vec![
            Member::file("init", &sources.join("init"))?,
            Member::file("start", &sources.join("start"))?,
            Member::file("clerk", &static_program::build("sealift-clerk")?)?,
            Member::file("bin/busybox", &directory().join("busybox"))?,
        ];
        for module in MODULES {
            let name = Path::new(module).file_name().unwrap_or_default();
            let name = format!("modules/{}", name.to_string_lossy());
            members.push(Member::file(&name, &modules.join(module))?);
        }
        for folder in ["bin", "dev", "modules", "root"] {
            members.insert(0, Member::folder(folder));
        }
        Ok(Self {
            // It is not told how many lines are a pass: it tells of audits.
            linux: Linux::with_files("debian", &members, "", MEMORY, 1)?,
            disk,
        })
    }

    /// What a [`Launch`](crate::guest::Launch) boots.
    #[must_use]
    pub fn linux(&self) -> &Linux {
        &self.linux
    }

    /// A disk for one guest, in this directory; both hosts have it, as with shared storage. Returns QEMU's arguments.
    pub fn disk(&self, directory: &Path) -> Result<Vec<OsString>, Error> {
        let overlay = directory.join("disk.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&self.disk, &overlay]))?;
        let mut drive = OsString::from("if=none,id=disk,format=qcow2,file=");
        drive.push(&overlay);
        // Nothing of it is to outlive the machine: what the guest flushes may stay in memory, so that no real disk is what is measured.
        drive.push(",cache=unsafe");
        let device = ["-device", "virtio-blk-pci,drive=disk"].map(OsString::from);
        Ok([vec!["-drive".into(), drive], device.to_vec()].concat())
    }
}

/// How often everything has been compared, by what the guest has said.
#[must_use]
pub fn audits(said: &str) -> u64 {
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers = whole.lines().filter_map(|line| {
        let number = line.trim().strip_prefix("audit ")?;
        number.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

fn directory() -> PathBuf {
    let directory = tools::target_directory().join("debian");
    std::path::absolute(&directory).unwrap_or(directory)
}

/// The disk, made if it is not there.
fn disk() -> Result<PathBuf, Error> {
    let directory = directory();
    let _lock = linux::lock(&directory)?;
    let disk = directory.join(format!("disk-{RECIPE}.ext4"));
    let missing = TOOLS.iter().filter(|(tool, _)| tools::find(tool).is_none());
    let missing: Vec<&str> = missing.map(|&(_, package)| package).collect();
    tools::install_packages(&missing)?;
    if !disk.is_file() {
        if !tools::is_root() {
            return Err(Error::new(
                "making the Debian guest's disk takes root: it installs packages in a folder",
            ));
        }
        progress("making a Debian guest's disk, which takes some minutes and 3 GB below target/");
        make(&directory, &disk)?;
    }
    Ok(disk)
}

fn make(directory: &Path, disk: &Path) -> Result<(), Error> {
    let (codename, mirror) = backport::release()?;
    let root = directory.join("root.partial");
    // An earlier attempt may have left half of one.
    let _ = fs::remove_dir_all(&root);
    run(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}")])
        .arg(&codename)
        .args([root.as_os_str(), mirror.as_ref()]))?;

    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian");
    for name in ["prepare", "bank.sql"] {
        copy(&sources.join(name), &root.join("tmp").join(name))?;
    }
    run(Command::new("chroot")
        .arg(&root)
        .args(["/bin/sh", "/tmp/prepare"]))?;

    copy(&root.join("bin/busybox"), &directory.join("busybox"))?;
    let partial = disk.with_extension("partial");
    let _ = fs::remove_file(&partial);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-d"])
        .args([&root, &partial])
        .arg(DISK))?;
    fs::rename(&partial, disk).context(format!("cannot make {}", disk.display()))?;
    let _ = fs::remove_dir_all(&root);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).context(format!(
        "cannot copy {} to {}",
        from.display(),
        to.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_tell_of_audits() {
        assert_eq!(audits("clerk ready\r\naudit 2\r\ntick 9\naudit 3"), 2);
        assert_eq!(audits(""), 0);
    }
}
