//! How fast the guest goes: rounds, the gate, and how much may be on its way.
//!
//! ```text
//!  pages as QEMU writes them ─▶ Rounds ─▶ Gate ─▶ may QEMU stop the guest?
//!  acknowledgements ─▶ Forecast ─▶ rate ─▶ window
//!                                          └─▶ batch = window ÷ 16       so that every stage has some in hand
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sealift_net::outbound::{self, Standing};
use sealift_pages::{Address, PageSize};
use sealift_precopy::{
    Convergence, Decision, Forecast, Gate, IfNotConverging, QemuView, Remedy, Round, Rounds,
    Sample, Why,
};
use sealift_qemu::machine::Migration;
use sealift_session::flight::WINDOW_MAX;

use super::window::{self, Line};
use crate::lock;

/// Batches that fill the window.
const BATCHES: u64 = 16;
/// The least batch: a size at which zstd has found most of what it finds.
const BATCH_MIN: u64 = 256 << 10;
/// The largest: what a batch may hold.
const BATCH_MAX: u64 = 1 << 20;
/// QEMU's count of looks for dirty pages when it begins: the first one finds all of memory.
const FIRST_LOOK: u64 = 1;
/// Guest memory in a multifd packet: QEMU's `MULTIFD_PACKET_SIZE`.
const PACKET: u64 = 512 << 10;

/// The guest's pace, shared by who reads QEMU's channels and who drives the session.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    state: Mutex<State>,
    batch: AtomicUsize,
    window: AtomicU64,
    /// QEMU's channels, which share what may be on its way.
    channels: AtomicU64,
    page_bytes: u64,
    max_downtime: Duration,
}

#[derive(Debug)]
struct State {
    rounds: Rounds,
    gate: Gate,
    convergence: Convergence,
    opened: bool,
    /// It is open, or is about to be.
    hurries: bool,
    /// QEMU waits for the gate.
    gated: bool,
    /// QEMU has looked for dirty pages since it began with all of memory, or cannot be asked. In its first moments it does not, however little is left.
    looked: bool,
    /// Rounds that ended and were not told.
    ended: Vec<Round>,
}

/// What follows from what was delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adjusted {
    /// The gate has just opened.
    pub(crate) opens: bool,
    /// What is to be done about a guest that does not converge.
    pub(crate) remedy: Remedy,
}

/// What is known of the guest's pace.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    pub(crate) round: u64,
    pub(crate) dirty_rate: u64,
    pub(crate) remaining: u64,
    pub(crate) end: Option<Duration>,
    pub(crate) blackout: Option<Duration>,
    pub(crate) wire_rate: u64,
    pub(crate) raw_rate: u64,
    /// Why the gate is held, if it is for a reason that will not pass by itself.
    pub(crate) stuck: Option<Why>,
}

impl Pace {
    /// Of a guest with so many bytes of memory, whose QEMU is asked how its migration stands or is not.
    pub(crate) fn new(
        memory: u64,
        page_size: PageSize,
        max_downtime: Duration,
        if_not_converging: IfNotConverging,
        asked: bool,
    ) -> Self {
        let forecast = Forecast::new(memory, page_size);
        Self {
            start: Instant::now(),
            state: Mutex::new(State {
                rounds: Rounds::new(0),
                gate: Gate::new(max_downtime, forecast),
                convergence: Convergence::new(if_not_converging),
                opened: false,
                hurries: false,
                gated: false,
                looked: !asked,
                ended: Vec::new(),
            }),
            batch: AtomicUsize::new(usize::try_from(BATCH_MIN).unwrap_or(usize::MAX)),
            window: AtomicU64::new(window::LEAST),
            channels: AtomicU64::new(1),
            page_bytes: page_size.bytes() as u64,
            max_downtime,
        }
    }

    /// QEMU has written a page. Returns whether a round ended before it.
    pub(crate) fn page(&self, at: Address, zero: bool) -> bool {
        self.pages(std::iter::once((at, zero)))
    }

    /// QEMU has written pages, those of zeros marked. Returns whether a round ended.
    pub(crate) fn pages(&self, pages: impl Iterator<Item = (Address, bool)>) -> bool {
        let mut state = lock(&self.state);
        let mut any = false;
        for (at, zero) in pages {
            let ended = if zero {
                state.rounds.zero(at)
            } else {
                state.rounds.page(at)
            };
            if let Some(ended) = ended {
                state.ended(self.start.elapsed(), ended);
                any = true;
            }
        }
        any
    }

    /// All that QEMU had written was read.
    pub(crate) fn caught_up(&self) {
        let mut state = lock(&self.state);
        if state.looked {
            state.rounds.caught_up();
        }
    }

    /// QEMU is not read for a while.
    pub(crate) fn fell_behind(&self) {
        lock(&self.state).rounds.fell_behind();
    }

    /// A section of RAM is over. Returns whether a round ended with it.
    pub(crate) fn section_ended(&self) -> bool {
        let mut state = lock(&self.state);
        let ended = state.rounds.section_end();
        if let Some(ended) = ended {
            state.ended(self.start.elapsed(), ended);
        }
        ended.is_some()
    }

    /// The destination's word is here: the gate decides when it goes on.
    pub(crate) fn gate_is_ours(&self) {
        let mut state = lock(&self.state);
        state.gate.offered();
        state.gated = true;
    }

