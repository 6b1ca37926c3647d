//! Processor time of processes, with the threads that run the guest left out.
//!
//! ```text
//!  /proc/PID/stat        all threads, those that have ended among them; there until the process has been waited for
//!  /proc/PID/task/…      the living ones; QEMU with debug-threads=on calls those of a guest's processors "CPU 0/TCG", "CPU 0/KVM"
//! ```
//!
//! Threads of multifd end with their migration, so that the sum over living threads would miss them; those of the processors never end
//! before their process. So it is the process less its processors.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The kernel counts in these for user space, on every architecture that QEMU runs guests on.
const TICK: Duration = Duration::from_millis(10);

/// What some processes use from a moment on.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    pid: u32,
    begin: Used,
    now: Used,
}

/// So far.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    process: Duration,
    processors: Duration,
}

impl Meter {
    /// Counts a process from now on.
    pub(crate) fn add(&mut self, pid: u32) {
        let begin = Used::default().newer(pid);
        self.parts.push(Part {
            pid,
            begin,
            now: begin,
        });
    }

    /// Counts a process from its start on.
    pub(crate) fn add_whole(&mut self, pid: u32) {
        self.parts.push(Part {
            pid,
            begin: Used::default(),
            now: Used::default().newer(pid),
        });
    }

    /// Looks again. To be done now and then: of a process that has ended the processors can no longer be asked.
    pub(crate) fn look(&mut self) {
        for part in &mut self.parts {
            part.now = part.now.newer(part.pid);
        }
    }

    /// What all have used up to the last look.
    pub(crate) fn used(&self) -> Duration {
        let used = |part: &Part| {
            let process = part.now.process.saturating_sub(part.begin.process);
            let processors = part.now.processors.saturating_sub(part.begin.processors);
            process.saturating_sub(processors)
        };
        self.parts.iter().map(used).sum()
    }
}

impl Used {
    /// Never less than before: what can no longer be asked stays as it was.
    fn newer(self, pid: u32) -> Self {
        let directory = Path::new("/proc").join(pid.to_string());
        let process = Stat::read(&directory.join("stat")).map_or(Duration::ZERO, |stat| stat.used);
        Self {
            process: self.process.max(process),
            processors: self.processors.max(processors(&directory)),
        }
    }
}

fn processors(directory: &Path) -> Duration {
    let threads = fs::read_dir(directory.join("task")).into_iter().flatten();
    let threads = threads.flatten().map(|entry| entry.path());
    threads
        .filter(|thread| {
            let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
            name.starts_with("CPU ")
        })
        .filter_map(|thread| Some(Stat::read(&thread.join("stat"))?.used))
        .sum()
}

/// Whether a process has ended. It need not have been waited for.
pub(crate) fn has_ended(pid: u32) -> bool {
    Stat::read(&Path::new("/proc").join(pid.to_string()).join("stat"))
        .is_none_or(|stat| matches!(stat.state, 'Z' | 'X'))
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    used: Duration,
}

impl Stat {
    fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// `PID (NAME) STATE …`: the name may hold anything, closing brackets too.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
        // Its own user and system time, and that of children which it has waited for.
        let used = ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?;
        Some(Self {
            state: fields.first()?.chars().next()?,
            used: TICK * used,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) S (b) Z 1 7 7 0 -1 4194304 108 0 0 0 31 4 100 2 20 0 1 0 5 6 7";
        let expected = Stat {
            state: 'Z',
            used: Duration::from_millis(1370),
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn the_time_of_a_process_that_has_ended_is_still_counted() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let mut meter = Meter::default();
        meter.add_whole(child.id());
        while !has_ended(child.id()) {
            std::thread::yield_now();
        }
        meter.look();
        child.wait().unwrap();
        let used = meter.used();
        assert!(used > Duration::ZERO);
        meter.look();
        assert_eq!(meter.used(), used);
    }
}
