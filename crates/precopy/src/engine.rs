//! What a source that reads guest memory itself sends next.
//!
//! ```text
//!                       ┌ never sent ────────┐
//!   QEMU ── mark ──▶ ───┼ sent before ───────┼──── take, upwards ──▶ batches ──▶ acknowledged
//!    ▲                  ├ zero ──────────────┘  ▲
//!    │                  └ hot: waits ───────────┘
//!    │                       (a) nothing else to do for a second
//!    └─ wants more           (b) more wait than the blackout has room for: the coolest
//!                            (c) the guest stands still
//! ```
//!
//! **What waits.** A page that was sent, and rewritten in each of the last rounds, will be rewritten before the guest stops. What is sent of it
//! until then is for nothing: the receiver has a base for a delta, and one delta at the end brings it up to date. So it waits, at no cost, since its content is
//! read only when it is sent. A page that was never sent does not wait: at the end it would cost a whole page.
//!
//! This does not lengthen the blackout. Pages that wait would be dirty at the guest's stop anyway; and one that turns out not to be, because
//! the last round did not touch it, goes at once. To be safe from a wrong guess, what waits is bounded: by a part of the bytes that cross in the
//! blackout asked for. Of those that wait the coolest go first. Where pages have short deltas, which grow while they wait, all are sent once more before
//! the gate opens, and after each second in which there is nothing else to do.
//!
//! **QEMU's pace.** It is read for as long as what is ready takes the link less than a tenth of a second. A page that is rewritten while it waits for the
//! link is sent once; and the guest's memory is not walked over more often than what is found can be sent: between two rounds nearly all is to be sent first.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use sealift_pages::{Address, PageSize};

use crate::cost::{Costs, Encoded, Prices};
use crate::dirty::{Counts, DirtyMap, Load, NoSuchPage, Taken};
use crate::rate::{rate, volume};

/// The least that a round of the series lasts. QEMU walks over clean memory in no time, and each time takes the guest's right to write its pages without
/// a fault: twenty times a second is as often as a guest hardly feels it. What is shorter counts as a part of the next.
const ROUND_MIN: Duration = Duration::from_millis(50);
/// QEMU is not read on while what is ready takes the link longer: its own bandwidth is taken over as long.
const ENOUGH: Duration = Duration::from_millis(100);
/// It is read on again when it takes no longer: half of it, so that the link never waits for a thread that sleeps.
const LITTLE: Duration = Duration::from_millis(50);
/// QEMU does not walk anew while what is ready, and what is on its way to the link, takes it longer: what is found is not sent before that anyway; and when QEMU
/// may stop the guest, it is in the way. The link runs dry for less than the time in which QEMU finds the next pages.
const NEARLY: Duration = Duration::from_millis(20);
/// The least that is enough, on the wire: a few batches, however slow the link.
const ENOUGH_MIN: u64 = 1 << 20;
/// What is enough before the link's rate is known.
const ENOUGH_UNKNOWN: u64 = 16 << 20;
/// How long pages wait at most while there is nothing else to do: what waits fits the blackout, so that this takes a small part of the link.
const REFRESH: Duration = Duration::from_secs(1);
/// What waits is sent once more before the guest stops when it costs more than a tenth of what may wait: less is not felt.
const STALE: u64 = 10;

/// Owns what is still to be sent.
#[derive(Clone, Debug)]
pub struct Engine {
    map: DirtyMap,
    flying: BTreeMap<u64, Flying>,
    prices: Prices,
    /// Bytes on the wire that those that wait may cost.
    may_wait: u64,
    /// When something was last ready, or those that wait were sent.
    refreshed: Duration,
    /// What became dirty in this round and in the last one.
    fresh: Load,
    last_fresh: Load,
    /// When this round began, and how long the last two took.
    began: Duration,
    took: Duration,
    took_before: Duration,
    /// QEMU is not read on before this.
    hold_until: Duration,
    /// QEMU is about to walk anew.
    between: bool,
    /// There is enough.
    full: bool,
    /// The round in which the gate came to be about to open, and what waited was sent.
    refreshed_in: Option<u64>,
    /// QEMU may stop the guest.
    released: bool,
    finished: bool,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Flying {
    load: Load,
    /// As encoded; before that it can only be estimated.
    bytes: Option<u64>,
}

impl Engine {
    /// Of RAM blocks with so many pages each, of which nothing is to be sent.
    #[must_use]
    pub fn new(pages: &[u64], page_size: PageSize) -> Self {
        Self {
            map: DirtyMap::new(pages),
            flying: BTreeMap::new(),
            prices: Prices::new(page_size.bytes() as u64),
            may_wait: 0,
            refreshed: Duration::ZERO,
            fresh: Load::default(),
            last_fresh: Load::default(),
            began: Duration::ZERO,
            took: Duration::ZERO,
            took_before: Duration::ZERO,
            hold_until: Duration::ZERO,
            between: false,
            full: false,
            refreshed_in: None,
            released: false,
            finished: false,
        }
    }

