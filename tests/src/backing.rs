//! What a guest's memory is made of, and how it can be reached from outside its QEMU.
//!
//! ```text
//!   private          pc.ram                 of the process alone
//!   shared memfd     mem0   ── memfd        a file that only its holders see
//!   used file        mem0   ── /dev/shm/…   full of what an earlier guest has left there, shared or seen privately
//!   huge             mem0   ── memfd of huge pages
//!   nodes            node0, node1           two blocks of main memory, and a guest that is in both
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::guest::Launch;
use crate::image::Workload;
use crate::qemu::{Machine, Qemu};
use crate::tools::run;
use crate::{Context, Error};

/// KiB of a block: not a multiple of 256, which QEMU 7.2 does not bear.
const KIB: u64 = 8200;
/// Of one made of huge pages, which are of 2 MiB: QEMU 7.2 does not bear it.
const HUGE_KIB: u64 = 8 << 10;
/// Where files are memory.
const SHARED_MEMORY: &str = "/dev/shm";
/// Bytes of the second flash device: a whole number of its blocks.
const FLASH: usize = 128 << 10;

/// A guest that rewrites all that it has, as fast as an emulated processor does, and checks it.
pub const HARD: Workload = Workload {
    pages: 640,
    hot: 640,
    gap: 60,
    tick: 320,
    seeds: 40,
};

/// The same with pages in all of two blocks, more slowly: it is to come to an end over a narrow link. The region begins at 2 MiB, and the firmware's tables are at the end.
const HARD_IN_BOTH: Workload = Workload {
    pages: 3300,
    hot: 3300,
    gap: 600,
    tick: 1100,
    ..HARD
};

