//! The image that every guest of the lab boots: `tests/guest/counter.S`, assembled when it is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::tools::run;

/// How the guest behaves; its source says what the numbers mean.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Pages in the region, which begins at 2 MiB.
    pub pages: u32,
    /// How many of them are rewritten.
    pub hot: u32,
    /// Time between two pages, in 1024 turns of the TSC.
    pub gap: u32,
    /// Pages between two lines on the serial port.
    pub tick: u32,
    /// How many different fillers there are of each kind that has several.
    pub seeds: u32,
}

impl Workload {
    /// For fixtures: 768 KiB of pages, all rewritten, about 2000 a second, and little entropy, so that what
    /// is checked in stays small.
    pub const SMALL: Self = Self {
        pages: 192,
        hot: 192,
        gap: 1500,
        tick: 64,
        seeds: 2,
    };

    /// What the guest reads from its command line.
    #[must_use]
    pub fn command_line(&self) -> String {
        let Self {
            pages,
            hot,
            gap,
            tick,
            seeds,
        } = self;
        format!("pages={pages} hot={hot} gap={gap} tick={tick} seeds={seeds}")
    }
}

/// Assembles the image into `directory` and returns its path.
pub fn build(directory: &Path) -> Result<PathBuf, Error> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
    let object = directory.join("counter.o");
    let image = directory.join("counter.elf");
    run(Command::new("as")
        .arg("--32")
        .arg(sources.join("counter.S"))
        .arg("-o")
        .arg(&object))?;
    run(Command::new("ld")
        .args(["-m", "elf_i386", "--no-warn-rwx-segments", "-T"])
        .arg(sources.join("counter.ld"))
        .arg("-o")
        .arg(&image)
        .arg(&object))?;
    Ok(image)
}
