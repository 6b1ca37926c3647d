//! What the session can expect, from what it has seen: rates, what remains, how long it will take.
//!
//! ```text
//!   delivered   ──▁▃▅▅▅▅▅▅    bytes per second over the last 200 ms in which something waited for the link: what it can do
//!   dirtied     rounds: what one holds was dirtied while the one before it was written
//!   remaining   in flight + what the next round will hold
//!   blackout    remaining ÷ delivered rate + device state
//! ```
//!
//! All bytes of guest memory are counted before compression, as is the rate at which they are delivered: the ratio is in the rate.

use alloc::collections::VecDeque;
use core::time::Duration;

use sealift_pages::PageSize;

use crate::rate::{rate, time, volume};
use crate::rounds::Round;

/// Time over which the delivered rate is taken: QEMU's own window is 100 ms; twice that outlasts a hiccup of the network, and is over before
/// a round of a large guest is.
const WINDOW: Duration = Duration::from_millis(200);
/// Samples are joined until they span this long, so that a window holds at most twenty.
const STEP: Duration = Duration::from_millis(10);
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
    /// Pages that QEMU wrote in this round.
    current: Round,
    complete: Option<Round>,
    /// When the last round ended, and how long it had taken.
    round_ended: Duration,
    round_took: Duration,
    /// Bytes per second, from the last two rounds.
    dirty_rate: u64,
    qemu: Option<(Duration, QemuView)>,
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
            if last.waiting && sample.waiting {
                self.full.push(stretch);
            }
        }
        self.last = Some((now, sample));
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

    /// Memory was walked over once.
    #[must_use]
    pub const fn first_pass_is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// The last round that ended.
    #[must_use]
    pub const fn last_round(&self) -> Option<Round> {
        self.complete
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
        self.full.rate(&bytes).max(self.busy.rate(&bytes))
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
        let in_flight = self.last.map_or(0, |(_, sample)| sample.in_flight);
        in_flight.saturating_add(self.unwritten(now))
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

    /// How long the guest would stand still if it stopped now. None while the link's rate is not known.
    #[must_use]
    pub fn blackout(&self, now: Duration) -> Option<Duration> {
        let remaining = time(self.remaining(now), self.delivered_rate()?)?;
        Some(remaining.saturating_add(DEVICE_STATE))
    }

    /// How long until the guest runs at the destination, if it goes on as it does. None when that is never, or not known.
    #[must_use]
    pub fn time_to_end(&self, now: Duration) -> Option<Duration> {
        let delivered = self.delivered_rate()?;
        // What the guest dirties meanwhile takes time as well.
        let gained = delivered
            .checked_sub(self.dirty_rate())
            .filter(|&gained| gained > 0);
        let left = self.remaining(now);
        if self.first_pass_is_complete() && left == 0 {
            return Some(DEVICE_STATE);
        }
        Some(time(left, gained?)?.saturating_add(DEVICE_STATE))
    }
}

/// Stretches of time, the last ones that add up to [`WINDOW`].
#[derive(Clone, Debug)]
struct Window(VecDeque<Stretch>);

#[derive(Clone, Copy, Debug)]
struct Stretch {
    time: Duration,
    raw: u64,
    wire: u64,
}

impl Window {
    const EMPTY: Self = Self(VecDeque::new());

    fn push(&mut self, stretch: Stretch) {
        match self.0.back_mut() {
            Some(last) if last.time < STEP => {
                last.time = last.time.saturating_add(stretch.time);
                last.raw = last.raw.saturating_add(stretch.raw);
                last.wire = last.wire.saturating_add(stretch.wire);
            }
            _ => self.0.push_back(stretch),
        }
        // Those that the window does not need.
        while let Some(first) = self.0.front()
            && self.time().saturating_sub(first.time) >= WINDOW
        {
            self.0.pop_front();
        }
    }

    fn time(&self) -> Duration {
        let times = self.0.iter().map(|stretch| stretch.time);
        times.fold(Duration::ZERO, Duration::saturating_add)
    }

