//! A Linux guest with one program: Debian's cloud kernel, and an initial file system that holds nothing else.
//!
//! The kernel's package is unpacked, not installed, and fetched with an apt whose state is its own, so that the machine's stays as it is:
//!
//! ```text
//!   target/linux-cloud/
//!     apt/lists/, cache/       apt's private state; the machine's own sources
//!     packages/*.deb           what was downloaded
//!     root/boot/vmlinuz-…      what was unpacked; there only once it is whole
//!     PROGRAM.cpio             the file system of a guest
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, progress, run};
use crate::{Context, Error};

/// Debian's kernel for guests of clouds, the small one: always the newest, by depending on it.
const NEWEST: &str = "linux-image-cloud-amd64";

/// What every guest's command line has, beside what its program takes.
///
/// No reboot after a panic, so that its words stay; no random addresses, so that every run has the same memory; the processor's own clock,
/// because a clock that must be asked for by leaving the guest would be what the program measures; no trial of the timer, which fails, and
/// with it the guest, when the machine is so busy that an emulated processor does not come to run for some milliseconds.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=0 nokaslr tsc=reliable no_timer_check mitigations=off rdinit=/init";

/// What such a guest boots, and what is known of it.
#[derive(Clone, Debug)]
pub struct Linux {
    kernel: PathBuf,
    initramfs: PathBuf,
    command_line: String,
    memory: String,
    ticks_per_pass: u32,
}

impl Linux {
    /// A guest of so much memory (what `-m` takes) that runs this static program. `parameters` are words `name=value` without dots in the
    /// names: the kernel hands them to the program as its environment.
    ///
    /// The program prints lines as the lab's own image does; `ticks_per_pass` of them are one pass over its memory.
    pub fn with_program(
        program: &Path,
        parameters: &str,
        memory: &str,
        ticks_per_pass: u32,
    ) -> Result<Self, Error> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let members = [Member::file("init", program)?];
        Self::with_files(&name, &members, parameters, memory, ticks_per_pass)
    }

    /// The same with these files in its initial file system; `init` is its first program. `name` tells one such guest from another.
    pub(crate) fn with_files(
        name: &str,
        members: &[Member],
        parameters: &str,
        memory: &str,
        ticks_per_pass: u32,
    ) -> Result<Self, Error> {
        let _lock = lock(&directory())?;
        let kernel = kernel()?;
        let initramfs = directory().join(name).with_extension("cpio");
        let archive =
            archive(members).ok_or_else(|| Error::new(format!("{name}: a file is too large")))?;
        // Renamed into place: a QEMU that starts at this moment reads a whole one.
        let partial = initramfs.with_extension("partial");
        fs::write(&partial, archive).context(format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, &initramfs).context(format!("cannot make {}", initramfs.display()))?;
        Ok(Self {
            kernel,
            initramfs,
            command_line: format!("{COMMAND_LINE} {parameters}"),
            memory: memory.to_owned(),
            ticks_per_pass,
        })
    }

    pub(crate) fn kernel(&self) -> &Path {
        &self.kernel
    }

    pub(crate) fn initramfs(&self) -> &Path {
        &self.initramfs
    }

    pub(crate) fn command_line(&self) -> &str {
        &self.command_line
    }

    pub(crate) fn memory(&self) -> &str {
        &self.memory
    }

    pub(crate) fn ticks_per_pass(&self) -> u32 {
        self.ticks_per_pass
    }
}

/// A file or a folder of an initial file system.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    mode: u32,
    contents: Vec<u8>,
}

impl Member {
    /// A copy of a file, which all may read and run.
    pub(crate) fn file(name: &str, path: &Path) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            mode: 0o100_755,
            contents: fs::read(path).context(format!("cannot read {}", path.display()))?,
        })
    }

    /// A folder. It must come before what is in it.
    pub(crate) fn folder(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode: 0o040_755,
            contents: Vec::new(),
        }
    }
}

fn directory() -> PathBuf {
    tools::target_directory().join("linux-cloud")
}

/// Held while files are made in a directory: tests of several processes run at the same time.
pub(crate) fn lock(directory: &Path) -> Result<File, Error> {
    fs::create_dir_all(directory).context(format!("cannot make {}", directory.display()))?;
    let path = directory.join("lock");
    let lock = File::create(&path).context(format!("cannot make {}", path.display()))?;
    lock.lock()
        .context(format!("cannot lock {}", path.display()))?;
    Ok(lock)
}

