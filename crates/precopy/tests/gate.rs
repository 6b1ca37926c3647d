//! The gate, on a virtual clock, before guests that behave in their own ways.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use sealift_pages::{Address, PageSize};
use sealift_precopy::{
    Convergence, Costs, Decision, Forecast, Gate, IfNotConverging, QemuView, Remedy, Rounds,
    Sample, Why,
};

const PAGE: u64 = 4096;
/// Pages of the guest: 64 MiB.
const PAGES: u64 = 16_384;
/// Pages that the link delivers in a millisecond: 100 MiB/s.
const LINK: u64 = 25;
/// What may be on its way: 20 ms of the link.
const WINDOW: u64 = 20 * LINK;
const DOWNTIME: Duration = Duration::from_millis(50);

/// A guest, its QEMU that walks over dirty pages, and a link; in steps of a millisecond.
struct World<W> {
    /// Page numbers that the guest writes in a millisecond.
    writes: W,
    now: u64,
    /// Written since QEMU looked.
    unseen: BTreeSet<u64>,
    /// QEMU's bitmap.
    dirty: BTreeSet<u64>,
    /// When this section began.
    section: u64,
    in_flight: u64,
    delivered: u64,
    rounds: Rounds,
    gate: Gate,
    asks_qemu: bool,
}

