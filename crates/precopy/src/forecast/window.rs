//! What was delivered lately.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::rate::rate;

/// Time over which the delivered rate is taken: QEMU's own window is 100 ms; twice that outlasts a hiccup of the network, and is over before
/// a round of a large guest is.
const WINDOW: Duration = Duration::from_millis(200);
/// Samples are joined until they span this long, so that a window holds at most two hundred.
const STEP: Duration = Duration::from_millis(10);
/// Where less is delivered in that time the window is longer: a slow link delivers a batch at a time, of which one more or less must not be what
/// the rate is, and lanes that take turns bring theirs together.
const DELIVERIES: usize = 8;
/// The longest that it becomes: a link that has broken is to be seen.
const WINDOW_MAX: Duration = Duration::from_secs(2);

/// Stretches of time, the last ones that add up to [`WINDOW`] at least.
#[derive(Clone, Debug)]
pub(super) struct Window(VecDeque<Stretch>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) time: Duration,
    pub(super) raw: u64,
    pub(super) wire: u64,
}

impl Window {
    pub(super) const EMPTY: Self = Self(VecDeque::new());

    pub(super) fn push(&mut self, stretch: Stretch) {
        match self.0.back_mut() {
            Some(last) if last.time < STEP => {
                last.time = last.time.saturating_add(stretch.time);
                last.raw = last.raw.saturating_add(stretch.raw);
                last.wire = last.wire.saturating_add(stretch.wire);
            }
            _ => self.0.push_back(stretch),
        }
        // Those that the window does not need.
        while let Some(first) = self.0.front() {
            let rest = self.time().saturating_sub(first.time);
            let delivering = self.deliveries() - usize::from(first.delivers());
            let enough = rest >= WINDOW && delivering >= DELIVERIES;
            if !enough && rest < WINDOW_MAX {
                break;
            }
            self.0.pop_front();
        }
    }

    /// One delivery more or less does not make it another rate.
    pub(super) fn is_full(&self) -> bool {
        self.time() >= WINDOW && self.deliveries() >= DELIVERIES
    }

    fn deliveries(&self) -> usize {
        self.0.iter().filter(|stretch| stretch.delivers()).count()
    }

    fn time(&self) -> Duration {
        let times = self.0.iter().map(|stretch| stretch.time);
        times.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// From the first delivery to the end, if there are others: what that one brought was sent before it.
    pub(super) fn rate(&self, bytes: impl Fn(&Stretch) -> u64) -> Option<u64> {
        let known = match self.deliveries() {
            0 | 1 => 0,
            _ => 1 + self.0.iter().position(Stretch::delivers).unwrap_or(0),
        };
        let stretches = || self.0.iter().skip(known);
        let time = (stretches().map(|stretch| stretch.time))
            .fold(Duration::ZERO, Duration::saturating_add);
        let all = stretches().map(bytes).fold(0, u64::saturating_add);
        (!time.is_zero()).then(|| rate(all, time))
    }
}

impl Stretch {
    const fn delivers(&self) -> bool {
        self.raw > 0
    }
}

#[cfg(test)]
impl Window {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