/// Where the kernel's modules that drive devices are. There is one kernel.
pub(crate) fn drivers() -> Result<PathBuf, Error> {
    let _lock = lock(&directory())?;
    kernel()?;
    let modules = directory().join("root/lib/modules");
    fs::read_dir(&modules)
        .context(format!("cannot read {}", modules.display()))?
        .find_map(|entry| Some(entry.ok()?.path().join("kernel/drivers")))
        .ok_or_else(|| Error::new(format!("{} holds no modules", modules.display())))
}

/// The kernel's image, fetched if it is not there.
fn kernel() -> Result<PathBuf, Error> {
    let root = directory().join("root");
    if !root.is_dir() {
        fetch(&root)?;
    }
    let boot = root.join("boot");
    fs::read_dir(&boot)
        .context(format!("cannot read {}", boot.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("vmlinuz-"))
        })
        .ok_or_else(|| Error::new(format!("{} holds no kernel", boot.display())))
}

fn fetch(root: &Path) -> Result<(), Error> {
    progress("fetching a Linux kernel for guests");
    let apt = directory().join("apt");
    let packages = directory().join("packages");
    // An earlier attempt may have left another version.
    let _ = fs::remove_dir_all(&packages);
    for needed in [
        &apt.join("lists/partial"),
        &apt.join("cache/archives/partial"),
        &packages,
    ] {
        fs::create_dir_all(needed).context(format!("cannot make {}", needed.display()))?;
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&packages).arg("-q");
        for (option, path) in [
            ("Dir::State::Lists", apt.join("lists")),
            ("Dir::Cache", apt.join("cache")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        run(command.args(arguments))
    };
    apt_get(&["update"])?;
    apt_get(&["download", NEWEST])?;
    let newest = only_package(&packages)?;
    let depends = run(Command::new("dpkg-deb")
        .arg("-f")
        .arg(&newest)
        .arg("Depends"))?;
    let image = image_package(&depends)
        .ok_or_else(|| Error::new(format!("{NEWEST} depends on no kernel, but on {depends}")))?;
    fs::remove_file(&newest).context(format!("cannot remove {}", newest.display()))?;
    apt_get(&["download", image])?;

    let partial = directory().join("root.partial");
    let _ = fs::remove_dir_all(&partial);
    run(Command::new("dpkg")
        .arg("-x")
        .arg(only_package(&packages)?)
        .arg(&partial))?;
    fs::rename(&partial, root).context(format!("cannot make {}", root.display()))
}

fn only_package(packages: &Path) -> Result<PathBuf, Error> {
    fs::read_dir(packages)
        .context(format!("cannot read {}", packages.display()))?
        .find_map(|entry| Some(entry.ok()?.path()))
        .ok_or_else(|| Error::new("apt-get said that it had downloaded, and nothing is there"))
}

/// `linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1), …`
fn image_package(depends: &str) -> Option<&str> {
    depends
        .split([',', ' ', '\n'])
        .find(|word| word.starts_with("linux-image-"))
}

/// A `cpio` archive in the "newc" format that the kernel reads.
///
/// ```text
///   ┌ 110 bytes: 070701, then 13 numbers of 8 hexadecimal digits │ name 0 │ to 4 │ contents │ to 4 ┐ for each
///   └ the same with the name TRAILER!!! and no contents                                              ┘
/// ```
fn archive(members: &[Member]) -> Option<Vec<u8>> {
    let mut archive = Vec::new();
    for member in members {
        entry(&mut archive, &member.name, member.mode, &member.contents)?;
    }
    entry(&mut archive, "TRAILER!!!", 0, &[])?;
    Some(archive)
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) -> Option<()> {
    let length = u32::try_from(contents.len()).ok()?;
    let name_length = u32::try_from(name.len() + 1).ok()?;
    archive.extend_from_slice(b"070701");
    // inode, mode, owner, group, links, time, length, device (2), device of a device file (2), length of the name, checksum
    for field in [0, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0] {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_package_is_found_among_dependencies() {
        assert_eq!(
            image_package("linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)\n"),
            Some("linux-image-6.1.0-9-cloud-amd64")
        );
        assert_eq!(image_package("libc6 (>= 2.34)"), None);
    }

    #[test]
    fn an_archive_has_its_file_at_a_multiple_of_four_and_an_end() {
        let member = Member {
            contents: b"\x7fELF!".to_vec(),
            ..Member::folder("init")
        };
        let archive = archive(&[member]).unwrap();
        assert!(archive.starts_with(b"070701"));
        // 110 bytes and "init" with its zero, up to a multiple of four.
        assert_eq!(&archive[110..114], b"init");
        assert_eq!(&archive[116..121], b"\x7fELF!");
        assert_eq!(&archive[124..130], b"070701");
        assert_eq!(archive.len() % 4, 0);
        assert_eq!(&archive[124 + 110..][..10], b"TRAILER!!!");
    }
}
