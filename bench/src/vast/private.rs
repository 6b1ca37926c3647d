//! The memory that a process has for itself alone, at its most.
//!
//! ```text
//!  /proc/PID/status   RssAnon   what is there of it now, looked at again and again
//!                     VmHWM     the most that was ever there, its program's own pages included: as the kernel counts, so nothing is missed
//! ```

use std::fs;

/// Bytes, at the most up to the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Private {
    /// Its own.
    pub anonymous: u64,
    /// The same, and what of its program's files was in memory. Never less than its own, since no look is too late for it.
    pub resident: u64,
}

impl Private {
    /// Looks again. A process that has ended has no memory: what was seen before stays.
    pub(super) fn look(&mut self, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        self.note(&status);
    }

    fn note(&mut self, status: &str) {
        let bytes = |field: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
            let kib: Option<u64> = value.and_then(|value| value.trim().parse().ok());
            kib.unwrap_or(0) << 10
        };
        self.anonymous = self.anonymous.max(bytes("RssAnon:"));
        self.resident = self.resident.max(bytes("VmHWM:"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_kept() {
        let mut private = Private::default();
        private.note("VmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\nRssAnon:\t    7000 kB\n");
        private.note("VmHWM:\t    9000 kB\nRssAnon:\t      12 kB\n");
        private.note("State:\tZ (zombie)\n");
        assert_eq!(private.anonymous, 7000 << 10);
        assert_eq!(private.resident, 9000 << 10);
    }

    #[test]
    fn this_process_has_memory() {
        let mut private = Private::default();
        private.look(std::process::id());
        assert!(private.anonymous > 0 && private.resident >= private.anonymous);
    }
}
