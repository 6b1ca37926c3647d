//! A bound on what all lanes send together.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Hands out the link's time: who wants to send gets the next stretch of it, and waits until that begins.
#[derive(Debug)]
pub(super) struct Limit {
    bytes_per_s: u64,
    /// When the link is free again.
    free: Mutex<Instant>,
}

impl Limit {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may go out.
    pub(super) fn wait_for(&self, bytes: u64) {
        let begins = {
            let mut free = lock(&self.free);
            // Time that nobody used is gone: no burst follows a pause.
            let begins = (*free).max(Instant::now());
            *free = begins + self.stretch(bytes);
            begins
        };
        thread::sleep(begins.saturating_duration_since(Instant::now()));
    }

    fn stretch(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * NANOS / u128::from(self.bytes_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_its_share_of_a_second() {
        let limit = Limit::new(1_000_000);
        assert_eq!(limit.stretch(250_000), Duration::from_millis(250));
        assert_eq!(limit.stretch(0), Duration::ZERO);
    }

    #[test]
    fn what_is_promised_adds_up() {
        let limit = Limit::new(1_000_000_000);
        let before = *lock(&limit.free);
        for _ in 0..10 {
            limit.wait_for(100_000);
        }
        assert!(*lock(&limit.free) >= before + Duration::from_millis(1));
    }
}
