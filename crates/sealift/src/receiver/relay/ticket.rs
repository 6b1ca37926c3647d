//! What is left to do with a batch before it may be acknowledged.
//!
//! ```text
//!   batch 7 ─┬─ some of its pages ─▶ written into the guest's memory ─┐
//!            └─ the rest ──────────▶ given to QEMU ───────────────────┴─ the last one ─▶ Placed.done
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sealift_net::inbound::Placed;
use sealift_pages::Resolved;

/// Held by each who does a part of it. One that is dropped acknowledges nothing.
#[derive(Clone, Debug)]
pub(crate) struct Ticket(Arc<Left>);

#[derive(Debug)]
struct Left {
    number: u64,
    memory: u64,
    parts: AtomicU8,
    placed: Placed,
}

impl Ticket {
    /// For a batch that so many have a part of.
    pub(crate) fn new(batch: &Resolved, parts: u8, placed: &Placed) -> Self {
        Self(Arc::new(Left {
            number: batch.number(),
            memory: batch.memory() as u64,
            parts: AtomicU8::new(parts),
            placed: placed.clone(),
        }))
    }

    /// One part is done.
    pub(crate) fn finish(&self) {
        let left = &self.0;
        if left.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            left.placed.done(left.number, left.memory);
        }
    }
}
