//! How the source divides the memory that it may take.
//!
//! ```text
//!   --memory-budget   │ on its way │ workers │ windows │ what was sent │
//!                       fixed        each      a quarter of what is left, at most one for each worker
//! ```
//!
//! The receiver takes as much for what is on its way, and what both agree on for contents and windows: no more than the source has for them.

use sealift::units::MemoryBudget;
use sealift_pages::WINDOW_MEMORY;
use sealift_session::flight::HELD_MAX;

/// What a worker takes: its batch as it was read, arranged, and compressed on a window and alone, its patches, and a compressor.
const WORKER: u64 = 8 << 20;

/// Shares of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Threads that compress.
    pub(crate) workers: usize,
    /// Bytes to remember contents by, windows included.
    pub(crate) contents: u64,
}

impl Shares {
    /// A worker for each processor, as long as they leave half of what there is to remember contents.
    pub(crate) fn new(budget: MemoryBudget, processors: usize) -> Self {
        let free = budget.bytes().saturating_sub(HELD_MAX);
        let afforded = usize::try_from(free / 2 / WORKER).unwrap_or(usize::MAX);
        let workers = processors.min(afforded).max(1);
        Self {
            workers,
            contents: free.saturating_sub(workers as u64 * WORKER),
        }
    }

    /// What of it may go into windows.
    pub(crate) fn windows(self) -> u64 {
        (self.contents / 4).min(self.workers as u64 * WINDOW_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(budget: &str, processors: usize) -> Shares {
        Shares::new(budget.parse().unwrap(), processors)
    }

    #[test]
    fn all_of_it_together_is_the_budget() {
        for (budget, bytes) in [
            ("128MiB", 128 << 20),
            ("512MiB", 512 << 20),
            ("4GiB", 4 << 30),
        ] {
            for processors in [1, 2, 16, 256] {
                let Shares { workers, contents } = shares(budget, processors);
                assert!(workers <= processors);
                assert_eq!(HELD_MAX + workers as u64 * WORKER + contents, bytes);
            }
        }
    }

    #[test]
    fn many_processors_do_not_take_what_remembers() {
        assert_eq!(shares("128MiB", 64).workers, 2);
        assert_eq!(shares("512MiB", 64).workers, 26);
        assert_eq!(shares("512MiB", 2).workers, 2);
    }

    #[test]
    fn a_window_is_for_a_worker() {
        assert_eq!(shares("4GiB", 2).windows(), 2 * WINDOW_MEMORY);
        let little = shares("128MiB", 2);
        assert_eq!(little.windows(), little.contents / 4);
    }
}
