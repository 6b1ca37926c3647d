//! What the session can expect, from what it has seen: rates, what remains, how long it will take.
//!
//! ```text
//!   delivered   ──▁▃▅▅▅▅▅▅    bytes per second over the last 200 ms or more in which something waited for the link: what it can do
//!   dirtied     rounds: what one holds was dirtied while the one before it was written
//!   remaining   in flight + what the next round will hold
//!   blackout    remaining ÷ delivered rate + device state
//! ```
//!
//! All bytes of guest memory are counted before compression, as is the rate at which they are delivered: the ratio is in the rate. Of a source
//! that owns its pre-copy, what remains is known better, in bytes on the wire: [`Costs`] takes the place of what rounds show, and the rate is the wire's.
//! The link's delay is in none of it, since no waiting makes that less.

mod window;

use core::time::Duration;

use sealift_pages::PageSize;

use crate::cost::Costs;
use crate::rate::{portion, rate, time, volume};
use crate::rounds::Round;
use window::{Stretch, Window};

/// What a switch takes when nothing remains: QEMU stops the guest, writes device state, and the other one loads it. Seen: 3 to 5 ms; twice
/// that leaves room for a guest with more devices.
pub(crate) const DEVICE_STATE: Duration = Duration::from_millis(10);

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Bytes that were delivered since the session's start, before compression.
    pub delivered_raw: u64,
    /// The same bytes as they were on the wire.
    pub delivered_wire: u64,
    /// Bytes that were taken from QEMU and are not delivered, before compression.
    pub in_flight: u64,
    /// Something waits to be sent at this moment: the link has as much to do as it can. Otherwise it may be able to do more.
    pub waiting: bool,
}

/// What QEMU says of itself, by `query-migrate`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QemuView {
    /// Bytes that it knows to be dirty and has not written.
    pub remaining: u64,
    /// Pages that the guest dirties in a second.
    pub dirty_pages_rate: u64,
}

/// What can be expected.
#[derive(Clone, Debug)]
pub struct Forecast {
    memory: u64,
    page_size: u64,
    last: Option<(Duration, Sample)>,
    /// The last stretches of time in which something waited for the link all along, and those in which at least something was on its way.
    full: Window,
    busy: Window,
    /// Since when something has waited.
    waiting_since: Option<Duration>,
    /// Pages that QEMU wrote in this round.
    current: Round,
    complete: Option<Round>,
    /// When the last round ended, and how long it had taken.
    round_ended: Duration,
    round_took: Duration,
    /// Bytes per second, from the last two rounds.
    dirty_rate: u64,
    qemu: Option<(Duration, QemuView)>,
    /// What the source says that owns its pre-copy.
    costs: Option<Costs>,
    round_trip: Duration,
}

impl Forecast {
    /// Of a guest with so many bytes of memory, before anything has happened.
    #[must_use]
    pub const fn new(memory: u64, page_size: PageSize) -> Self {
        Self {
            memory,
            page_size: page_size.bytes() as u64,
            last: None,
            full: Window::EMPTY,
            busy: Window::EMPTY,
            waiting_since: None,
            current: Round {
                number: 0,
                zero: 0,
                normal: 0,
            },
            complete: None,
            round_ended: Duration::ZERO,
            round_took: Duration::ZERO,
            dirty_rate: 0,
            qemu: None,
            costs: None,
            round_trip: Duration::ZERO,
        }
    }

    /// What was delivered by now. To be told often, at least every 50 ms.
    pub fn sample(&mut self, now: Duration, sample: Sample) {
        if let Some((before, last)) = self.last {
            let stretch = Stretch {
                time: now.saturating_sub(before),
                raw: sample.delivered_raw.saturating_sub(last.delivered_raw),
                wire: sample.delivered_wire.saturating_sub(last.delivered_wire),
            };
            // While nothing is on its way, the link is not slow: it has nothing to do.
            if last.in_flight > 0 {
                self.busy.push(stretch);
            }
            // What is delivered now was sent half a round trip ago, and acknowledged as long after that.
            let since = self.waiting_since.filter(|_| sample.waiting);
            if since.is_some_and(|since| before.saturating_sub(since) >= self.round_trip) {
                self.full.push(stretch);
            }
        }
        match sample.waiting {
            true => drop(self.waiting_since.get_or_insert(now)),
            false => self.waiting_since = None,
        }
        self.last = Some((now, sample));
    }

    /// Time has passed in which there was no link: the next sample is as the first one.
    pub const fn interrupted(&mut self) {
        self.last = None;
        self.waiting_since = None;
    }

    /// The round that QEMU is in has these pages by now.
    pub const fn progress(&mut self, current: Round) {
        self.current = current;
    }

    /// A round has ended.
    pub fn round(&mut self, now: Duration, ended: Round) {
        let took = now.saturating_sub(self.round_ended);
        if self.complete.is_some() {
            let bytes = ended.normal.saturating_mul(self.page_size);
            self.dirty_rate = rate(bytes, self.round_took);
        }
        (self.round_ended, self.round_took) = (now, took);
        self.complete = Some(ended);
        self.current = Round {
            number: ended.number + 1,
            zero: 0,
            normal: 0,
        };
    }

    /// What QEMU says.
    pub const fn qemu(&mut self, now: Duration, view: QemuView) {
        self.qemu = Some((now, view));
    }

    /// What a source that owns its pre-copy still has to bring over. From the first time on the forecast goes by it, in bytes on the wire.
    pub const fn owned(&mut self, costs: Costs) {
        self.costs = Some(costs);
    }

