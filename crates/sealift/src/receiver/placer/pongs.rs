//! The pings of our own in QEMU's stream, and their answers, which the source never sees.
//!
//! ```text
//!   Placer ── next ─▶ ping 5ea10001 ─▶ QEMU ─▶ pong 5ea10001 ─▶ return path's thread ── take ─▶ Placer goes on
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sealift_net::inbound::{Closed, Placed};

/// Numbers above this are ours. QEMU's own are below 256: 1 at the beginning, 3, 4 and 0x42 around post-copy.
const FIRST: u32 = 0x5ea1_0000;

/// Shared by who asks and who hears.
#[derive(Clone, Debug)]
pub(crate) struct Pongs(Arc<Book>);

#[derive(Debug)]
struct Book {
    asked: AtomicU32,
    heard: AtomicU32,
    ended: AtomicBool,
    placed: Placed,
}

impl Pongs {
    /// Nothing was asked. Whoever waits is woken through this book.
    pub(crate) fn new(placed: Placed) -> Self {
        Self(Arc::new(Book {
            asked: AtomicU32::new(FIRST),
            heard: AtomicU32::new(FIRST),
            ended: AtomicBool::new(false),
            placed,
        }))
    }

    /// The number of the next ping.
    pub(super) fn next(&self) -> u32 {
        self.0.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether this answer is to a ping of ours; if so it is noted.
    pub(crate) fn take(&self, number: u32) -> bool {
        let ours = FIRST < number && number <= self.0.asked.load(Ordering::SeqCst);
        if ours {
            self.0.heard.fetch_max(number, Ordering::SeqCst);
            self.0.placed.wake();
        }
        ours
    }

    /// QEMU says no more.
    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.placed.wake();
    }

    /// Waits for the answer. Returns false when none will come.
    pub(super) fn wait(&self, number: u32) -> Result<bool, Closed> {
        let heard = || self.0.heard.load(Ordering::SeqCst) >= number;
        let ended = || self.0.ended.load(Ordering::SeqCst);
        self.0.placed.wait_until(|| heard() || ended())?;
        Ok(heard())
    }
}
