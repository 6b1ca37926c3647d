//! Nothing is lost, whatever the order of things: the engine against a model of sets.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::{Address, PageSize};
use sealift_precopy::{Encoded, Engine, NoSuchPage, Taken};

/// One block of a chunk and a bit, one of a page, one of a word.
const PAGES: [u64; 3] = [4096 + 130, 1, 64];

#[derive(Clone, Debug)]
enum Step {
    Mark(Address, u64, bool),
    Take(u64, u64),
    Acknowledged(u64),
    Encoded(u64, u64),
    Round(u64),
    MayWait(u64),
    Hurry(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let page = prop_oneof![0u64..150, 4000u64..4096 + 140];
    let run = prop_oneof![0u64..9, 0u64..4300];
    prop_oneof![
        6 => (0u16..4, page, run, any::<bool>())
            .prop_map(|(block, page, run, zero)| Step::Mark(Address { block, page }, run, zero)),
        6 => (0u64..300, 0u64..300).prop_map(|(content, zero)| Step::Take(content, zero)),
        2 => (0u64..40).prop_map(Step::Acknowledged),
        1 => (0u64..40, 1u64..1 << 20).prop_map(|(batch, bytes)| Step::Encoded(batch, bytes)),
        3 => (0u64..200).prop_map(Step::Round),
        1 => (0u64..1 << 20).prop_map(Step::MayWait),
        1 => any::<bool>().prop_map(Step::Hurry),
    ]
}

/// What is known by sets.
#[derive(Default)]
struct Model {
    dirty: BTreeSet<Address>,
    zero: BTreeSet<Address>,
    flying: BTreeSet<u64>,
    /// The receiver was sent content.
    based: BTreeSet<Address>,
}

fn pages(first: Address, run: u64) -> impl Iterator<Item = Address> {
    (first.page..first.page + run).map(move |page| Address { page, ..first })
}

impl Model {
    fn took(&mut self, batch: u64, taken: &[Taken]) -> Result<(), TestCaseError> {
        for &Taken { first, run, zero } in taken {
            self.flying.insert(batch);
            for page in pages(first, run) {
                prop_assert!(self.dirty.remove(&page), "{page:?} was clean");
                prop_assert_eq!(self.zero.remove(&page), zero, "{:?}", page);
                if zero {
                    self.based.remove(&page);
                } else {
                    self.based.insert(page);
                }
            }
        }
        Ok(())
    }