/// One guest's memory; a file behind it goes when this is dropped.
#[derive(Debug)]
pub struct Backing {
    /// For whoever reads that a test has failed.
    pub name: &'static str,
    /// QEMU's names of the blocks of main memory.
    pub blocks: &'static [&'static str],
    /// The best way to read it from outside, as it is told.
    pub way: &'static str,
    /// The best way to write it.
    pub way_in: &'static str,
    machine: Machine,
    /// KiB of all of it.
    kib: u64,
    workload: Workload,
    arguments: Vec<String>,
    _directory: Option<TempDir>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Backing {
    /// What `-m` alone makes.
    #[must_use]
    pub fn private() -> Self {
        Self {
            name: "private memory",
            blocks: &["pc.ram"],
            way: "process",
            way_in: "process",
            machine: Machine::I440fx,
            kib: KIB,
            workload: HARD,
            arguments: vec![],
            _directory: None,
        }
    }

    /// One object with these properties.
    fn object(name: &'static str, way: &'static str, kib: u64, properties: &str) -> Self {
        let object = format!("{properties},id=mem0,size={kib}K");
        Self {
            name,
            blocks: &["mem0"],
            way,
            way_in: way,
            kib,
            arguments: words(&["-object", &object, "-machine", "memory-backend=mem0"]),
            ..Self::private()
        }
    }

    /// A file without a name.
    #[must_use]
    pub fn memfd() -> Self {
        let properties = "memory-backend-memfd,share=on";
        Self::object("shared memfd", "mapped", KIB, properties)
    }

    /// A view of such a file that nobody shares.
    #[must_use]
    pub fn private_memfd() -> Self {
        let properties = "memory-backend-memfd,share=off";
        Self::object("private view of a memfd", "process", KIB, properties)
    }

    /// A file that an earlier guest has left full, which is written to if `shared`.
    pub fn used_file(shared: bool) -> Result<Self, Error> {
        let directory = tempfile::tempdir_in(SHARED_MEMORY).context("cannot make a directory")?;
        let path = directory.path().join("ram");
        let old: Vec<u8> = (0..KIB << 10)
            .map(|at| (at >> 4 | 1).to_le_bytes()[0])
            .collect();
        fs::write(&path, old).context("cannot fill the memory's file")?;
        let share = if shared { "on" } else { "off" };
        let properties = format!(
            "memory-backend-file,share={share},mem-path={}",
            path.display()
        );
        let (name, way) = match shared {
            true => ("a shared file full of old data", "mapped"),
            false => ("a private view of a file full of old data", "process"),
        };
        Ok(Self {
            _directory: Some(directory),
            ..Self::object(name, way, KIB, &properties)
        })
    }

    /// Huge pages, which the machine needs to have set aside. Their file cannot be written to as a file.
    #[must_use]
    pub fn huge() -> Self {
        let properties = "memory-backend-memfd,share=on,hugetlb=on,hugetlbsize=2M";
        Self {
            way_in: "process",
            ..Self::object("huge pages", "mapped", HUGE_KIB, properties)
        }
    }

    /// Two blocks of main memory.
    #[must_use]
    pub fn nodes() -> Self {
        let node = |number: u32| {
            let object = format!("memory-backend-ram,id=node{number},size={KIB}K");
            words(&[
                "-object",
                &object,
                "-numa",
                &format!("node,memdev=node{number}"),
            ])
        };
        Self {
            name: "two NUMA nodes",
            blocks: &["node0", "node1"],
            kib: 2 * KIB,
            workload: HARD_IN_BOTH,
            arguments: [0, 1].map(node).concat(),
            ..Self::private()
        }
    }

    /// The PC of 2009.
    #[must_use]
    pub fn q35() -> Self {
        Self {
            name: "q35",
            machine: Machine::Q35,
            ..Self::private()
        }
    }

    /// The same with its firmware in a flash device, and a second one that holds these bytes and can be written. These are blocks that travel in
    /// the stream.
    pub fn q35_with_flash(held: u8) -> Result<Self, Error> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let file = |name: &str| directory.path().join(name);
        fs::copy(firmware()?, file("firmware")).context("cannot copy the firmware")?;
        fs::write(file("variables"), vec![held; FLASH]).context("cannot fill the flash")?;
        let flash = |name: &str, more: &str| {
            let path = file(name);
            let drive = format!("if=pflash,format=raw,file={}{more}", path.display());
            words(&["-drive", &drive])
        };
        Ok(Self {
            name: "q35 with flash devices",
            arguments: [flash("firmware", ",readonly=on"), flash("variables", "")].concat(),
            _directory: Some(directory),
            ..Self::q35()
        })
    }

    /// The same blocks, of memory of the process alone.
    #[must_use]
    pub fn private_twin(&self) -> Self {
        let arguments = self.arguments.iter().map(|argument| {
            match argument
                .strip_prefix("memory-backend-")
                .and_then(|rest| rest.split_once(",id="))
            {
                Some((_, id)) => format!("memory-backend-ram,id={id}"),
                None => argument.clone(),
            }
        });
        Self {
            name: self.name,
            way: "process",
            way_in: "process",
            arguments: arguments.collect(),
            _directory: None,
            ..*self
        }
    }

    /// A QEMU with this memory, and in it a guest that rewrites it hard.
    #[must_use]
    pub fn launch(&self, qemu: &Qemu) -> Launch {
        Launch::new(qemu, &qemu.machine(self.machine))
            .memory(&format!("{}K", self.kib))
            .workload(self.workload)
            .arguments(&self.arguments)
    }
}

/// The PC's firmware, by the package's own list of its files.
fn firmware() -> Result<String, Error> {
    let files = run(Command::new("dpkg").args(["-L", "seabios"]))?;
    let mut files = files.lines().map(Path::new);
    let found = files.find(|path| path.file_name().is_some_and(|name| name == FIRMWARE));
    match found {
        Some(path) => Ok(path.display().to_string()),
        None => Err(Error::new(format!("the package seabios has no {FIRMWARE}"))),
    }
}

const FIRMWARE: &str = "bios-256k.bin";

/// Huge pages for a test, given back when this is dropped.
#[derive(Debug)]
pub struct HugePages {
    before: String,
}

/// How many huge pages of the usual size are set aside.
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// Has the machine set so many more aside; none when it does not.
    pub fn more(pages: u64) -> Result<Option<Self>, Error> {
        let count = || -> Result<u64, Error> {
            let read = fs::read_to_string(HUGE_PAGES).context("asking for huge pages")?;
            read.trim().parse().context("the number of huge pages")
        };
        let before = count()?;
        let wanted = before + pages;
        if fs::write(HUGE_PAGES, wanted.to_string()).is_err() {
            return Ok(None);
        }
        // From here on they go back, whatever happens.
        let more = Self {
            before: before.to_string(),
        };
        Ok((count()? >= wanted).then_some(more))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(HUGE_PAGES, &self.before);
    }
}