    /// How long the way there and back takes when nothing is in it.
    pub const fn round_trip(&mut self, least: Duration) {
        self.round_trip = least;
    }

    /// The same.
    pub(crate) const fn least_round_trip(&self) -> Duration {
        self.round_trip
    }

    /// What the source has said that owns its pre-copy.
    #[must_use]
    pub const fn costs(&self) -> Option<Costs> {
        self.costs
    }

    /// Memory was walked over once, and it is known what to expect of the next time.
    #[must_use]
    pub const fn first_pass_is_complete(&self) -> bool {
        match self.costs {
            Some(costs) => costs.next_round.is_some(),
            None => self.complete.is_some(),
        }
    }

    /// Bytes of guest memory that the link delivers in a second, when there is something to deliver. None before anything was.
    #[must_use]
    pub fn delivered_rate(&self) -> Option<u64> {
        self.rate(|stretch| stretch.raw)
    }

    /// The same on the wire.
    #[must_use]
    pub fn wire_rate(&self) -> Option<u64> {
        self.rate(|stretch| stretch.wire)
    }

    /// A link that was not kept busy lately can still do what it did when it was, and what it does now it can do as well.
    fn rate(&self, bytes: impl Fn(&Stretch) -> u64) -> Option<u64> {
        let full = self.full.is_full().then(|| self.full.rate(&bytes));
        full.flatten().max(self.busy.rate(&bytes))
    }

    /// Bytes of guest memory that the guest dirties in a second: as QEMU says, or as rounds show.
    #[must_use]
    pub const fn dirty_rate(&self) -> u64 {
        match self.qemu {
            Some((_, view)) if view.dirty_pages_rate > 0 => {
                view.dirty_pages_rate.saturating_mul(self.page_size)
            }
            _ => self.dirty_rate,
        }
    }

    /// Bytes that would have to be delivered if the guest stopped now.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> u64 {
        match self.costs {
            Some(costs) => {
                // What is under way is not in front of anything; the rest of what is not acknowledged still waits for the link.
                let under_way = volume(self.wire_rate().unwrap_or(0), self.round_trip);
                let queued = costs.in_flight.saturating_sub(under_way);
                let next = costs.next_round.unwrap_or_else(|| self.unwalked());
                costs.to_send.saturating_add(queued).saturating_add(next)
            }
            None => {
                let in_flight = self.last.map_or(0, |(_, sample)| sample.in_flight);
                let under_way = volume(self.delivered_rate().unwrap_or(0), self.round_trip);
                let queued = in_flight.saturating_sub(under_way);
                queued.saturating_add(self.unwritten(now))
            }
        }
    }

    /// Bytes on the wire of what QEMU has not handed over in its first pass, at the ratio of what was delivered.
    fn unwalked(&self) -> u64 {
        if self.complete.is_some() {
            return 0;
        }
        let walked = self.current.pages().saturating_mul(self.page_size);
        let left = self.memory.saturating_sub(walked);
        match (self.wire_rate(), self.delivered_rate()) {
            (Some(wire), Some(raw)) => portion(left, wire, raw.max(1)),
            _ => left,
        }
    }

    /// Bytes that QEMU has not written yet, as far as can be told.
    fn unwritten(&self, now: Duration) -> u64 {
        let Some(complete) = self.complete else {
            let written = self.current.pages().saturating_mul(self.page_size);
            return self.memory.saturating_sub(written);
        };
        // It looks for dirty pages when a round begins: what was dirtied since then nobody knows. A round like the last one is what to expect,
        // or like this one when it has become longer already.
        let pages = complete.normal.max(self.current.normal);
        let by_rounds = pages.saturating_mul(self.page_size);
        match self.qemu {
            Some((then, view)) if then >= self.round_ended => {
                let since = now.saturating_sub(self.round_ended);
                let dirtied = volume(self.dirty_rate(), since);
                // A guest that writes the same pages again does not make them more.
                let by_qemu = view.remaining.saturating_add(dirtied.min(by_rounds));
                by_qemu.min(self.memory)
            }
            _ => by_rounds,
        }
    }

    /// The rate at which what remains is delivered, and the rate at which the guest makes it more.
    fn rates(&self) -> Option<(u64, u64)> {
        Some(match self.costs {
            Some(costs) => (self.wire_rate()?, costs.per_second),
            None => (self.delivered_rate()?, self.dirty_rate()),
        })
    }

    /// Bytes in a second: what the guest makes dirty, and what is delivered. Of guest memory, or on the wire, as [`Self::remaining`].
    pub(crate) fn race(&self) -> (u64, u64) {
        let (delivered, dirtied) = self.rates().unwrap_or_default();
        (dirtied, delivered)
    }

    /// How long the guest would stand still if it stopped now. None while the link's rate is not known.
    #[must_use]
    pub fn blackout(&self, now: Duration) -> Option<Duration> {
        let (delivered, _) = self.rates()?;
        let remaining = time(self.remaining(now), delivered)?;
        Some(remaining.saturating_add(DEVICE_STATE))
    }

    /// How long until the guest runs at the destination, if it goes on as it does. None when that is never, or not known.
    #[must_use]
    pub fn time_to_end(&self, now: Duration) -> Option<Duration> {
        let (delivered, dirtied) = self.rates()?;
        // What the guest dirties meanwhile takes time as well.
        let gained = delivered.checked_sub(dirtied).filter(|&gained| gained > 0);
        let left = self.remaining(now);
        if self.first_pass_is_complete() && left == 0 {
            return Some(DEVICE_STATE);
        }
        Some(time(left, gained?)?.saturating_add(DEVICE_STATE))
    }
}

#[cfg(test)]
mod tests;
