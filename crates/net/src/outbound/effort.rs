//! Whether batches are compressed at all: not where the link would carry pages as they are faster than they can be compressed. How hard, where they are, is the
//! [`ladder`](super::ladder)'s.
//!
//! ```text
//!              enough batches in a row, and none of them queued               all of them acknowledged
//!   squeezed ───────────────────────────────────────────────────────▶ trial ──────────────────────────┬─ much faster ─▶ plain
//!      ▲                                                          a few batches as they are           │                   │
//!      ├────────────────────────── not ───────────────────────────────────────────────────────────────┘                   │
//!      └────────────────────────── slower than it was squeezed, or queueing and slower than it could be ───────────────────┘
//! ```
//!
//! What counts is guest memory that the receiver acknowledges in a second: it has the link in it, and the cores and the memory of both ends. A trial costs
//! a few batches' bytes, so each that was lost makes the next one wait longer.

use std::collections::VecDeque;
use std::time::Duration;

use sealift_pages::CONTENT_MAX;

/// Batches before the first trial: a link that is slower than compression shows by then, since they begin to queue.
const FIRST: u32 = 32;
/// Each trial that was lost makes the next one wait so many times longer; one that was broken off, twice.
const LATER: u32 = 8;
/// Batches of a trial: the first of them only starts the clock, and what two or three of them may find empty on their way, buffers and a shaper's burst, does not decide.
const TRIAL: u32 = 8;
/// A trial is won by so many eighths of what was delivered before.
const WON: u64 = 9;
/// Content over which it is measured what is delivered: 32 batches that are full, or as many more as are not, so that small ones weigh what they carry.
const MEASURED: u64 = 32 * CONTENT_MAX;
/// Batches whose time on the way is looked at to see whether they queue.
const RECENT: u32 = 8;
/// A worker that waits longer for pages than this ends what was in a row: QEMU has come to an end of its walk. Shorter waits are cores that are wanted by all.
const PAUSE: Duration = Duration::from_millis(20);
/// Time on the way beside the least that was seen, once more: what threads that wait for a core make of it.
const JITTER: Duration = Duration::from_millis(10);
/// And as much again as the least, up to this: a long line is long, and not more uneven for that.
const UNEVEN: Duration = Duration::from_millis(20);

/// Of content, below which a batch says nothing of how fast content could go: it begins no trial and is none. What goes as it is is measured in batches of any
/// size, or it would go on so when a slow link makes all of them small.
const FULL: u64 = CONTENT_MAX / 2;

/// Decides it, batch by batch.
#[derive(Debug)]
pub(super) struct Effort {
    state: State,
    /// Taken in a row.
    busy: u32,
    /// Since when a worker waits for pages.
    without_pages_since: Option<Duration>,
    /// So many in a row are to be taken before the next trial.
    before_trial: u32,
    under_way: VecDeque<Batch>,
    /// What was acknowledged lately, in the way that it is sent now.
    lately: Lately,
    /// Bytes of content per second, squeezed.
    squeezed: u64,
    /// Workers, and what they squeezed lately, in how much time of theirs.
    workers: u32,
    squeezing: (u64, Duration),
    /// How long the last ones took.
    recent: VecDeque<Duration>,
    least: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Squeezed,
    Trial(Trial),
    Plain,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Trial {
    taken: u32,
    acknowledged: u32,
    first: Duration,
    /// Of those behind the first.
    content: u64,
}

/// The last batches that were acknowledged, as many as have [`MEASURED`] content.
#[derive(Debug, Default)]
struct Lately {
    /// When, and the content of each.
    batches: VecDeque<(Duration, u64)>,
    /// Of all but the first, which only starts the clock.
    content: u64,
}

/// One that is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Batch {
    number: u64,
    content: u64,
    at: Duration,
    plain: bool,
}

