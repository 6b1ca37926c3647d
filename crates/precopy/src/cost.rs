//! What pages cost on the wire, as measured.
//!
//! ```text
//!   batch 7   300 pages never sent, 20 sent before      what was taken
//!             250 literals  400 kB, 15 deltas  3 kB     what the encoder made of it; the rest is named or zero
//!                  │                    │
//!                  └─ 300 at 1,333 B    └─ 20 at 150 B  what pages of each kind can be expected to cost
//!                                          15 at 200 B  and what those do that have changed
//! ```
//!
//! What is not said is which page became what. Literals are put down to pages that were never sent first, since only the others can be deltas; of a batch in
//! which all were sent before, all is theirs, and the last rounds are made of such.

use crate::dirty::Load;
use crate::rate::portion;

/// What the encoder made of a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Encoded {
    /// Pages whose content is in it.
    pub literal_pages: u64,
    /// Bytes that they take.
    pub literal_bytes: u64,
    /// Pages that are given by what has changed.
    pub delta_pages: u64,
    /// Bytes that they take.
    pub delta_bytes: u64,
}

impl Encoded {
    /// All bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.literal_bytes.saturating_add(self.delta_bytes)
    }
}

/// Bytes per page of each kind, over the last of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prices {
    page_size: u64,
    never_sent: Average,
    sent_before: Average,
    /// Of those that were sent before, the ones that had changed.
    changed: Average,
}

/// Zero pages that cost a byte: a bit each. A run of them costs a few bytes, however long.
const ZEROS: u64 = 8;

impl Prices {
    pub(crate) const fn new(page_size: u64) -> Self {
        Self {
            page_size,
            never_sent: Average::EMPTY,
            sent_before: Average::EMPTY,
            changed: Average::EMPTY,
        }
    }

    pub(crate) fn learn(&mut self, load: Load, made: Encoded) {
        let literals = made.literal_pages.max(1);
        let first = load.never_sent.min(made.literal_pages);
        let first_bytes = portion(made.literal_bytes, first, literals);
        self.never_sent.add(load.never_sent, first_bytes);
        let again = made.bytes().saturating_sub(first_bytes);
        self.sent_before.add(load.sent_before, again);
        let changed = made.literal_pages.saturating_sub(first);
        self.changed
            .add(changed.saturating_add(made.delta_pages), again);
    }

    pub(crate) fn of(&self, load: Load) -> u64 {
        let Self { page_size, .. } = *self;
        let never_sent = self.never_sent.of(load.never_sent);
        let never_sent = never_sent.unwrap_or(load.never_sent.saturating_mul(page_size));
        // Until one was sent again, it is like any other.
        let sent_before = self.sent_before.of(load.sent_before);
        let sent_before = sent_before
            .or_else(|| self.never_sent.of(load.sent_before))
            .unwrap_or(load.sent_before.saturating_mul(page_size));
        let zero = load.zero / ZEROS;
        never_sent.saturating_add(sent_before).saturating_add(zero)
    }

    /// Pages that wait are rewritten all the time: each of them will have changed.
    pub(crate) fn of_waiting(&self, pages: u64) -> u64 {
        let changed = self.changed.of(pages);
        changed.unwrap_or_else(|| {
            self.of(Load {
                sent_before: pages,
                ..Load::default()
            })
        })
    }

    /// A page that has changed costs less than half of one that was never sent.
    pub(crate) fn deltas_are_short(&self) -> bool {
        self.changed.of(2 * MEMORY) < self.never_sent.of(MEMORY)
    }

    /// How many pages may wait for so many bytes.
    pub(crate) fn affordable(&self, bytes: u64) -> u64 {
        // Of a thousand, since one may cost less than a byte.
        portion(bytes, 1000, self.of_waiting(1000).max(1))
    }
}

/// Pages over which a price is taken, and as many again that fade: 8 to 16 MiB of guest memory, a tenth of a second on a gigabit link. Deltas
/// become shorter as rounds do, and the price has to follow within a round.
const MEMORY: u64 = 2048;

#[derive(Clone, Copy, Debug)]
struct Average {
    pages: u64,
    bytes: u64,
}

impl Average {
    const EMPTY: Self = Self { pages: 0, bytes: 0 };

    fn add(&mut self, pages: u64, bytes: u64) {
        self.pages = self.pages.saturating_add(pages);
        self.bytes = self.bytes.saturating_add(bytes);
        while self.pages > 2 * MEMORY {
            self.pages /= 2;
            self.bytes /= 2;
        }
    }

    /// What so many pages cost. None before there was one.
    fn of(&self, pages: u64) -> Option<u64> {
        (self.pages > 0).then(|| portion(self.bytes, pages, self.pages))
    }
}

/// What a source that owns its pre-copy still has to bring over, in bytes on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Costs {
    /// Of the time series of rounds, the one that goes on.
    pub round: u64,
    /// Of all pages that are to be sent, those that wait among them.
    pub to_send: u64,
    /// Of the batches that are not acknowledged.
    pub in_flight: u64,
    /// Of what QEMU can be expected to hand over when it looks for dirty pages for the last time, and that is not to be sent already. None
    /// until it has done so after its first pass: that one finds all of memory, and says nothing.
    pub next_round: Option<u64>,
    /// Of what the guest writes in a second.
    pub per_second: u64,
    /// What waits for the guest's stop is to be sent once more before it.
    pub stale: bool,
}
