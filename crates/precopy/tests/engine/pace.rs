//! What waits, for how long, and when QEMU is read on.

use std::time::Duration;

use sealift_pages::{Address, PageSize};
use sealift_precopy::{Encoded, Engine, Taken};

const PAGES: u64 = 100_000;
const LITERAL: u64 = 1000;
/// There and back.
const SOON: Duration = Duration::from_millis(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(page: u64) -> Address {
    Address { block: 0, page }
}

/// An engine whose rounds take 100 ms each.
struct Trial {
    engine: Engine,
    round: u64,
    batch: u64,
}

impl Trial {
    /// All pages were sent once, for [`LITERAL`] bytes each; pages may wait that cost so many.
    fn new(may_wait: u64) -> Self {
        let mut trial = Self {
            engine: Engine::new(&[PAGES], PageSize::new(4096).unwrap()),
            round: 0,
            batch: 0,
        };
        trial.engine.may_wait(may_wait);
        trial.engine.mark(at(0), PAGES, false).unwrap();
        trial.send(LITERAL);
        trial
    }

    fn now(&self) -> Duration {
        ms(100 * self.round)
    }

    /// Sends what is ready, for so many bytes a page.
    fn send(&mut self, bytes: u64) -> Vec<Taken> {
        let mut taken = vec![];
        let now = self.now();
        let pages = self.engine.take(now, self.batch, PAGES, PAGES, &mut taken);
        let made = Encoded {
            literal_pages: pages,
            literal_bytes: pages * bytes,
            ..Encoded::default()
        };
        self.engine.encoded(self.batch, made);
        self.engine.acknowledged(self.batch);
        self.batch += 1;
        taken
    }

    /// A round in which QEMU hands these pages over, and what is ready is sent.
    fn round(&mut self, first: u64, run: u64) -> Vec<Taken> {
        self.round += 1;
        assert!(self.engine.round(self.now()));
        self.engine.mark(at(first), run, false).unwrap();
        self.send(LITERAL)
    }
}

fn run(first: u64, run: u64) -> Taken {
    Taken {
        first: at(first),
        run,
        zero: false,
    }
}

#[test]
fn a_page_that_is_rewritten_in_every_round_waits_for_the_guests_stop() {
    let mut trial = Trial::new(u64::MAX);
    assert_eq!(trial.round(10, 5), [run(10, 5)], "once may be chance");
    for _ in 0..5 {
        assert_eq!(trial.round(10, 5), []);
        assert_eq!(trial.engine.dirty().waiting, 5);
        assert_eq!(trial.engine.remaining_cost(), 5 * LITERAL);
    }
    assert!(!trial.engine.has_work(trial.now()));
    trial.engine.finish();
    assert_eq!(trial.send(LITERAL), [run(10, 5)]);
    trial.engine.mark(at(10), 5, false).unwrap();
    assert_eq!(trial.send(LITERAL), [run(10, 5)], "nothing waits after it");
}

#[test]
fn a_page_that_is_left_alone_for_a_round_does_not_wait_any_more() {
    let mut trial = Trial::new(u64::MAX);
    trial.round(10, 5);
    trial.round(10, 5);
    assert_eq!(trial.round(12, 3), [], "the round is not over");
    assert_eq!(trial.round(50, 1), [run(10, 2), run(50, 1)]);
    assert_eq!(trial.engine.dirty().waiting, 3);
}

#[test]
fn a_page_that_was_never_sent_does_not_wait() {
    let mut engine = Engine::new(&[PAGES], PageSize::new(4096).unwrap());
    engine.may_wait(u64::MAX);
    for round in 1..8 {
        engine.mark(at(7), 1, false).unwrap();
        engine.round(ms(100 * round));
    }
    assert_eq!(engine.dirty().never_sent, 1);
    // Nor does one that was sent as zeros: a delta needs content.
    engine.mark(at(7), 1, true).unwrap();
    engine.take(ms(0), 0, 9, 9, &mut vec![]);
    engine.mark(at(7), 1, false).unwrap();
    assert_eq!((engine.dirty().never_sent, engine.dirty().waiting), (1, 0));
}

#[test]
fn no_more_wait_than_the_blackout_has_room_for_and_the_hottest_stay() {
    let mut trial = Trial::new(20 * LITERAL);
    // Ten pages for longer than twenty others.
    for _ in 0..4 {
        trial.round(0, 10);
    }
    assert_eq!(trial.engine.dirty().waiting, 10);
    for _ in 0..3 {
        trial.round(0, 30);
        assert!(trial.engine.dirty().waiting <= 20);
    }
    trial.engine.may_wait(10 * LITERAL);
    trial.round(90, 1);
    let waiting = trial.engine.dirty().waiting;
    trial.engine.finish();
    assert_eq!((waiting, trial.send(LITERAL)), (10, vec![run(0, 10)]));
}

#[test]
fn what_waits_is_sent_again_after_a_second_without_work() {
    let mut trial = Trial::new(u64::MAX);
    trial.round(10, 5);
    let mut sent = vec![];
    for _ in 0..25 {
        if !trial.round(10, 5).is_empty() {
            sent.push(trial.round);
        }
    }
    let [first, second] = sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(second - first, 10);
}

#[test]
fn what_waits_is_sent_again_before_the_guest_stops_where_deltas_are_short() {
    for (bytes, again) in [(LITERAL / 10, true), (LITERAL, false)] {
        let mut trial = Trial::new(u64::MAX / LITERAL);
        trial.engine.may_wait(20_000 * bytes);
        // Enough pages that what they cost is what is known.
        trial.round += 1;
        trial.engine.round(trial.now());
        trial.engine.mark(at(0), 10_000, false).unwrap();
        trial.send(bytes);
        trial.round(0, 10_000);
        assert_eq!(trial.engine.dirty().waiting, 10_000);
        assert_eq!(trial.engine.costs().stale, again);
        trial.engine.hurry(true);
        assert_eq!(trial.engine.costs().stale, again, "until it is sent");
        let sent = trial.send(bytes);
        assert_eq!(!sent.is_empty(), again);
        // Once is enough, and what is rewritten after it waits.
        assert!(!trial.engine.costs().stale);
        trial.engine.hurry(true);
        trial.engine.mark(at(0), 10_000, false).unwrap();
        assert_eq!(trial.send(bytes), []);
    }
}

#[test]
fn qemu_is_read_while_the_link_has_less_than_a_tenth_of_a_second_to_do() {
    let mut trial = Trial::new(0);
    let rate = Some(100_000 * LITERAL);
    let now = trial.now();
    assert!(trial.engine.wants_more(now, rate, SOON));
    trial.engine.mark(at(0), 10_000, false).unwrap();
    assert!(trial.engine.wants_more(now, rate, SOON), "just enough");
    trial.engine.mark(at(10_000), 1, false).unwrap();
    assert!(!trial.engine.wants_more(now, rate, SOON));
    let mut taken = vec![];
    trial.engine.take(now, 100, 4000, 0, &mut taken);
    assert!(
        !trial.engine.wants_more(now, rate, SOON),
        "still a good deal"
    );
    trial.engine.take(now, 101, 1001, 0, &mut taken);
    assert!(trial.engine.wants_more(now, rate, SOON));
}

/// QEMU is about to walk anew, and is not read on.
fn before_a_walk_with_much_to_send() -> (Trial, Duration, Option<u64>) {
    let mut trial = Trial::new(0);
    let rate = Some(100_000 * LITERAL);
    trial.engine.mark(at(0), 5000, false).unwrap();
    trial.round += 1;
    let now = trial.now();
    trial.engine.round(now);
    assert!(!trial.engine.wants_more(now, rate, SOON));
    (trial, now, rate)
}

#[test]
fn qemu_does_not_walk_anew_before_nearly_all_is_sent() {
    let (mut trial, now, rate) = before_a_walk_with_much_to_send();
    trial.engine.take(now, 100, 3000, 0, &mut vec![]);
    assert!(!trial.engine.wants_more(now, rate, SOON), "on its way");
    trial.engine.acknowledged(100);
    assert!(trial.engine.wants_more(now, rate, SOON));
}

#[test]
fn a_qemu_that_may_stop_the_guest_is_read_on_whatever_is_under_way() {
    let (mut trial, now, rate) = before_a_walk_with_much_to_send();
    trial.engine.release();
    assert!(trial.engine.wants_more(now, rate, SOON));
}

#[test]
fn qemu_does_not_walk_over_clean_memory_more_than_twenty_times_a_second() {
    let mut trial = Trial::new(0);
    trial.round += 1;
    let now = trial.now();
    assert!(trial.engine.round(now));
    let soon = now + ms(2);
    assert!(!trial.engine.round(soon), "too short to be one");
    assert!(!trial.engine.wants_more(soon, Some(1 << 20), SOON));
    assert!(trial.engine.wants_more(now + ms(50), Some(1 << 20), SOON));
    assert!(trial.engine.round(now + ms(52)));
    // Unless it may stop the guest.
    trial.engine.hurry(true);
    trial.engine.round(now + ms(53));
    assert!(trial.engine.wants_more(now + ms(53), Some(1 << 20), SOON));
}

#[test]
fn qemu_is_read_to_the_end_when_the_guest_stands_still() {
    let mut trial = Trial::new(0);
    trial.engine.mark(at(0), PAGES, false).unwrap();
    assert!(!trial.engine.wants_more(ms(0), Some(1), SOON));
    trial.engine.finish();
    assert!(trial.engine.wants_more(ms(0), Some(1), SOON));
}

#[test]
fn a_page_costs_what_its_like_have_cost() {
    let mut engine = Engine::new(&[PAGES], PageSize::new(4096).unwrap());
    engine.mark(at(0), 100, false).unwrap();
    assert_eq!(engine.remaining_cost(), 100 * 4096, "nothing is known");
    engine.take(ms(0), 0, 100, 0, &mut vec![]);
    assert_eq!(engine.costs().in_flight, 100 * 4096);
    // Half of them were somewhere else already.
    let made = Encoded {
        literal_pages: 50,
        literal_bytes: 50_000,
        ..Encoded::default()
    };
    engine.encoded(0, made);
    assert_eq!(engine.costs().in_flight, 50_000);
    engine.mark(at(100), 10, false).unwrap();
    assert_eq!(engine.remaining_cost(), 10 * 500);
    engine.mark(at(0), 10, false).unwrap();
    assert_eq!(engine.remaining_cost(), 20 * 500, "as others, so far");
    engine.take(ms(0), 1, 10, 0, &mut vec![]);
    engine.take(ms(0), 2, 10, 0, &mut vec![]);
    let made = Encoded {
        delta_pages: 10,
        delta_bytes: 300,
        ..Encoded::default()
    };
    engine.encoded(1, made);
    engine.mark(at(0), 10, false).unwrap();
    engine.mark(at(200), 1, false).unwrap();
    assert_eq!(engine.remaining_cost(), 10 * 30 + 500);
}
