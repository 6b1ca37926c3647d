//! The one program of the guest "mix": process 1 under a Linux kernel, with nothing beside it.
//!
//! ```text
//!   kernel command line ─▶ environment ─▶ Plan
//!   fill all pages ─▶ ┌ check the next 16 ─▶ rewrite what is due ─▶ a line, if it is time ┐ ─▶ for ever
//!                     └───────────────────────────────◀──────────────────────────────────┘
//!   tick 17 pages 34816 bad 0 written 512 at 4.203911 stall 0.000213
//! ```
//!
//! A line follows on every so many pages checked: the number of the line, pages checked in all, those found damaged, pages rewritten, the
//! guest's own time in seconds since its start, and the longest time in seconds that passed between two looks at the clock since the line before.
//!
//! The kernel gives its unknown parameters to process 1 as environment, and the console as standard output: nothing needs to be mounted.
#![forbid(unsafe_code)]

mod load;
mod page;
mod random;

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use load::Load;
use page::Page;
use random::Random;

/// Pages of a MiB.
const PAGES_PER_MIB: u64 = 256;

/// Pages that are checked between two looks at the clock: far less than a millisecond's work, so that what is due is written in time.
const STRIDE: usize = 16;

/// At most so many are rewritten before the sweep goes on, whatever is due after a stall: it must not starve.
const MOST_AT_ONCE: u64 = 64;

/// Damaged pages that get a line of their own; the rest are only counted.
const SHOWN: u64 = 8;

fn main() -> std::io::Result<()> {
    let plan = Plan::from_environment();
    let mut memory = Memory::new(&plan);
    say(format_args!("mix ready pages {}", memory.pages.len()))?;
    memory.run(&plan)
}

/// What the guest is to do, from the kernel's command line.
struct Plan {
    /// What is in its pages, and what becomes of it.
    load: Load,
    /// Pages that it has.
    pages: u64,
    /// The first so many are rewritten.
    hot: u64,
    /// So many of them a second.
    rate: u64,
    /// Pages between two lines.
    tick: u64,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name: &str, otherwise: u64| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(otherwise)
        };
        let pages = number("mix_mib", 512).max(1) * PAGES_PER_MIB;
        Self {
            load: Load::named(&std::env::var("mix_load").unwrap_or_default()),
            pages,
            hot: (number("mix_hot_mib", 64).max(1) * PAGES_PER_MIB).min(pages),
            rate: number("mix_rate", 2000),
            tick: number("mix_tick", 2048).max(1),
        }
    }
}

/// The pages, and what is to be in them.
struct Memory {
    load: Load,
    pages: Vec<Page>,
    /// The version that each page must have: an old content of a page is whole in itself.
    versions: Vec<u64>,
    random: Random,
    checked: u64,
    bad: u64,
    written: u64,
}

impl Memory {
    fn new(plan: &Plan) -> Self {
        let count = usize::try_from(plan.pages).unwrap_or(usize::MAX);
        let mut pages = vec![Page::EMPTY; count];
        for (index, page) in (0..).zip(&mut pages) {
            page.fill(index, 0, plan.load.kind(index));
        }
        Self {
            load: plan.load,
            versions: vec![0; pages.len()],
            pages,
            random: Random::new(0),
            checked: 0,
            bad: 0,
            written: 0,
        }
    }

    fn run(&mut self, plan: &Plan) -> std::io::Result<()> {
        let start = Instant::now();
        let hot = usize::try_from(plan.hot).unwrap_or(usize::MAX);
        let (mut last, mut stall) = (Duration::ZERO, Duration::ZERO);
        let (mut next, mut lines) = (0, 0);
        loop {
            for _ in 0..STRIDE {
                self.check(next)?;
                next = (next + 1) % self.pages.len();
            }
            let now = start.elapsed();
            stall = stall.max(now.saturating_sub(last));
            last = now;
            let due = due(now, plan.rate);
            for _ in 0..due.saturating_sub(self.written).min(MOST_AT_ONCE) {
                self.rewrite(hot)?;
            }
            if self.checked / plan.tick > lines {
                lines = self.checked / plan.tick;
                self.report(lines, now, stall)?;
                stall = Duration::ZERO;
            }
            if let Some(nap) = self.load.nap() {
                thread::sleep(nap);
            }
        }
    }

    fn check(&mut self, place: usize) -> std::io::Result<()> {
        self.checked += 1;
        self.judge(place)
    }

    fn judge(&mut self, place: usize) -> std::io::Result<()> {
        let (page, version) = (&self.pages[place], self.versions[place]);
        if page.is_whole(place as u64, version) {
            return Ok(());
        }
        let claims = page.version();
        self.bad += 1;
        if self.bad <= SHOWN {
            say(format_args!(
                "BAD page {place} version {version}, it says {claims}"
            ))?;
        }
        // Counted once, not in every sweep.
        let index = place as u64;
        self.pages[place].fill(index, 0, self.load.kind(index));
        self.versions[place] = 0;
        Ok(())
    }

    /// A page is judged before it is rewritten: damage must not be covered up.
    fn rewrite(&mut self, hot: usize) -> std::io::Result<()> {
        let place = self.random.below(hot);
        self.judge(place)?;
        self.versions[place] += 1;
        let (page, index, version) = (&mut self.pages[place], place as u64, self.versions[place]);
        match self.load.renewed(index) {
            Some(kind) => page.fill(index, version, kind),
            None => page.rewrite(index, version, &mut self.random),
        }
        self.written += 1;
        Ok(())
    }

    fn report(&self, tick: u64, now: Duration, stall: Duration) -> std::io::Result<()> {
        say(format_args!(
            "tick {tick} pages {} bad {} written {} at {:.6} stall {:.6}",
            self.checked,
            self.bad,
            self.written,
            now.as_secs_f64(),
            stall.as_secs_f64()
        ))
    }
}

/// How many pages must have been rewritten by now.
fn due(now: Duration, rate: u64) -> u64 {
    let due = now.as_micros() * u128::from(rate) / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// One line, in one write, so that the kernel's own messages do not come between.
fn say(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
