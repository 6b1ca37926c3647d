//! The books of what is under way: the source's [`Flight`], the receiver's [`Arrivals`].
//!
//! ```text
//!  Flight     allot ─▶ allotted ── sent ─▶ sent ── acknowledge ─▶ delivered      numbers 0, 1, 2 … of the session
//!
//!     all settled          some settled                not allotted
//!  ──────────────────┬──────────────────────────┬──────────────────▶ batch number
//!                  lowest                      next        next - lowest ≤ 65,536
//! ```
//!
//! Two bounds keep what is under way small. The number window is WIRE.md's: 65,536 from the lowest that is not
//! acknowledged. The other is in bytes and follows the link: what is sent and not delivered makes QEMU believe in a bandwidth
//! that is not there, and is what the guest waits for when it has stopped. However fast the link, it stays within [`WINDOW_MAX`].
//!
//! That window is shared by QEMU's channels so that none starves another: with multifd the destination waits on one channel
//! for what another has yet to bring. A channel with nothing under way always has room for a batch, and one with something has
//! its part of the window, by as many as have something under way.

mod arrivals;

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;
use core::time::Duration;

use sealift_seal::Ledger;

use crate::control::{BatchRange, BatchRanges};

pub use arrivals::{AlreadyPlaced, Arrivals};

/// The most content that a source may have on its way, over all of QEMU's channels (WIRE.md §1), and a batch more for each of them: at
/// 25 Gbit/s and 20 ms the link holds as much.
pub const WINDOW_MAX: u64 = 64 << 20;
/// QEMU's channels, the main one among them, at most (WIRE.md §1).
pub const CHANNELS_MAX: u16 = 32;
/// Bytes of batches that a receiver holds, arrived and not placed, before it ends the session (WIRE.md §1): [`WINDOW_MAX`], and as many batches
/// of 1 MiB as QEMU may have channels.
pub const HELD_MAX: u64 = WINDOW_MAX + ((CHANNELS_MAX as u64) << 20);

/// What a batch takes of the window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost {
    /// Bytes of guest memory and of the stream that it carries, before they are made small, and of what says where they belong: the
    /// memory that it takes until it is placed.
    pub content: u64,
}

/// The least that a batch is counted as, so that batches of next to nothing cannot use up the numbers: 65,536 of them fill
/// 256 MiB, more than any window that is worth having. About what a page takes.
const COUNTED_MIN: u64 = 4 << 10;

/// The source's book of batches.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The lowest number that is not settled, or [`Self::next`].
    lowest: u64,
    /// Those from `lowest` on.
    batches: VecDeque<Batch>,
    /// Content under way by channel; only those with something.
    channels: BTreeMap<u16, Channel>,
    under_way: Underway,
    window: u64,
    latency: Option<Latency>,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    channel: u16,
    content: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Allotted,
    Sent { wire: u64, at: Duration },
    Settled,
}

#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    batches: u64,
    content: u64,
}

/// What is under way: allotted, and not delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Underway {
    /// Batches.
    pub batches: u64,
    /// Bytes that they carry.
    pub content: u64,
    /// Bytes on the wire, of those that were sent.
    pub wire: u64,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Delivered {
    /// Batches that had not been acknowledged before.
    pub batches: u64,
    /// Bytes that they carried.
    pub content: u64,
    /// Bytes that they took on the wire.
    pub wire: u64,
}

/// How long batches take from a lane's socket to the acknowledgement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Latency {
    /// Of the last one.
    pub last: Duration,
    /// The least so far: the way there and back without anything in it.
    pub least: Duration,
}

impl Flight {
    /// Nothing under way yet, and a window of so many bytes of content.
    #[must_use]
    pub const fn new(window: u64) -> Self {
        Self {
            lowest: 0,
            batches: VecDeque::new(),
            channels: BTreeMap::new(),
            under_way: Underway {
                batches: 0,
                content: 0,
                wire: 0,
            },
            window,
            latency: None,
        }
    }

    /// From now on, the window is so many bytes of content: rate times the time that may lie between sending and
    /// delivery. What is under way stays.
    pub const fn set_window(&mut self, bytes: u64) {
        self.window = bytes;
    }

    /// Whether a channel's next batch fits the windows now.
    #[must_use]
    pub fn has_room(&self, channel: u16) -> bool {
        if self.numbers_are_used_up() {
            return false;
        }
        let Some(own) = self.channels.get(&channel) else {
            return true;
        };
        let sharing = u64::try_from(self.channels.len()).unwrap_or(u64::MAX);
        self.under_way.content < self.window && own.content < self.window / sharing
    }

    /// A number for a channel's next batch: the session's next one.
    ///
    /// # Errors
    /// When the number window is full; [`Self::has_room`] says so beforehand, and the window in bytes is the caller's to keep by it.
    pub fn allot(&mut self, channel: u16, cost: Cost) -> Result<u64, NoRoom> {
        let number = self.next();
        if self.numbers_are_used_up() {
            let lowest = self.lowest;
            return Err(NoRoom { number, lowest });
        }
        let content = cost.content.max(COUNTED_MIN);
        self.batches.push_back(Batch {
            channel,
            content,
            state: State::Allotted,
        });
        let own = self.channels.entry(channel).or_default();
        own.batches += 1;
        own.content = own.content.saturating_add(content);
        self.under_way.batches += 1;
        self.under_way.content = self.under_way.content.saturating_add(content);
        Ok(number)
    }