impl Effort {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: u32::try_from(workers).unwrap_or(u32::MAX).max(1),
            squeezing: (0, Duration::ZERO),
            state: State::Squeezed,
            busy: 0,
            without_pages_since: None,
            before_trial: FIRST,
            under_way: VecDeque::new(),
            lately: Lately::default(),
            squeezed: 0,
            recent: VecDeque::new(),
            least: Duration::MAX,
        }
    }

    /// Whether a batch with so many bytes of content is to be compressed.
    pub(super) fn choose(&mut self, number: u64, content: u64, now: Duration) -> bool {
        if let Some(since) = self.without_pages_since.take()
            && now.saturating_sub(since) > PAUSE
        {
            self.begin_again();
        }
        if content < FULL && self.state != State::Plain {
            return true;
        }
        if content == 0 {
            return false;
        }
        self.busy = self.busy.saturating_add(1);
        if self.state == State::Squeezed && self.busy > self.before_trial && self.is_calm() {
            self.squeezed = self.lately.per_second(now).unwrap_or(u64::MAX);
            self.state = State::Trial(Trial::default());
        }
        let plain = match &mut self.state {
            State::Squeezed => false,
            State::Trial(trial) => {
                trial.taken += 1;
                trial.taken <= TRIAL
            }
            State::Plain => true,
        };
        self.under_way.push_back(Batch {
            number,
            content,
            at: now,
            plain,
        });
        !plain
    }

    /// A worker found no pages to take, and waits for some.
    pub(super) fn found_no_pages(&mut self, now: Duration) {
        self.without_pages_since.get_or_insert(now);
        match &mut self.state {
            State::Squeezed => {}
            // What is delivered now says nothing of what could be.
            State::Trial(trial) if trial.taken < TRIAL => {
                self.state = State::Squeezed;
                self.before_trial = self.before_trial.saturating_mul(2);
                self.begin_again();
            }
            State::Trial(_) => {}
            State::Plain => self.begin_again(),
        }
    }

    fn begin_again(&mut self) {
        self.busy = 0;
        // While batches queue as they are, it is the link that limits, whoever waits here.
        let link_limits = self.state == State::Plain && !self.under_way.is_empty() && self.queues();
        if !link_limits {
            self.lately.clear();
        }
    }

    /// A worker found too much under way to take more: compressing is not what limits.
    pub(super) const fn found_no_room(&mut self) {
        self.busy = 0;
    }

    /// A worker took so long to make a batch that was squeezed, out of so many bytes of content.
    pub(super) fn made(&mut self, content: u64, took: Duration) {
        let (bytes, time) = self.squeezing;
        // Of what was before seven eighths: the last ten or so count.
        self.squeezing = (bytes / 8 * 7 + content, time / 8 * 7 + took);
    }

    /// A batch is at the receiver.
    pub(super) fn acknowledged(&mut self, number: u64, now: Duration) {
        // Mostly one of the first: they come about in order.
        let place = self
            .under_way
            .iter()
            .position(|batch| batch.number == number);
        let Some(batch) = place.and_then(|place| self.under_way.remove(place)) else {
            return;
        };
        let took = now.saturating_sub(batch.at);
        // A small one takes less: it is held against what a full one takes at least.
        if batch.content >= FULL {
            self.least = self.least.min(took);
        }
        push(&mut self.recent, took, RECENT as usize);
        match &mut self.state {
            State::Trial(trial) if batch.plain => {
                trial.acknowledged += 1;
                match trial.acknowledged {
                    1 => trial.first = now,
                    _ => trial.content += batch.content,
                }
                if trial.acknowledged == TRIAL {
                    let trial = *trial;
                    self.judge(trial, now);
                }
            }
            State::Trial(_) => {}
            State::Squeezed if !batch.plain => {
                self.lately.push(now, batch.content);
            }
            State::Plain if batch.plain => {
                self.lately.push(now, batch.content);
                let delivered = self.lately.per_second(now);
                // What was delivered before may have waited for pages. Where now the link is what limits, it is what workers could squeeze that counts.
                let could = match self.queues() {
                    true => self.could_be_squeezed(),
                    false => 0,
                };
                if delivered.is_some_and(|plain| plain < self.squeezed.max(could)) {
                    self.squeeze_again();
                }
            }
            State::Squeezed | State::Plain => {}
        }
    }

    fn judge(&mut self, trial: Trial, now: Duration) {
        let plain = per_second(trial.content, now.saturating_sub(trial.first));
        if plain > self.squeezed.saturating_mul(WON) / 8 {
            self.state = State::Plain;
            self.lately.clear();
        } else {
            self.squeeze_again();
        }
    }

    /// Compressing has shown to be better: back to it, and for longer than before.
    fn squeeze_again(&mut self) {
        self.state = State::Squeezed;
        self.before_trial = self.before_trial.saturating_mul(LATER);
        self.begin_again();
    }

    /// Batches do not queue on their way.
    fn is_calm(&self) -> bool {
        // As many as were looked at: an average of fewer is none.
        self.lately.is_enough() && self.waited() <= self.uneven() + JITTER
    }

    /// They do, beyond doubt.
    fn queues(&self) -> bool {
        self.waited() > 3 * self.uneven() + 2 * JITTER
    }

    /// How long the last ones took beside the least that was seen.
    fn waited(&self) -> Duration {
        self.took().saturating_sub(self.least)
    }

    fn uneven(&self) -> Duration {
        self.least.min(UNEVEN)
    }

    /// Bytes of content per second, if workers had nothing to wait for.
    fn could_be_squeezed(&self) -> u64 {
        let (bytes, time) = self.squeezing;
        per_second(bytes, time).saturating_mul(u64::from(self.workers))
    }

    /// How long the last ones took.
    fn took(&self) -> Duration {
        let sum: Duration = self.recent.iter().sum();
        sum / RECENT
    }
}

impl Lately {
    fn push(&mut self, now: Duration, content: u64) {
        if !self.batches.is_empty() {
            self.content += content;
        }
        self.batches.push_back((now, content));
        while let Some(&(_, second)) = self.batches.get(1)
            && self.content - second >= MEASURED
        {
            self.batches.pop_front();
            self.content -= second;
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_enough(&self) -> bool {
        self.content >= MEASURED
    }

    /// Bytes of content per second, when it is enough to say.
    fn per_second(&self, now: Duration) -> Option<u64> {
        let (first, _) = self.batches.front()?;
        self.is_enough()
            .then(|| per_second(self.content, now.saturating_sub(*first)))
    }
}

fn push<T>(last: &mut VecDeque<T>, next: T, most: usize) {
    if last.len() == most {
        last.pop_front();
    }
    last.push_back(next);
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Effort {
    /// Sends batches as they are, or not, until it has measured that the other is better.
    pub(super) fn begin_with(&mut self, plain: bool) {
        self.state = match plain {
            true => State::Plain,
            false => State::Squeezed,
        };
        self.begin_again();
    }
}

#[cfg(test)]
mod tests;
