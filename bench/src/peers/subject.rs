//! The guests that are moved: how each is started, when it may be looked at, and when it has proved that nothing of it was lost.

use std::path::Path;
use std::time::{Duration, Instant};

use sealift_lab::Error;
use sealift_lab::debian::{Debian, audits};
use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::linux::Linux;
use sealift_lab::mix::{Line, Mix};
use sealift_lab::qemu::Qemu;

use super::row::Work;

/// Seconds on the guest's clock before it is looked at: rewriting has begun everywhere, and the kernel has nothing left to set up.
const SETTLE: f64 = 4.0;

/// After the move the guest must go on for so many seconds on its clock: what goes wrong in the kernel shows later than in the pages.
const GO_ON: f64 = 3.0;

/// Each page is checked so often after the move: once more than what the sweep may be in the midst of.
const PASSES_AFTER: u64 = 2;

/// The same for the books and files of a Debian.
const AUDITS_AFTER: u64 = 2;

/// A Debian boots, starts a database and reads its disk, all on an emulated processor.
const BOOT: Duration = Duration::from_secs(240);

/// How often a guest's lines are read while nothing is measured.
const LOOK: Duration = Duration::from_millis(100);

/// A guest that can be started as often as it is wanted.
#[derive(Debug)]
pub(super) enum Subject {
    Mix(Mix, Linux),
    Debian(Debian),
}

/// How far a guest was at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    pub(super) line: Line,
    audits: u64,
}

impl Subject {
    /// Builds what is missing of it.
    pub(super) fn new(work: Work) -> Result<Self, Error> {
        Ok(match work {
            Work::Mix(mix) => Self::Mix(mix, mix.linux()?),
            Work::Debian => Self::Debian(Debian::new()?),
        })
    }

    /// How it is started at either end, for one move: its disk, if it has one, is in this directory.
    pub(super) fn launch(
        &self,
        qemu: &Qemu,
        machine: &str,
        directory: &Path,
    ) -> Result<Launch, Error> {
        let launch = match self {
            Self::Mix(_, linux) => Launch::linux(qemu, machine, linux),
            Self::Debian(debian) => {
                let disk = debian.disk(directory)?;
                Launch::linux(qemu, machine, debian.linux()).arguments(disk)
            }
        };
        // With the names of threads: what runs the guest is told from what moves it.
        Ok(launch.arguments(["-name", "guest,debug-threads=on"]))
    }

    /// Seconds on the guest's clock for which it is looked at undisturbed. A Debian's work is less even.
    pub(super) fn undisturbed(&self) -> f64 {
        match self {
            Self::Mix(..) => 3.0,
            Self::Debian(_) => 8.0,
        }
    }

    /// Waits until it does what it will do from then on.
    pub(super) fn settle(&self, guest: &mut Guest) -> Result<Stand, Error> {
        let first = match self {
            Self::Mix(..) => 0,
            Self::Debian(_) => 1,
        };
        let settled = |stand: &Stand| stand.line.at >= SETTLE && stand.audits >= first;
        self.wait(guest, settled)
    }

    /// Waits until the guest's clock shows this.
    pub(super) fn wait_clock(&self, guest: &mut Guest, at: f64) -> Result<Stand, Error> {
        self.wait(guest, |stand| stand.line.at >= at)
    }

    /// Waits until it has looked at all that it has since it was left there, and lives.
    pub(super) fn goes_on(&self, guest: &mut Guest, left: Stand) -> Result<(), Error> {
        let pages = match self {
            Self::Mix(mix, _) => PASSES_AFTER * mix.pages(),
            Self::Debian(_) => 0,
        };
        let audits = match self {
            Self::Mix(..) => 0,
            Self::Debian(_) => left.audits + AUDITS_AFTER,
        };
        let proved = |stand: &Stand| {
            stand.line.checked >= left.line.checked + pages
                && stand.line.at >= left.line.at + GO_ON
                && stand.audits >= audits
        };
        self.wait(guest, proved).map(drop)
    }

    /// An error as soon as the guest has found damage or has ended.
    fn wait(&self, guest: &mut Guest, wanted: impl Fn(&Stand) -> bool) -> Result<Stand, Error> {
        let patience = match self {
            Self::Mix(..) => PATIENCE,
            Self::Debian(_) => BOOT,
        };
        let deadline = Instant::now() + patience;
        loop {
            // This is what notices damage.
            guest.serial().progress()?;
            if let Some(stand) = Stand::of(guest)?.filter(&wanted) {
                return Ok(stand);
            }
            guest.alive()?;
            let said = guest.serial().text()?;
            if Instant::now() >= deadline || said.contains("Kernel panic") {
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                return Err(Error::new(format!(
                    "it does not go on; the newest it said:\n{}",
                    last.join("\n")
                )));
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Stand {
    /// As of the newest line, if there is one.
    pub(super) fn of(guest: &Guest) -> Result<Option<Self>, Error> {
        let said = guest.serial().text()?;
        let line = Line::all(&said).last().copied();
        Ok(line.map(|line| Self {
            line,
            audits: audits(&said),
        }))
    }
}
