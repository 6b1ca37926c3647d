//! A guest, its QEMU, a source, a link and a receiver, in steps of a millisecond.
//!
//! ```text
//!  guest writes ─▶ QEMU: unseen ─ look ─▶ walk ─ read while the engine wants ─▶ engine ─ take ─▶ link ─▶ receiver
//!                                  │                                                               │
//!                                  └ gate open: the guest stops, the rest follows                  └ acknowledged
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use sealift_pages::{Address, PageSize};
use sealift_precopy::{
    Convergence, Decision, Encoded, Engine, Forecast, Gate, IfNotConverging, Remedy, Round, Rounds,
    Sample,
};

use crate::guest::Guest;

const PAGE: u64 = 4096;
/// Pages that QEMU writes in a millisecond when it is read: 800 MB/s.
const QEMU: u64 = 200;
/// How long a section of QEMU's takes at most.
const SECTION: u64 = 50;
/// Milliseconds that a batch takes the link, and pages of it at most.
const BATCH_TIME: u64 = 10;
const BATCH_MAX: u64 = 256;
/// Milliseconds of the link that are taken in advance.
const AHEAD: u64 = 100;
/// What a switch takes besides.
const DEVICE_STATE: u64 = 10;

pub(crate) struct World {
    pub(crate) guest: Guest,
    pub(crate) link: Link,
    pub(crate) gate: Gate,
    pub(crate) convergence: Convergence,
    pub(crate) engine: Engine,
    /// Sections without a page that QEMU writes after its first pass, before it looks for dirty pages.
    pub(crate) blind: u64,
    /// Hot pages may wait.
    pub(crate) patient: bool,
    pub(crate) now: u64,
    pub(crate) rounds: Rounds,
    pub(crate) decision: Decision,
    pub(crate) remedy: Remedy,
    /// The content of each page: how often it was written.
    contents: Vec<u64>,
    qemu: Qemu,
    source: Source,
    receiver: Vec<Option<Kept>>,
    /// The guest stands still since then.
    stopped: Option<u64>,
}

struct Qemu {
    /// Written since it looked.
    unseen: BTreeSet<u64>,
    /// What is left of the walk.
    dirty: VecDeque<u64>,
    /// When the section began; none between two.
    section: Option<u64>,
}

#[derive(Default)]
struct Source {
    batches: u64,
    /// What was sent of each page last.
    bases: Vec<Option<u64>>,
    /// How often each page was sent with content.
    sends: Vec<u64>,
    wire: u64,
    delivered_wire: u64,
    delivered_raw: u64,
    in_flight: u64,
}

/// What the receiver has of a page: the batch that brought it, and the content; none for zeros.
#[derive(Clone, Copy)]
struct Kept {
    batch: u64,
    content: Option<u64>,
}

pub(crate) struct Link {
    /// Bytes in a millisecond.
    pub(crate) rate: u64,
    /// Milliseconds one way.
    pub(crate) latency: u64,
    queue: VecDeque<Batch>,
    /// Bytes of the first one that are gone.
    gone: u64,
    /// What is on its way, and back; when it is there.
    travelling: VecDeque<(u64, Batch)>,
    returning: VecDeque<(u64, Batch)>,
}

struct Batch {
    number: u64,
    wire: u64,
    pages: Vec<(u64, Option<u64>)>,
}

impl Link {
    /// Of so many Mbit/s.
    pub(crate) const fn mbit(mbit: u64, latency: u64) -> Self {
        Self {
            rate: mbit * 125,
            latency,
            queue: VecDeque::new(),
            gone: 0,
            travelling: VecDeque::new(),
            returning: VecDeque::new(),
        }
    }

    const fn round_trip(&self) -> Duration {
        Duration::from_millis(2 * self.latency)
    }

    fn queued(&self) -> u64 {
        self.queue.iter().map(|batch| batch.wire).sum::<u64>() - self.gone
    }

    fn step(&mut self, now: u64) {
        self.gone += self.rate;
        while let Some(batch) = self.queue.pop_front_if(|batch| batch.wire <= self.gone) {
            self.gone -= batch.wire;
            self.travelling.push_back((now + self.latency, batch));
        }
        if self.queue.is_empty() {
            self.gone = 0;
        }
    }
}