    /// QEMU handed the page and `run - 1` behind it over, with content or as zeros. Of one page in the order in which QEMU did.
    ///
    /// # Errors
    /// When the guest does not have all of them; nothing is marked then.
    pub fn mark(&mut self, first: Address, run: u64, zero: bool) -> Result<(), NoSuchPage> {
        let waiting = self.map.counts().waiting;
        let room = match self.finished {
            true => 0,
            false => self.wait_max().saturating_sub(waiting),
        };
        let fresh = self.map.mark(first, run, zero, room)?;
        self.fresh.never_sent += fresh.never_sent;
        self.fresh.sent_before += fresh.sent_before;
        Ok(())
    }

    /// How many pages may wait.
    fn wait_max(&self) -> u64 {
        self.prices.affordable(self.may_wait)
    }

    /// QEMU began to walk anew: the time series moves on. Returns whether it did; rounds that are too short count as one.
    pub fn round(&mut self, now: Duration) -> bool {
        if self.finished {
            return false;
        }
        self.between = true;
        let took = now.saturating_sub(self.began);
        if took < ROUND_MIN {
            self.hold_until = self.began.saturating_add(ROUND_MIN);
            return false;
        }
        (self.took_before, self.took) = (self.took, took);
        self.began = now;
        self.last_fresh = core::mem::take(&mut self.fresh);
        let most = self.wait_max();
        self.map.next_round(most);
        true
    }

    /// Bytes on the wire that pages that wait may cost: [`Gate::may_wait`](crate::Gate::may_wait).
    pub const fn may_wait(&mut self, bytes: u64) {
        self.may_wait = bytes;
    }

    /// What to send next: at most so many pages with content, and so many of zeros, which join the batch. They are added to `out`,
    /// upwards through the blocks but for a fresh start at the end of memory, as runs. Returns how many they are.
    ///
    /// The batch's number is to be taken together with its pages, under one lock: of two batches with the same page the higher must have
    /// been read later.
    pub fn take(
        &mut self,
        now: Duration,
        batch: u64,
        content: u64,
        zero: u64,
        out: &mut Vec<Taken>,
    ) -> u64 {
        if self.map.counts().ready() > 0 {
            self.refreshed = now;
        } else if self.must_refresh(now) {
            self.refreshed = now;
            self.map.release_all();
        }
        let load = self.map.take(content, zero, out);
        let pages = load.never_sent + load.sent_before + load.zero;
        if pages > 0 {
            let flying = self.flying.entry(batch).or_default();
            flying.load.never_sent += load.never_sent;
            flying.load.sent_before += load.sent_before;
            flying.load.zero += load.zero;
        }
        pages
    }

    /// What the encoder made of a batch.
    pub fn encoded(&mut self, batch: u64, made: Encoded) {
        if let Some(flying) = self.flying.get_mut(&batch) {
            flying.bytes = Some(made.bytes());
            self.prices.learn(flying.load, made);
        }
    }

    /// The batch has arrived: nothing of it is in flight. What was marked meanwhile stays dirty.
    pub fn acknowledged(&mut self, batch: u64) {
        self.flying.remove(&batch);
    }

    /// The gate is open or about to be ([`Decision::hurries`](crate::Decision::hurries)), or it is not. While it is, QEMU's rounds are not
    /// drawn out; and as it comes to be, what waits is sent once more if it has short deltas: those at the end will then be of one round.
    pub fn hurry(&mut self, hurry: bool) {
        match (self.refreshed_in, hurry) {
            (None, true) => {
                if self.is_stale() {
                    self.map.release_all();
                }
                self.refreshed_in = Some(self.map.round());
            }
            (Some(_), false) => self.refreshed_in = None,
            _ => (),
        }
    }

