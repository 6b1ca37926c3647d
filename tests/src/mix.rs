//! The guest "mix" and its relatives: 1 GiB with a Linux kernel and one program, whose memory is of the kinds that real guests have.
//!
//! `tests/mix` is the program and says what it does. Here it is built, given to a kernel, and its lines are read.

use crate::linux::Linux;
use crate::{Error, static_program};

/// What `-m` takes. The kernel and its own tables take some tens of MiB beside the program's pages.
const MEMORY: &str = "1G";

/// Pages of a MiB.
const PAGES_PER_MIB: u32 = 256;

/// Pages between two lines: an emulated processor checks some 500,000 a second, which makes sixty lines a second; printing them takes little of its time.
const PAGES_PER_TICK: u32 = 8192;

/// Of an idle guest, which checks some 1,500 pages a second: it makes as many lines as a busy one.
const PAGES_PER_IDLE_TICK: u32 = 32;

/// MiB of an idle guest's pages: it is to come around in some seconds.
const IDLE_MIB: u32 = 16;

/// What "mix" is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// What is in its pages, and what becomes of it.
    pub load: Load,
    /// MiB of pages that check themselves.
    pub mib: u32,
    /// So many of them are rewritten each second …
    pub rate: u32,
    /// … chosen among the first so many MiB.
    pub hot_mib: u32,
}

/// The kinds of guest that its program can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Pages of five kinds; a rewriting changes eight words.
    Mix,
    /// Pages of five kinds; a rewriting makes a wholly different page, easy to compress.
    Churn,
    /// Nine of ten pages cannot be compressed; a rewriting changes eight words.
    Random,
    /// It mostly sleeps.
    Idle,
}

impl Load {
    /// As the program knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Churn => "churn",
            Self::Random => "random",
            Self::Idle => "idle",
        }
    }
}

/// One line of "mix".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Pages checked since the start: the guest's work.
    pub checked: u64,
    /// Those of them that were not what they had to be.
    pub bad: u64,
    /// Pages rewritten since the start.
    pub written: u64,
    /// Seconds since the start on the guest's clock, which stands while the guest is stopped.
    pub at: f64,
    /// The longest time since the line before, in seconds, that the program did not come to look at the clock.
    pub stall: f64,
}

impl Mix {
    /// 512 MiB, with so many pages a second rewritten in so many MiB.
    #[must_use]
    pub const fn rewriting(load: Load, rate: u32, hot_mib: u32) -> Self {
        Self {
            load,
            mib: 512,
            rate,
            hot_mib,
        }
    }

    /// A guest that has next to nothing to do.
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            load: Load::Idle,
            mib: IDLE_MIB,
            rate: 0,
            hot_mib: 1,
        }
    }

    /// What a [`Launch`](crate::guest::Launch) boots. The first time it builds the program and fetches a kernel.
    pub fn linux(&self) -> Result<Linux, Error> {
        let program = static_program::build("sealift-mix")?;
        let Self {
            load,
            mib,
            rate,
            hot_mib,
        } = self;
        let tick = match load {
            Load::Idle => PAGES_PER_IDLE_TICK,
            Load::Mix | Load::Churn | Load::Random => PAGES_PER_TICK,
        };
        let load = load.name();
        let parameters = format!(
            "mix_load={load} mix_mib={mib} mix_rate={rate} mix_hot_mib={hot_mib} mix_tick={tick}"
        );
        let ticks_per_pass = (mib * PAGES_PER_MIB).div_ceil(tick);
        Linux::with_program(&program, &parameters, MEMORY, ticks_per_pass)
    }

    /// Pages that check themselves.
    #[must_use]
    pub fn pages(&self) -> u64 {
        u64::from(self.mib) * u64::from(PAGES_PER_MIB)
    }
}

impl Line {
    /// All whole lines of what a guest has said. After a migration the first may lack its beginning, and is left out.
    #[must_use]
    pub fn all(said: &str) -> Vec<Self> {
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [
                "tick",
                _,
                "pages",
                checked,
                "bad",
                bad,
                "written",
                written,
                "at",
                at,
                "stall",
                stall,
            ] => Some(Self {
                checked: checked.parse().ok()?,
                bad: bad.parse().ok()?,
                written: written.parse().ok()?,
                at: at.parse().ok()?,
                stall: stall.parse().ok()?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_and_others_are_not() {
        let said = "ges 4096 bad 0 written 9 at 0.5 stall 0.1\r\n\
                    mix ready pages 131072\r\n\
                    tick 2 pages 4096 bad 0 written 12 at 0.250000 stall 0.000100\r\n\
                    tick 3 pages 6144 bad 1 writ";
        let expected = Line {
            checked: 4096,
            bad: 0,
            written: 12,
            at: 0.25,
            stall: 0.0001,
        };
        assert_eq!(Line::all(said), [expected]);
        assert_eq!(Line::all(""), []);
    }
}