    fn rate(&self, bytes: impl Fn(&Stretch) -> u64) -> Option<u64> {
        let time = self.time();
        let all = self.0.iter().map(bytes).fold(0, u64::saturating_add);
        (!time.is_zero()).then(|| rate(all, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn forecast() -> Forecast {
        Forecast::new(512 * MIB, PageSize::new(4096).unwrap())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_rate_is_that_of_the_last_200_ms() {
        let mut forecast = forecast();
        assert_eq!(forecast.delivered_rate(), None);
        let mut delivered = 0;
        for step in 0..100 {
            // 100 MiB/s, then 10.
            delivered += if step < 50 { MIB } else { MIB / 10 };
            let sample = Sample {
                delivered_raw: delivered,
                delivered_wire: delivered / 4,
                in_flight: MIB,
                waiting: true,
            };
            forecast.sample(ms(step * 10), sample);
            assert!(forecast.busy.0.len() <= 21);
            if step == 49 {
                assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
            }
        }
        let rate = forecast.delivered_rate().unwrap();
        assert!(rate.abs_diff(10 * MIB) < 100, "{rate}");
        assert!(forecast.wire_rate().unwrap().abs_diff(rate / 4) < 100);
    }

    #[test]
    fn an_idle_link_is_not_a_slow_one() {
        let mut forecast = forecast();
        let mut sample = Sample::default();
        for step in 0..20 {
            forecast.sample(ms(step * 10), sample);
            sample.in_flight = MIB;
            sample.delivered_raw += MIB;
        }
        sample.in_flight = 0;
        forecast.sample(ms(200), sample);
        let before = forecast.delivered_rate();
        for step in 21..500 {
            forecast.sample(ms(step * 10), sample);
        }
        assert_eq!(forecast.delivered_rate(), before);
    }

    #[test]
    fn a_link_with_little_to_do_is_not_a_slow_one_either() {
        let mut forecast = forecast();
        let mut sample = Sample {
            in_flight: MIB,
            waiting: true,
            ..Sample::default()
        };
        for step in 0..30 {
            sample.delivered_raw += MIB;
            forecast.sample(ms(step * 10), sample);
        }
        sample.waiting = false;
        for step in 30..500 {
            sample.delivered_raw += 4096;
            forecast.sample(ms(step * 10), sample);
        }
        assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
        // Until it is slow with something waiting.
        sample.waiting = true;
        for step in 500..530 {
            sample.delivered_raw += 4096;
            forecast.sample(ms(step * 10), sample);
        }
        assert_eq!(forecast.delivered_rate(), Some(409_600));
    }

    #[test]
    fn what_a_round_holds_was_dirtied_during_the_one_before() {
        let mut forecast = forecast();
        let round = |number, normal| Round {
            number,
            zero: 0,
            normal,
        };
        forecast.round(ms(2000), round(0, 131_072));
        assert_eq!(forecast.dirty_rate(), 0, "the first pass is all of memory");
        forecast.round(ms(2500), round(1, 25_600));
        assert_eq!(forecast.dirty_rate(), 50 * MIB);
        forecast.round(ms(2600), round(2, 2560));
        assert_eq!(forecast.dirty_rate(), 20 * MIB);
        let view = QemuView {
            remaining: 3 * MIB,
            dirty_pages_rate: 1000,
        };
        forecast.qemu(ms(2650), view);
        assert_eq!(forecast.dirty_rate(), 4_096_000);
        assert_eq!(forecast.remaining(ms(2700)), 3 * MIB + 409_600);
    }

    #[test]
    fn the_end_is_never_when_the_guest_is_faster_than_the_link() {
        let mut forecast = forecast();
        let mut sample = Sample {
            in_flight: MIB,
            ..Sample::default()
        };
        forecast.sample(ms(0), sample);
        sample.delivered_raw = 10 * MIB;
        forecast.sample(ms(100), sample);
        assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
        // Five seconds of memory, one MiB on its way, and the switch.
        let end = forecast.time_to_end(ms(100)).unwrap();
        assert_eq!(end, ms(5130) + ms(10));
        let view = QemuView {
            remaining: 0,
            dirty_pages_rate: 25_600,
        };
        forecast.qemu(ms(100), view);
        assert_eq!(forecast.time_to_end(ms(100)), None);
    }
}