/// How a guest moved.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) time: u64,
    pub(crate) wire: u64,
    pub(crate) blackout: u64,
    /// Pages with content, each as often as it was sent.
    pub(crate) sends: u64,
}

impl World {
    pub(crate) fn new(guest: Guest, link: Link, max_downtime: u64) -> Self {
        let pages = usize::try_from(guest.pages).unwrap();
        let page_size = PageSize::new(4096).unwrap();
        let mut gate = Gate::new(
            Duration::from_millis(max_downtime),
            Forecast::new(guest.pages * PAGE, page_size),
        );
        gate.offered();
        Self {
            engine: Engine::new(&[guest.pages], page_size),
            qemu: Qemu {
                unseen: BTreeSet::new(),
                dirty: (0..guest.pages).collect(),
                section: None,
            },
            source: Source {
                bases: vec![None; pages],
                sends: vec![0; pages],
                ..Source::default()
            },
            contents: vec![0; pages],
            receiver: vec![None; pages],
            guest,
            link,
            gate,
            convergence: Convergence::new(IfNotConverging::Keep),
            blind: 0,
            patient: true,
            now: 0,
            rounds: Rounds::new(0),
            decision: Decision::Open,
            remedy: Remedy::None,
            stopped: None,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    /// Until the guest has moved; none when it has not after so many milliseconds.
    pub(crate) fn run(&mut self, most: u64) -> Option<Moved> {
        while self.now < most {
            self.step();
            let all_there = self.qemu.dirty.is_empty() && self.engine.is_drained();
            if let Some(stopped) = self.stopped.filter(|_| all_there) {
                self.check();
                return Some(Moved {
                    time: self.now,
                    wire: self.source.wire,
                    // The last acknowledgement has come back.
                    blackout: self.now - stopped - self.link.latency + DEVICE_STATE,
                    sends: self.source.sends.iter().sum(),
                });
            }
        }
        None
    }

    pub(crate) fn step(&mut self) {
        self.now += 1;
        self.write();
        self.link.step(self.now);
        self.arrive();
        self.walk();
        self.send();
        if self.now.is_multiple_of(10) {
            self.judge();
        }
    }

    fn write(&mut self) {
        // A throttled guest stands still for that part of each 100 ms.
        let throttled = match self.remedy {
            Remedy::Throttle { percent } => self.now % 100 < percent.into(),
            _ => false,
        };
        if self.stopped.is_some() || throttled {
            return;
        }
        for page in (self.guest.writes)(self.now) {
            if !self.guest.is_zero(page) {
                self.contents[usize::try_from(page).unwrap()] += 1;
                self.qemu.unseen.insert(page);
            }
        }
    }

    fn walk(&mut self) {
        let now = self.now();
        if self.stopped.is_some() && self.qemu.dirty.is_empty() {
            return;
        }
        if self.qemu.section.is_none() {
            let rate = self.gate.forecast().wire_rate();
            if !self.engine.wants_more(now, rate, self.link.round_trip()) {
                return;
            }
            self.qemu.section = Some(self.now);
            if self.blind == 0 {
                self.rounds.caught_up();
            }
        }
        for _ in 0..QEMU {
            let Some(page) = self.qemu.dirty.pop_front() else {
                break;
            };
            let zero = self.guest.is_zero(page);
            let at = Address { block: 0, page };
            let ended = match zero {
                true => self.rounds.zero(at),
                false => self.rounds.page(at),
            };
            ended.into_iter().for_each(|round| self.round(round));
            self.engine.mark(at, 1, zero).unwrap();
        }
        let began = self.qemu.section.unwrap();
        if self.qemu.dirty.is_empty() || self.now - began >= SECTION {
            self.qemu.section = None;
            let ended = self.rounds.section_end();
            ended.into_iter().for_each(|round| self.round(round));
        }
        if self.qemu.dirty.is_empty() {
            self.blind = self.blind.saturating_sub(1);
        }
        if self.qemu.dirty.is_empty() && self.stopped.is_none() && self.blind == 0 {
            // It looks for dirty pages, and stops the guest if it may.
            self.qemu.dirty = std::mem::take(&mut self.qemu.unseen).into_iter().collect();
            if self.decision == Decision::Open && self.now > 10 {
                self.stopped = Some(self.now);
                self.engine.finish();
            }
        }
    }

    fn round(&mut self, round: Round) {
        let now = self.now();
        self.engine.round(now);
        self.gate.round(now, round);
    }

    fn send(&mut self) {
        let now = self.now();
        let batch = (BATCH_TIME * self.link.rate / self.guest.literal).clamp(16, BATCH_MAX);
        while self.link.queued() < AHEAD * self.link.rate && self.engine.has_work(now) {
            let number = self.source.batches;
            self.source.batches += 1;
            let mut taken = vec![];
            self.engine.take(now, number, batch, batch * 16, &mut taken);
            let mut pages = vec![];
            let mut made = Encoded::default();
            for taken in taken {
                for page in taken.first.page..taken.first.page + taken.run {
                    let index = usize::try_from(page).unwrap();
                    if taken.zero {
                        self.source.bases[index] = None;
                        pages.push((page, None));
                        continue;
                    }
                    let content = self.contents[index];
                    pages.push((page, Some(content)));
                    self.source.sends[index] += 1;
                    let delta = self.source.bases[index].replace(content);
                    // Nothing has changed: the content that is there is named.
                    if delta == Some(content) {
                        continue;
                    }
                    let delta = delta.map(|base| 8 + (content - base) * self.guest.change);
                    match delta.filter(|&delta| delta < self.guest.literal) {
                        Some(delta) => {
                            made.delta_pages += 1;
                            made.delta_bytes += delta;
                        }
                        None => {
                            made.literal_pages += 1;
                            made.literal_bytes += self.guest.literal;
                        }
                    }
                }
            }
            self.engine.encoded(number, made);
            let wire = made.bytes() + pages.len() as u64 / 8 + 64;
            self.source.wire += wire;
            self.source.in_flight += pages.len() as u64 * PAGE;
            self.link.queue.push_back(Batch {
                number,
                wire,
                pages,
            });
        }
    }

    fn arrive(&mut self) {
        while let Some((_, batch)) = self.link.travelling.pop_front_if(|(at, _)| *at <= self.now) {
            for &(page, content) in &batch.pages {
                let kept = &mut self.receiver[usize::try_from(page).unwrap()];
                if kept.is_none_or(|kept| kept.batch < batch.number) {
                    *kept = Some(Kept {
                        batch: batch.number,
                        content,
                    });
                }
            }
            let back = self.now + self.link.latency;
            self.link.returning.push_back((back, batch));
        }
        while let Some((_, batch)) = self.link.returning.pop_front_if(|(at, _)| *at <= self.now) {
            let raw = batch.pages.len() as u64 * PAGE;
            self.source.in_flight -= raw;
            self.engine.acknowledged(batch.number);
            self.source.delivered_raw += raw;
            self.source.delivered_wire += batch.wire;
        }
    }

    fn judge(&mut self) {
        let now = self.now();
        let waiting = self.engine.has_work(now);
        let forecast = self.gate.forecast_mut();
        forecast.progress(self.rounds.current());
        forecast.sample(
            now,
            Sample {
                delivered_raw: self.source.delivered_raw,
                delivered_wire: self.source.delivered_wire,
                in_flight: self.source.in_flight,
                waiting,
            },
        );
        forecast.round_trip(self.link.round_trip());
        forecast.owned(self.engine.costs());
        if self.patient {
            self.engine.may_wait(self.gate.may_wait());
        }
        self.decision = self.gate.decide(now);
        if self.decision == Decision::Open {
            self.engine.release();
        }
        self.engine.hurry(self.decision.hurries());
        if let Remedy::Throttle { percent } = self.remedy {
            self.convergence.throttled(now, percent);
        }
        self.remedy = self.convergence.consider(now, &self.gate, self.decision);
    }

    /// Every page is at the receiver, as it was last written.
    fn check(&self) {
        let pages = self.contents.iter().zip(&self.receiver).enumerate();
        for (page, (&content, kept)) in pages {
            let kept = kept.unwrap_or_else(|| panic!("page {page} never came"));
            let zero = self.guest.is_zero(page as u64);
            assert_eq!(kept.content, (!zero).then_some(content), "page {page}");
        }
    }
}
