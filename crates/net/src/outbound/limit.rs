//! A bound on what all lanes send together.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Hands out the link's time: who wants to send gets the next stretch of it, and waits until that begins.
#[derive(Debug)]
pub(super) struct Limit {
    bytes_per_s: u64,
    free: Mutex<Free>,
    /// Signalled when nobody needs to wait any more.
    ended: Condvar,
}

#[derive(Debug)]
struct Free {
    /// When the link is free again.
    at: Instant,
    ended: bool,
}

impl Limit {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            free: Mutex::new(Free {
                at: Instant::now(),
                ended: false,
            }),
            ended: Condvar::new(),
        }
    }

    /// Waits until so many bytes may go out, until the end, or until it is given up, which is asked at each [`Self::wake`].
    pub(super) fn wait_for(&self, bytes: u64, given_up: impl Fn() -> bool) {
        let mut free = lock(&self.free);
        // Time that nobody used is gone: no burst follows a pause.
        let begins = free.at.max(Instant::now());
        free.at = begins + self.stretch(bytes);
        loop {
            let left = begins.saturating_duration_since(Instant::now());
            if free.ended || given_up() || left.is_zero() {
                return;
            }
            free = self
                .ended
                .wait_timeout(free, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whoever waits looks again whether it is given up.
    pub(super) fn wake(&self) {
        // Behind the lock, so that nobody is between looking and waiting.
        drop(lock(&self.free));
        self.ended.notify_all();
    }

    /// Nobody waits any more: at a low rate a batch has a wait of many seconds before it.
    pub(super) fn end(&self) {
        lock(&self.free).ended = true;
        self.ended.notify_all();
    }

    fn stretch(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * NANOS / u128::from(self.bytes_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

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
        let before = lock(&limit.free).at;
        for _ in 0..10 {
            limit.wait_for(100_000, || false);
        }
        assert!(lock(&limit.free).at >= before + Duration::from_millis(1));
    }

    #[test]
    fn the_end_is_the_end_of_every_wait() {
        // A byte in a second: a batch has twelve days before it.
        let limit = Limit::new(1);
        let never = || false;
        limit.wait_for(1 << 20, never);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| limit.wait_for(1 << 20, never));
            limit.end();
            waits.join().unwrap();
        });
        limit.wait_for(1 << 20, never);
    }

    #[test]
    fn what_is_given_up_is_waited_for_no_longer() {
        let limit = Limit::new(1);
        limit.wait_for(1 << 20, || false);
        let given_up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| limit.wait_for(1 << 20, || given_up.load(Ordering::SeqCst)));
            given_up.store(true, Ordering::SeqCst);
            limit.wake();
            waits.join().unwrap();
        });
    }
}
