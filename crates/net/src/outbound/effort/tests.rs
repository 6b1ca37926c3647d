//! Behaviour of the effort, on links and with workers in virtual time.

use super::*;

const MIB: u64 = 1 << 20;
/// Content that a batch leaves on the wire as one byte when it is squeezed.
const SQUEEZED: u64 = 4;

/// A worker, a link and a receiver that acknowledges at once, in virtual time: each batch goes through one after the other.
struct Way {
    effort: Effort,
    number: u64,
    worker: Duration,
    link: Duration,
    /// Bytes per second of the link.
    rate: u64,
    /// What is squeezed in a second.
    squeezing: u64,
    coming: VecDeque<(Duration, u64)>,
    plain: Vec<bool>,
    /// Batches that may be under way; whoever has more waits.
    window: usize,
    /// Content of each.
    batch: u64,
    /// From the link's end to the acknowledgement.
    latency: Duration,
}

impl Way {
    fn new(rate: u64, squeezing: u64) -> Self {
        Self {
            effort: Effort::new(1),
            number: 0,
            worker: Duration::ZERO,
            link: Duration::ZERO,
            rate,
            squeezing,
            coming: VecDeque::new(),
            plain: Vec::new(),
            window: 64,
            batch: MIB,
            latency: Duration::from_millis(1),
        }
    }

    fn time(bytes: u64, rate: u64) -> Duration {
        Duration::from_nanos(bytes * 1_000_000_000 / rate)
    }

    fn send(&mut self, batches: usize) {
        for _ in 0..batches {
            if self.coming.len() == self.window {
                let (at, _) = self.coming[0];
                self.worker = self.worker.max(at);
                self.effort.found_no_room();
            }
            while let Some(&(at, number)) = self.coming.front()
                && at <= self.worker
            {
                self.coming.pop_front();
                self.effort.acknowledged(number, at);
            }
            let squeezed = self.effort.choose(self.number, self.batch, self.worker);
            self.plain.push(!squeezed);
            let (wire, encoding) = match squeezed {
                true => (self.batch / SQUEEZED, self.squeezing),
                false => (self.batch, 20 * self.squeezing),
            };
            let took = Self::time(self.batch, encoding);
            self.worker += took;
            if squeezed {
                self.effort.made(self.batch, took);
            }
            self.link = self.link.max(self.worker) + Self::time(wire, self.rate);
            self.coming
                .push_back((self.link + self.latency, self.number));
            self.number += 1;
        }
    }

    fn plain(&self) -> usize {
        self.plain.iter().filter(|plain| **plain).count()
    }
}

#[test]
fn a_link_that_is_faster_than_compression_gets_pages_as_they_are() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(500);
    assert!(way.plain() > 400, "{}", way.plain());
    assert!(way.plain[..32].iter().all(|plain| !plain));
}

#[test]
fn a_link_that_carries_less_than_is_squeezed_is_tried_twice_in_as_many_batches() {
    let mut way = Way::new(119_000_000, 200_000_000);
    way.send(500);
    assert_eq!(way.plain(), 2 * TRIAL as usize);
}

#[test]
fn a_link_that_limits_is_never_tried() {
    let mut way = Way::new(25_000_000, 200_000_000);
    way.send(2000);
    assert_eq!(way.plain(), 0);
}

#[test]
fn a_link_that_becomes_slow_is_noticed() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(200);
    way.rate = 50_000_000;
    let before = way.plain();
    way.send(500);
    assert!(way.plain() - before < 120, "{}", way.plain() - before);
}

#[test]
fn a_link_that_becomes_slow_is_noticed_by_small_batches_too() {
    for batch in [256 << 10, 64 << 10] {
        let mut way = Way::new(1_200_000_000, 200_000_000);
        way.send(200);
        assert_eq!(way.plain.last(), Some(&true));
        // As pace.rs makes them once the blackout is what bounds the window.
        way.batch = batch;
        way.rate = 25_000_000;
        let before = way.plain();
        let batches = 100 * MIB / batch;
        way.send(usize::try_from(batches).unwrap());
        let plain = way.plain() - before;
        assert!(plain as u64 * batch < 50 * MIB, "{plain} of {batches}");
        assert_eq!(way.plain.last(), Some(&false));
    }
}