    /// A batch goes to a lane's socket now, as so many bytes. To be said before the bytes go out, or its acknowledgement could
    /// be the earlier of the two.
    ///
    /// # Errors
    /// When it is not one that was allotted and not sent yet.
    pub fn sent(&mut self, number: u64, wire_bytes: u64, now: Duration) -> Result<(), Unaccounted> {
        match self.batch_mut(number) {
            Some(batch) if batch.state == State::Allotted => {
                batch.state = State::Sent {
                    wire: wire_bytes,
                    at: now,
                };
            }
            _ => return Err(Unaccounted::NotToBeSent { number }),
        }
        self.under_way.wire = self.under_way.wire.saturating_add(wire_bytes);
        Ok(())
    }

    /// Takes an acknowledgement. Numbers that were acknowledged before are passed over.
    ///
    /// # Errors
    /// When the peer acknowledges what was never sent; nothing is changed then.
    pub fn acknowledge(
        &mut self,
        ranges: &BatchRanges,
        now: Duration,
    ) -> Result<Delivered, Unaccounted> {
        for range in ranges.as_slice() {
            for number in self.known(range) {
                if self
                    .batch(number)
                    .is_none_or(|batch| batch.state == State::Allotted)
                {
                    return Err(Unaccounted::NeverSent { number });
                }
            }
            if range.last() >= self.next() {
                let number = range.last();
                return Err(Unaccounted::NeverSent { number });
            }
        }
        let mut delivered = Delivered::default();
        for range in ranges.as_slice() {
            for number in self.known(range) {
                if let Some((batch, State::Sent { wire, at })) = self.settle(number) {
                    delivered.batches += 1;
                    delivered.content = delivered.content.saturating_add(batch.content);
                    delivered.wire = delivered.wire.saturating_add(wire);
                    let took = now.saturating_sub(at);
                    let least = self.latency.map_or(took, |before| before.least.min(took));
                    self.latency = Some(Latency { last: took, least });
                }
            }
        }
        self.forget();
        Ok(delivered)
    }

    /// All that is under way.
    #[must_use]
    pub const fn in_flight(&self) -> Underway {
        self.under_way
    }

    /// Whether a batch has a number and is not acknowledged.
    #[must_use]
    pub fn is_under_way(&self, number: u64) -> bool {
        let batch = self.batch(number);
        batch.is_some_and(|batch| batch.state != State::Settled)
    }

    /// A batch goes once more, over another connection: how long it took says nothing of the link.
    pub fn sent_again(&mut self, number: u64, now: Duration) {
        if let Some(Batch {
            state: State::Sent { at, .. },
            ..
        }) = self.batch_mut(number)
        {
            *at = now;
        }
    }

    /// The lowest number that is not acknowledged; the next one to be allotted when there is none.
    #[must_use]
    pub const fn lowest_unacknowledged(&self) -> u64 {
        self.lowest
    }

    /// The next number to be allotted: how many there have been.
    #[must_use]
    pub fn next(&self) -> u64 {
        // A window's worth at most.
        self.lowest
            .saturating_add(u64::try_from(self.batches.len()).unwrap_or(u64::MAX))
    }

    /// How long batches take.
    #[must_use]
    pub const fn latency(&self) -> Option<Latency> {
        self.latency
    }

    fn numbers_are_used_up(&self) -> bool {
        // The last number of all is never used.
        self.next() - self.lowest >= Ledger::WINDOW || self.next() == u64::MAX
    }

    /// The numbers of a range that are under way or may be: those that were allotted, from the lowest that is not settled on.
    #[must_use]
    pub fn known(&self, range: &BatchRange) -> core::ops::Range<u64> {
        range.first().max(self.lowest)..range.last().saturating_add(1).min(self.next())
    }

    fn batch(&self, number: u64) -> Option<&Batch> {
        self.batches
            .get(usize::try_from(number.checked_sub(self.lowest)?).ok()?)
    }

    fn batch_mut(&mut self, number: u64) -> Option<&mut Batch> {
        self.batches
            .get_mut(usize::try_from(number.checked_sub(self.lowest)?).ok()?)
    }

    /// Takes a batch out of what is under way; returns it and what it was, if it was.
    fn settle(&mut self, number: u64) -> Option<(Batch, State)> {
        let batch = self.batch_mut(number)?;
        let was = core::mem::replace(&mut batch.state, State::Settled);
        let batch = *batch;
        if was == State::Settled {
            return None;
        }
        self.under_way.batches -= 1;
        self.under_way.content = self.under_way.content.saturating_sub(batch.content);
        if let State::Sent { wire, .. } = was {
            self.under_way.wire = self.under_way.wire.saturating_sub(wire);
        }
        if let Some(own) = self.channels.get_mut(&batch.channel) {
            own.batches -= 1;
            own.content = own.content.saturating_sub(batch.content);
            if own.batches == 0 {
                self.channels.remove(&batch.channel);
            }
        }
        Some((batch, was))
    }

    /// Drops what is settled off the front.
    fn forget(&mut self) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.state == State::Settled)
        {
            self.batches.pop_front();
            self.lowest += 1;
        }
    }
}

/// The number window is full: a batch has to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom {
    /// The number that it would have.
    pub number: u64,
    /// The lowest number that is not acknowledged.
    pub lowest: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this host has no number for batch {}: the receiver has not acknowledged batch {}",
            self.number, self.lowest
        )
    }
}

impl core::error::Error for NoRoom {}

/// A number that is not in the book as it would have to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unaccounted {
    /// The receiver speaks of a batch that it cannot have. The receiver's fault.
    NeverSent {
        /// Its number.
        number: u64,
    },
    /// This host would send a batch that was not allotted, or was sent before. A fault of the program.
    NotToBeSent {
        /// Its number.
        number: u64,
    },
}

impl fmt::Display for Unaccounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent { number } => {
                write!(f, "receiver speaks of batch {number}, which was never sent")
            }
            Self::NotToBeSent { number } => write!(
                f,
                "this host would send batch {number}, which was not allotted or is sent already"
            ),
        }
    }
}

impl core::error::Error for Unaccounted {}