    /// QEMU may stop the guest: it is read on whatever is under way. It may have stopped it already, and then only writes down which pages are its last.
    pub const fn release(&mut self) {
        self.released = true;
    }

    /// The guest stands still: nothing waits any more.
    pub fn finish(&mut self) {
        self.finished = true;
        self.map.release_all();
    }

    /// What is to be sent.
    #[must_use]
    pub const fn dirty(&self) -> Counts {
        self.map.counts()
    }

    /// Something is worth being sent now.
    #[must_use]
    pub fn has_work(&self, now: Duration) -> bool {
        self.map.counts().ready() > 0 || self.must_refresh(now)
    }

    fn must_refresh(&self, now: Duration) -> bool {
        self.map.counts().waiting > 0 && now.saturating_sub(self.refreshed) >= REFRESH
    }

    /// Nothing is to be sent, and nothing is on its way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.map.counts().pages() == 0 && self.flying.is_empty()
    }

    /// QEMU is to be read on, for a link that takes so many bytes in a second, and the least time that it needs there and back. To be
    /// asked at section boundaries only: a QEMU that is blocked elsewhere holds locks that the guest wants.
    pub fn wants_more(
        &mut self,
        now: Duration,
        wire_rate: Option<u64>,
        round_trip: Duration,
    ) -> bool {
        if self.finished || self.released {
            return true;
        }
        if self.refreshed_in.is_none() && now < self.hold_until {
            return false;
        }
        let (enough, little) = match wire_rate {
            Some(rate) => (
                volume(rate, ENOUGH).max(ENOUGH_MIN),
                volume(rate, LITTLE).max(ENOUGH_MIN / 2),
            ),
            None => (ENOUGH_UNKNOWN, ENOUGH_UNKNOWN / 2),
        };
        let ready = self.ready_cost();
        if self.between {
            let nearly = volume(wire_rate.unwrap_or(0), round_trip.saturating_add(NEARLY));
            if ready.saturating_add(self.in_flight_cost()) > nearly {
                return false;
            }
            self.between = false;
        }
        self.full = ready > if self.full { little } else { enough };
        !self.full
    }

    fn ready_cost(&self) -> u64 {
        let counts = self.map.counts();
        self.prices.of(Load {
            never_sent: counts.never_sent,
            sent_before: counts.sent_before,
            zero: counts.zero,
        })
    }

    /// What everything that is dirty costs on the wire.
    #[must_use]
    pub fn remaining_cost(&self) -> u64 {
        self.ready_cost().saturating_add(self.waiting_cost())
    }

    fn in_flight_cost(&self) -> u64 {
        let flying = self.flying.values();
        flying
            .map(|flying| flying.bytes.unwrap_or(self.prices.of(flying.load)))
            .fold(0, u64::saturating_add)
    }

    fn waiting_cost(&self) -> u64 {
        self.prices.of_waiting(self.map.counts().waiting)
    }

    /// What the gate goes by.
    #[must_use]
    pub fn costs(&self) -> Costs {
        let this = self.prices.of(self.fresh);
        let last = self.prices.of(self.last_fresh);
        // What a round holds was dirtied during the one before. The first is all of memory, and says nothing.
        let (dirtied, during) = match self.map.round() {
            0 => (0, Duration::ZERO),
            1 => (this, self.took),
            _ => (last, self.took_before),
        };
        let per_second = rate(dirtied, during);
        // This round goes on to be like the last one, and so is what QEMU finds after it. That is too much of rounds that become shorter, but pages
        // that are written over and over are as many in a short one.
        let rest = last.saturating_sub(this);
        let next_round = rest.saturating_add(last.max(this));
        Costs {
            round: self.map.round(),
            to_send: self.remaining_cost(),
            in_flight: self.in_flight_cost(),
            next_round: (self.map.round() > 1).then_some(next_round),
            per_second,
            stale: self.is_stale(),
        }
    }

    /// What waits is worth being sent once more before the guest stops, or is being sent.
    fn is_stale(&self) -> bool {
        match self.refreshed_in {
            Some(round) => round == self.map.round() && self.map.counts().ready() > 0,
            None => self.waiting_cost() > self.may_wait / STALE && self.prices.deltas_are_short(),
        }
    }
}
