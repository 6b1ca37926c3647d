//! What was delivered lately.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::rate::rate;

/// Time over which the delivered rate is taken: QEMU's own window is 100 ms; twice that outlasts a hiccup of the network, and is over before
/// a round of a large guest is.
const WINDOW: Duration = Duration::from_millis(200);
/// Samples are joined until they span this long, so that a window holds at most twenty.
const STEP: Duration = Duration::from_millis(10);
/// Stretches of time, the last ones that add up to [`WINDOW`].
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

    pub(super) fn rate(&self, bytes: impl Fn(&Stretch) -> u64) -> Option<u64> {
        let time = self.time();
        let all = self.0.iter().map(bytes).fold(0, u64::saturating_add);
        (!time.is_zero()).then(|| rate(all, time))
    }
}

#[cfg(test)]
impl Window {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