#[test]
fn moments_without_pages_do_not_hide_a_link_that_limits() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(200);
    way.rate = 25_000_000;
    let before = way.plain();
    for _ in 0..500 {
        way.send(1);
        // One worker has taken what there was room for, another finds nothing until QEMU has been read.
        way.effort.found_no_pages(way.worker);
    }
    assert!(way.plain() - before < 150, "{}", way.plain() - before);
}

#[test]
fn a_guest_that_has_little_to_send_is_no_slow_link() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(200);
    let before = way.plain();
    for _ in 0..500 {
        way.send(1);
        way.effort.found_no_pages(way.worker);
        way.worker += PAUSE / 2;
    }
    assert_eq!(way.plain() - before, 500);
}

#[test]
fn a_guest_that_pauses_is_no_slow_link() {
    // As fast as both: what goes as it is queues, and is no slower.
    let mut way = Way::new(400_000_000, 200_000_000);
    way.send(200);
    let before = way.plain();
    for _ in 0..50 {
        way.send(20);
        way.effort.found_no_pages(way.worker);
        way.worker += Duration::from_secs(1);
    }
    assert_eq!(way.plain() - before, 1000);
}

#[test]
fn a_fast_link_gets_small_batches_as_they_are_once_full_ones_went_so() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(200);
    way.batch = 256 << 10;
    let before = way.plain();
    way.send(1000);
    assert_eq!(way.plain() - before, 1000);
}

#[test]
fn small_batches_are_no_trial() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.batch = 256 << 10;
    way.send(1000);
    assert_eq!(way.plain(), 0);
}

#[test]
fn batches_without_content_say_nothing() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    way.send(200);
    for _ in 0..1000 {
        let now = way.worker;
        assert!(!way.effort.choose(way.number, 0, now));
        way.effort.acknowledged(way.number, now);
        way.number += 1;
    }
    way.send(100);
    assert_eq!(way.plain.last(), Some(&true));
}

#[test]
fn a_trial_that_was_won_while_pages_came_slowly_is_lost_when_the_link_limits() {
    let mut way = Way::new(37_000_000, 200_000_000);
    way.send(20);
    // As when nothing came faster than what was tried.
    way.effort.squeezed = 1;
    way.effort.state = State::Plain;
    way.send(500);
    assert!(way.plain() < 200, "{}", way.plain());
    let before = way.plain();
    way.send(500);
    assert_eq!(way.plain(), before);
}

#[test]
fn who_waits_long_for_pages_begins_again() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    for _ in 0..100 {
        way.send(30);
        way.effort.found_no_pages(way.worker);
        way.worker += PAUSE * 2;
    }
    assert_eq!(way.plain(), 0);
}

#[test]
fn who_waits_a_moment_for_pages_does_not() {
    let mut way = Way::new(1_200_000_000, 200_000_000);
    for _ in 0..100 {
        way.send(30);
        way.effort.found_no_pages(way.worker);
        way.worker += PAUSE / 10;
    }
    assert!(way.plain() > 2500, "{}", way.plain());
}

#[test]
fn an_acknowledgement_of_nothing_known_is_no_news() {
    let mut effort = Effort::new(1);
    effort.acknowledged(7, Duration::ZERO);
    assert!(effort.choose(0, MIB, Duration::ZERO));
}

#[test]
fn on_a_long_line_batches_queue_as_on_a_short_one() {
    for latency in [1, 160] {
        let mut way = Way::new(24 * MIB, 200 * MIB);
        way.latency = Duration::from_millis(latency);
        way.window = 16;
        way.send(200);
        assert!(!way.plain.contains(&true), "{latency} ms");
        // A trial that was won by chance.
        way.effort.begin_with(true);
        way.send(100);
        assert!(way.plain.ends_with(&[false; 20]), "{latency} ms");
    }
}