impl<W: FnMut(u64) -> Vec<u64>> World<W> {
    fn new(writes: W) -> Self {
        let page_size = PageSize::new(4096).unwrap();
        let mut gate = Gate::new(DOWNTIME, Forecast::new(PAGES * PAGE, page_size));
        gate.offered();
        Self {
            writes,
            now: 0,
            unseen: BTreeSet::new(),
            dirty: (0..PAGES).collect(),
            section: 0,
            in_flight: 0,
            delivered: 0,
            rounds: Rounds::new(0),
            gate,
            asks_qemu: false,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn step(&mut self) -> Decision {
        self.now += 1;
        let now = self.now();
        let written = (self.writes)(self.now);
        self.unseen
            .extend(written.into_iter().map(|page| page % PAGES));
        self.rounds.caught_up();
        let arrived = self.in_flight.min(LINK);
        self.in_flight -= arrived;
        self.delivered += arrived;
        while self.in_flight < WINDOW
            && let Some(page) = self.dirty.pop_first()
        {
            let at = Address { block: 0, page };
            if let Some(round) = self.rounds.page(at) {
                self.gate.round(now, round);
            }
            self.in_flight += 1;
        }
        // A section takes 50 ms, or until nothing is dirty; a blocked one waits.
        let drained = self.dirty.is_empty();
        if drained || self.now - self.section >= 50 {
            self.section = self.now;
            if let Some(round) = self.rounds.section_end() {
                self.gate.round(now, round);
            }
        }
        if drained {
            self.dirty = std::mem::take(&mut self.unseen);
        }
        let forecast = self.gate.forecast_mut();
        forecast.progress(self.rounds.current());
        forecast.sample(
            now,
            Sample {
                delivered_raw: self.delivered * PAGE,
                delivered_wire: self.delivered * PAGE / 3,
                in_flight: self.in_flight * PAGE,
                waiting: self.in_flight == WINDOW,
            },
        );
        if self.asks_qemu && self.now.is_multiple_of(20) {
            let view = QemuView {
                remaining: self.dirty.len() as u64 * PAGE,
                dirty_pages_rate: 0,
            };
            self.gate.forecast_mut().qemu(now, view);
        }
        self.gate.decide(now)
    }

    /// Goes on until the gate opens, for at most so many milliseconds.
    fn run(&mut self, most: u64) -> Decision {
        let mut decision = self.gate.decide(self.now());
        for _ in 0..most {
            decision = self.step();
            if decision == Decision::Open {
                break;
            }
        }
        decision
    }

    /// How long the guest would stand still now, in truth.
    fn blackout(&self) -> Duration {
        let left = self.in_flight + self.dirty.union(&self.unseen).count() as u64;
        Duration::from_millis(left / LINK)
    }
}

#[test]
fn an_idle_guest_is_let_go_after_one_pass() {
    let mut world = World::new(|_| vec![]);
    assert_eq!(world.run(10_000), Decision::Open);
    // 655 ms for the pass, of which the last 20 are on their way when it ends.
    assert!((635..660).contains(&world.now), "{}", world.now);
    assert!(world.blackout() <= DOWNTIME, "{:?}", world.blackout());
}

#[test]
fn a_guest_that_writes_slower_than_the_link_converges() {
    // A new page each millisecond, of all pages in turn.
    for asks_qemu in [false, true] {
        let mut world = World::new(|now| vec![now * 7]);
        world.asks_qemu = asks_qemu;
        assert_eq!(world.run(10_000), Decision::Open, "{asks_qemu}");
        assert!(world.blackout() <= DOWNTIME, "{:?}", world.blackout());
    }
}

#[test]
fn a_guest_that_writes_few_pages_over_and_over_is_let_go() {
    // 500 pages: 20 ms of the link.
    let mut world = World::new(|now| (0..50).map(|n| (now * 50 + n) % 500).collect());
    assert_eq!(world.run(10_000), Decision::Open);
    assert!(world.blackout() <= DOWNTIME, "{:?}", world.blackout());
}

#[test]
fn a_guest_that_writes_faster_than_the_link_is_held_and_it_is_said_why() {
    let mut world = World::new(|now| (0..40).map(|n| now * 40 + n).collect());
    let Decision::Hold { why } = world.run(4000) else {
        panic!("opened after {} ms", world.now);
    };
    let Why::NotConverging {
        dirty_rate,
        delivered_rate,
        blackout,
        ..
    } = why
    else {
        panic!("{why:?}")
    };
    assert!(blackout > DOWNTIME);
    // 98 MiB/s; the guest's 156 MiB/s come to no more pages than there are.
    assert!(
        delivered_rate.abs_diff(LINK * PAGE * 1000) < 5 << 20,
        "{why}"
    );
    assert!(dirty_rate > 50 << 20, "{why}");
    assert_eq!(
        world.gate.forecast().time_to_end(world.now()).is_some(),
        dirty_rate < delivered_rate
    );
}

#[test]
fn a_guest_that_was_let_go_and_did_not_stop_may_not_converge_either() {
    // Quiet until it is let go.
    let mut world = World::new(|now| match now < 2000 {
        true => vec![],
        false => (0..40).map(|n| now * 40 + n).collect(),
    });
    assert_eq!(world.run(1500), Decision::Open);
    assert_eq!(world.gate.not_converging(world.now()), None);
    let mut convergence = Convergence::new(IfNotConverging::Abort);
    let mut remedy = Remedy::None;
    for _ in 0..12_000 {
        let decision = world.step();
        assert_eq!(decision, Decision::Open, "for good");
        remedy = convergence.consider(world.now(), &world.gate, decision);
        if remedy != Remedy::None {
            break;
        }
    }
    assert!(matches!(remedy, Remedy::Abort { .. }), "{remedy:?}");
}

#[test]
fn a_guest_that_writes_in_bursts_is_let_go_between_them() {
    // 100 ms of 100 pages each, then quiet for 900.
    let mut seed = 1_u64;
    let burst = move |now: u64| {
        if now % 1000 >= 100 {
            return vec![];
        }
        let page = || {
            seed = seed * 48_271 % 0x7fff_ffff;
            seed
        };
        std::iter::repeat_with(page).take(100).collect()
    };
    let mut world = World::new(burst);
    let mut held = 0;
    loop {
        let decision = world.step();
        if world.now % 1000 < 100 && world.now > 1000 {
            assert_ne!(
                decision,
                Decision::Open,
                "opened in a burst, at {}",
                world.now
            );
        }
        match decision {
            Decision::Open => break,
            Decision::Hold { .. } => held += 1,
        }
        assert!(world.now < 10_000);
    }
    assert!(held > 655);
    assert!(world.blackout() <= DOWNTIME, "{:?}", world.blackout());
}

#[test]
fn the_gate_waits_for_the_message_and_for_the_first_pass() {
    let mut world = World::new(|_| vec![]);
    world.gate = Gate::new(
        DOWNTIME,
        Forecast::new(PAGES * PAGE, PageSize::new(4096).unwrap()),
    );
    let hold = |why| Decision::Hold { why };
    assert_eq!(world.run(3000), hold(Why::NotOffered));
    world.gate.offered();
    assert_eq!(world.step(), Decision::Open);

    let mut world = World::new(|_| vec![]);
    assert_eq!(world.run(300), hold(Why::FirstPass));
}

#[test]
fn an_open_gate_stays_open() {
    let mut world = World::new(|now| {
        if now < 1500 {
            vec![]
        } else {
            (0..2000).collect()
        }
    });
    assert_eq!(world.run(10_000), Decision::Open);
    for _ in 0..300 {
        assert_eq!(world.step(), Decision::Open);
    }
}

#[test]
fn a_downtime_that_no_switch_can_keep_is_said_to_be_one() {
    let forecast = Forecast::new(1 << 20, PageSize::new(4096).unwrap());
    let mut gate = Gate::new(Duration::from_millis(5), forecast);
    let Decision::Hold { why } = gate.decide(Duration::ZERO) else {
        panic!("opened");
    };
    assert!(why.to_string().contains("allow more than 5ms"), "{why}");
}

/// A source that owns its pre-copy, on a link of 24 MB/s: each round of its series leaves so many bytes. After how many the gate opens.
fn opens_after(round_trip: Duration, leaves: impl Fn(u64) -> u64) -> u64 {
    let mut forecast = Forecast::new(1 << 30, PageSize::new(4096).unwrap());
    forecast.round_trip(round_trip);
    let mut sample = Sample {
        in_flight: 1,
        waiting: true,
        ..Sample::default()
    };
    let mut now = Duration::ZERO;
    for _ in 0..100 {
        now += Duration::from_millis(10);
        sample.delivered_raw += 720_000;
        sample.delivered_wire += 240_000;
        forecast.sample(now, sample);
    }
    let mut gate = Gate::new(Duration::from_millis(50), forecast);
    gate.offered();
    for round in 2..200 {
        now += Duration::from_millis(50);
        gate.forecast_mut().owned(Costs {
            round,
            to_send: 0,
            in_flight: 0,
            next_round: Some(leaves(round)),
            per_second: 0,
            stale: false,
        });
        if gate.decide(now) == Decision::Open {
            return round - 1;
        }
    }
    panic!("held for ever");
}

#[test]
fn the_gate_waits_for_rounds_that_become_shorter_and_not_for_those_that_swing() {
    let near = Duration::from_micros(200);
    // 33 ms, 17, 8, 4 …: what is small is not worth waiting for any more.
    let shrinks = |round| 3_200_000_u64 >> round;
    assert_eq!(opens_after(near, shrinks), 5);
    // A guest with two things to do: its rounds leave 35 ms and 15 ms in turn, and will for ever.
    let swings = |round| if round % 2 == 0 { 840_000 } else { 360_000 };
    assert_eq!(opens_after(near, swings), 4);
    // A line of 80 ms is most of the standstill: the guest does not stand a quarter shorter for any of these rounds.
    assert_eq!(opens_after(Duration::from_millis(160), shrinks), 3);
}
