//! What is on its way into the guest's memory beside QEMU's stream, and who waits for it.
//!
//! ```text
//!   Placer ── begin 7 ─▶ { 5, 7 } ◀── end 5 ── its threads
//!     │                     │
//!     └ over 5: wait        └ barrier in 9: wait for all before 9
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sealift_net::inbound::{Closed, Placed};

use crate::lock;

/// The batches of which pages are being written, shared by all who begin, end or wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    placed: Placed,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    batches: BTreeSet<u64>,
    /// Why no more can be written.
    lost: Option<String>,
}

/// Why nobody waits any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// The session has ended.
    Closed,
    /// The guest's memory cannot be reached any more, for this reason.
    Lost(String),
}

impl From<Closed> for Ended {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl From<Ended> for String {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed => "the session has ended".to_owned(),
            Ended::Lost(why) => why,
        }
    }
}

impl Beside {
    /// Nothing is on its way. Whoever waits is woken through this book.
    pub(crate) fn new(placed: Placed) -> Self {
        Self {
            placed,
            under_way: Arc::default(),
        }
    }

    /// The book of all that is placed.
    pub(crate) const fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Pages of this batch are going to be written.
    pub(super) fn begin(&self, batch: u64) {
        lock(&self.under_way).batches.insert(batch);
    }

    /// They are in place.
    pub(super) fn end(&self, batch: u64) {
        lock(&self.under_way).batches.remove(&batch);
        self.placed.wake();
    }

    /// They cannot be written. Returns whether nobody has said so before.
    pub(super) fn lose(&self, why: &str) -> bool {
        let mut under_way = lock(&self.under_way);
        let first = under_way.lost.is_none();
        under_way.lost.get_or_insert_with(|| why.to_owned());
        drop(under_way);
        self.placed.wake();
        first
    }

    /// Waits until all batches up to this one are in place.
    pub(super) fn wait_up_to(&self, batch: u64) -> Result<(), Ended> {
        self.wait(|first| batch < first)
    }

    /// Waits until all batches before this one are in place.
    pub(crate) fn wait_before(&self, batch: u64) -> Result<(), Ended> {
        self.wait(|first| batch <= first)
    }

    /// Waits until all are.
    pub(super) fn wait_all(&self) -> Result<(), Ended> {
        self.wait(|_| false)
    }

    /// Waits until none is under way, or `enough` says that the first of them need not be waited for.
    fn wait(&self, enough: impl Fn(u64) -> bool) -> Result<(), Ended> {
        self.placed.wait_until(|| {
            let under_way = lock(&self.under_way);
            let first = under_way.batches.first();
            under_way.lost.is_some() || first.is_none_or(|&first| enough(first))
        })?;
        match &lock(&self.under_way).lost {
            Some(why) => Err(Ended::Lost(why.clone())),
            None => Ok(()),
        }
    }
}