    fn agrees(&self, engine: &Engine) -> Result<(), TestCaseError> {
        let counts = engine.dirty();
        prop_assert_eq!(counts.pages(), self.dirty.len() as u64);
        prop_assert_eq!(counts.zero, self.zero.len() as u64);
        let content = self.dirty.difference(&self.zero);
        let (before, never): (Vec<&Address>, Vec<&Address>) =
            content.partition(|&page| self.based.contains(page));
        prop_assert_eq!(counts.never_sent, never.len() as u64);
        prop_assert_eq!(counts.sent_before + counts.waiting, before.len() as u64);
        prop_assert_eq!(
            engine.is_drained(),
            self.dirty.is_empty() && self.flying.is_empty()
        );
        Ok(())
    }
}

/// Batches go upwards, but for one fresh start.
fn ascending(taken: &[Taken]) -> bool {
    let back = taken
        .windows(2)
        .filter(|pair| matches!(pair, [one, other] if other.first < one.first));
    back.count() <= 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_in_any_order_of_things(steps in vec(step(), 0..120)) {
        let mut engine = Engine::new(&PAGES, PageSize::new(4096).unwrap());
        let mut model = Model::default();
        let (mut now, mut batch) = (Duration::ZERO, 0);
        for step in steps {
            match step {
                Step::Mark(first, run, zero) => {
                    let there = PAGES.get(usize::from(first.block))
                        .is_some_and(|&pages| first.page + run <= pages);
                    let marked = if there { Ok(()) } else { Err(NoSuchPage { first, run }) };
                    prop_assert_eq!(engine.mark(first, run, zero), marked);
                    for page in pages(first, run).filter(|_| there) {
                        model.dirty.insert(page);
                        if zero {
                            model.zero.insert(page);
                        } else {
                            model.zero.remove(&page);
                        }
                    }
                }
                Step::Take(content, zero) => {
                    let before = engine.dirty();
                    let has_work = engine.has_work(now);
                    let mut taken = vec![];
                    let count = engine.take(now, batch, content, zero, &mut taken);
                    let is = |kind| taken.iter().filter(|taken| taken.zero == kind).map(|taken| taken.run).sum::<u64>();
                    prop_assert_eq!(count, is(true) + is(false));
                    prop_assert!(is(false) <= content && is(true) <= zero);
                    prop_assert!(ascending(&taken), "{:?}", taken);
                    if content >= before.pages() && zero >= before.zero {
                        prop_assert!(count >= before.ready());
                    }
                    if content > 0 && zero > 0 {
                        prop_assert_eq!(count > 0, has_work);
                    }
                    model.took(batch, &taken)?;
                    batch += 1;
                }
                Step::Acknowledged(batch) => {
                    engine.acknowledged(batch);
                    model.flying.remove(&batch);
                }
                Step::Encoded(batch, bytes) => {
                    let made = Encoded { literal_pages: 5, literal_bytes: bytes, delta_pages: 5, delta_bytes: bytes / 10 };
                    engine.encoded(batch, made);
                }
                Step::Round(ms) => {
                    now += Duration::from_millis(ms);
                    engine.round(now);
                }
                Step::MayWait(bytes) => engine.may_wait(bytes),
                Step::Hurry(hurry) => engine.hurry(hurry),
            }
            model.agrees(&engine)?;
        }
        // The guest stands still: everything that is left is taken.
        engine.finish();
        prop_assert_eq!(engine.dirty().waiting, 0);
        while engine.has_work(now) {
            let mut taken = vec![];
            prop_assert!(engine.take(now, batch, 100, 100, &mut taken) > 0);
            model.took(batch, &taken)?;
            model.agrees(&engine)?;
            batch += 1;
        }
        prop_assert!(model.dirty.is_empty());
        for batch in 0..batch {
            engine.acknowledged(batch);
        }
        prop_assert!(engine.is_drained());
    }
}

fn engine() -> Engine {
    Engine::new(&PAGES, PageSize::new(4096).unwrap())
}

const PAGE: Address = Address { block: 0, page: 5 };

fn take(engine: &mut Engine, batch: u64) -> Vec<Taken> {
    let mut taken = vec![];
    engine.take(Duration::ZERO, batch, 1000, 1000, &mut taken);
    taken
}

#[test]
fn an_acknowledgement_never_makes_a_page_clean() {
    let mut engine = engine();
    engine.mark(PAGE, 1, false).unwrap();
    take(&mut engine, 0);
    engine.mark(PAGE, 1, false).unwrap();
    engine.acknowledged(0);
    assert_eq!(engine.dirty().pages(), 1);
    // Nor does a batch that nobody knows.
    engine.acknowledged(9);
    assert_eq!(engine.dirty().pages(), 1);
}

#[test]
fn runs_are_long_over_words_and_chunks() {
    let mut engine = engine();
    for page in (60..4200).rev() {
        engine
            .mark(Address { block: 0, page }, 1, page >= 4150)
            .unwrap();
    }
    let mut taken = vec![];
    engine.take(Duration::ZERO, 0, 10_000, 10_000, &mut taken);
    let run = |page, run, zero| Taken {
        first: Address { block: 0, page },
        run,
        zero,
    };
    assert_eq!(taken, [run(60, 4090, false), run(4150, 50, true)]);
}

#[test]
fn a_walk_goes_on_where_the_last_batch_ended() {
    let mut engine = engine();
    engine
        .mark(Address { block: 0, page: 0 }, 100, false)
        .unwrap();
    let firsts: Vec<_> = (0..4)
        .map(|batch| {
            let mut taken = vec![];
            engine.take(Duration::ZERO, batch, 30, 30, &mut taken);
            // What is behind the walk waits for the next one.
            engine
                .mark(Address { block: 0, page: 0 }, 1, false)
                .unwrap();
            taken.first().map(|taken| taken.first.page)
        })
        .collect();
    assert_eq!(firsts, [Some(0), Some(30), Some(60), Some(90)]);
}