    /// What QEMU says of its migration.
    pub(crate) fn qemu_says(&self, migration: &Migration) {
        let now = self.start.elapsed();
        let mut state = lock(&self.state);
        if let Some(percent) = migration.throttled_percent {
            state.convergence.throttled(now, percent);
        }
        if let Some(ram) = migration.ram {
            let view = QemuView {
                remaining: ram.remaining,
                dirty_pages_rate: ram.dirty_pages_rate,
            };
            state.looked |= ram.dirty_sync_count > FIRST_LOOK;
            // Until then it says of the end of its first pass that nothing remains.
            if state.looked {
                state.gate.forecast_mut().qemu(now, view);
            }
        }
    }

    /// Connections are made anew: of the time without any nothing is known.
    pub(crate) fn reconnected(&self) {
        let mut state = lock(&self.state);
        state.gate.forecast_mut().interrupted();
        state.convergence.interrupted();
    }

    /// Takes in what was delivered.
    pub(crate) fn adjust(&self, standing: &Standing) -> Adjusted {
        let now = self.start.elapsed();
        let mut state = lock(&self.state);
        let current = state.rounds.current();
        let gated = state.gated;
        let forecast = state.gate.forecast_mut();
        forecast.progress(current);
        forecast.sample(
            now,
            Sample {
                delivered_raw: standing.delivered.content,
                delivered_wire: standing.delivered.wire,
                in_flight: standing.in_flight.content,
                waiting: standing.waiting,
            },
        );
        if let Some(costs) = standing.costs {
            forecast.owned(costs);
        }
        if let Some(latency) = standing.latency {
            forecast.round_trip(latency.least);
        }
        let line = Line {
            rate: forecast.delivered_rate(),
            round_trip: standing
                .latency
                .map_or(Duration::ZERO, |latency| latency.least),
            gated,
            first_pass_is_complete: forecast.first_pass_is_complete(),
            max_downtime: self.max_downtime,
        };
        self.follow(line.window());
        let decision = state.gate.decide(now);
        state.hurries = decision.hurries();
        let State {
            gate, convergence, ..
        } = &mut *state;
        let remedy = convergence.consider(now, gate, decision);
        let opens = decision == Decision::Open && !std::mem::replace(&mut state.opened, true);
        Adjusted { opens, remedy }
    }

    /// How pages that are read directly are to go.
    pub(crate) fn of_pages(&self) -> outbound::Pace {
        let state = lock(&self.state);
        let (may_wait, hurry) = match state.gated {
            true => (state.gate.may_wait(), state.hurries),
            // Nobody holds QEMU back: it stops the guest when it likes.
            false => (0, true),
        };
        outbound::Pace {
            batch: self.batch_bytes() as u64,
            may_wait,
            hurry,
            wire_rate: state.gate.forecast().wire_rate(),
        }
    }

    fn follow(&self, window: u64) {
        let batch = (window / BATCHES).clamp(BATCH_MIN, BATCH_MAX);
        self.window.store(window, Ordering::Relaxed);
        self.batch.store(
            usize::try_from(batch).unwrap_or(usize::MAX),
            Ordering::Relaxed,
        );
    }

    /// QEMU has opened another channel: before it sends pages.
    pub(crate) fn one_more_channel(&self) {
        let parallel = self.channels.fetch_add(1, Ordering::Relaxed);
        // Packets of several channels come in any order.
        let packet_pages = PACKET / self.page_bytes;
        lock(&self.state).rounds = Rounds::new(packet_pages.saturating_mul(parallel));
    }

    /// How many channels QEMU has opened.
    pub(crate) fn channels(&self) -> u64 {
        self.channels.load(Ordering::Relaxed)
    }

    /// Bytes of content that each channel may have on its way.
    pub(crate) fn window(&self) -> u64 {
        let share = WINDOW_MAX / self.channels().max(1);
        self.window.load(Ordering::Relaxed).min(share)
    }

    /// Bytes of content that make a batch.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch.load(Ordering::Relaxed)
    }

    /// Rounds that have ended since the last time.
    pub(crate) fn take_rounds(&self) -> Vec<Round> {
        std::mem::take(&mut lock(&self.state).ended)
    }

    /// What is known now.
    pub(crate) fn outlook(&self) -> Outlook {
        let now = self.start.elapsed();
        let mut state = lock(&self.state);
        let round = state.rounds.current().number + 1;
        let decision = state.gate.decide(now);
        let forecast = state.gate.forecast();
        Outlook {
            round,
            dirty_rate: forecast.dirty_rate(),
            remaining: forecast.remaining(now),
            end: forecast.time_to_end(now),
            blackout: forecast.blackout(now),
            wire_rate: forecast.wire_rate().unwrap_or(0),
            raw_rate: forecast.delivered_rate().unwrap_or(0),
            stuck: state.gate.not_converging(now).or(match decision {
                Decision::Hold {
                    why: why @ Why::DowntimeTooShort { .. },
                } => Some(why),
                _ => None,
            }),
        }
    }
}

impl State {
    fn ended(&mut self, now: Duration, round: Round) {
        self.gate.round(now, round);
        // A QEMU that has nothing to send makes thousands of empty rounds.
        if round.pages() > 0 {
            self.ended.push(round);
        }
    }
}
