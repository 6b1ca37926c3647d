//! The ledger against the simplest model of it: a list of everything ever entered or void.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This far from the floor.
    Enter(i64),
    /// From this far from the floor, this many.
    Void(i64, u64),
}

proptest! {
    #[test]
    fn it_does_what_a_list_does(start in 0..2 * Ledger::WINDOW, steps in prop::collection::vec(step(), 1..200)) {
        let mut ledger = Ledger::starting_at(start);
        let mut model = Model::starting_at(start);
        for step in steps {
            match step {
                Step::Enter(offset) => {
                    let batch = model.floor.saturating_add_signed(offset);
                    prop_assert_eq!(ledger.enter(batch), model.enter(batch));
                }
                Step::Void(offset, length) => {
                    let start = model.floor.saturating_add_signed(offset);
                    let range = start..start + length;
                    prop_assert_eq!(ledger.void(range.clone()), model.void(range));
                }
            }
            prop_assert_eq!(ledger.floor(), model.floor);
        }
    }

    #[test]
    fn any_order_is_taken_once(order in Just((0..300u64).collect::<Vec<_>>()).prop_shuffle()) {
        let mut ledger = Ledger::new();
        for &batch in &order {
            prop_assert_eq!(ledger.enter(batch), Ok(()));
        }
        prop_assert_eq!(ledger.floor(), 300);
        for &batch in &order {
            prop_assert_eq!(ledger.enter(batch), Err(Error::BatchSeen { batch }));
        }
    }
}

#[test]
fn it_goes_round_its_ring_more_than_once() {
    let mut ledger = Ledger::new();
    for batch in (0..4 * Ledger::WINDOW).step_by(2) {
        // Each pair the wrong way round, so that a bit is set ahead of the floor.
        assert_eq!(ledger.enter(batch + 1), Ok(()));
        assert_eq!(ledger.enter(batch), Ok(()));
        assert_eq!(
            ledger.enter(batch + 1),
            Err(Error::BatchSeen { batch: batch + 1 })
        );
    }
    assert_eq!(ledger.floor(), 4 * Ledger::WINDOW);
}

#[test]
fn the_window_ends_where_it_says() {
    let mut ledger = Ledger::starting_at(10);
    let batch = 10 + Ledger::WINDOW;
    assert_eq!(
        ledger.enter(batch),
        Err(Error::BatchAhead { batch, floor: 10 })
    );
    assert_eq!(ledger.enter(batch - 1), Ok(()));
    assert_eq!(ledger.enter(10), Ok(()));
    assert_eq!(ledger.enter(batch), Ok(()));
}

#[test]
fn a_void_range_is_bounded_by_the_window_and_refused_as_a_whole() {
    let mut ledger = Ledger::new();
    for range in [0..Ledger::WINDOW + 1, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        let Range { start, end } = range;
        let refused = Error::VoidRange {
            start,
            end,
            floor: 0,
        };
        assert_eq!(ledger.void(range), Err(refused));
    }
    assert_eq!(ledger.floor(), 0);
    assert_eq!(ledger.void(9..9), Ok(()));
    #[expect(clippy::reversed_empty_ranges, reason = "a peer can send it")]
    let reversed = ledger.void(9..3);
    assert_eq!(
        reversed,
        Err(Error::VoidRange {
            start: 9,
            end: 3,
            floor: 0
        })
    );
    assert_eq!(ledger.void(0..Ledger::WINDOW), Ok(()));
    assert_eq!(ledger.floor(), Ledger::WINDOW);
}

#[test]
fn the_last_number_of_all_is_never_taken() {
    for floor in [0, u64::MAX - 1] {
        let batch = u64::MAX;
        assert_eq!(
            Ledger::starting_at(floor).enter(batch),
            Err(Error::BatchAhead { batch, floor })
        );
    }
}

#[test]
fn a_batch_after_it_was_void_is_refused() {
    let mut ledger = Ledger::new();
    ledger.void(3..5).unwrap();
    assert_eq!(ledger.enter(4), Err(Error::BatchSeen { batch: 4 }));
    for batch in 0..3 {
        assert_eq!(ledger.enter(batch), Ok(()));
    }
    assert_eq!(ledger.floor(), 5);
}

fn step() -> impl Strategy<Value = Step> {
    let window = i64::try_from(Ledger::WINDOW).unwrap();
    prop_oneof![
        8 => (-3..6i64).prop_map(Step::Enter),
        2 => (-2 * window..2 * window).prop_map(Step::Enter),
        2 => (window - 3..window + 3).prop_map(Step::Enter),
        2 => (-5..5i64, 0..5u64).prop_map(|(offset, length)| Step::Void(offset, length)),
        1 => (-5..5i64, 0..Ledger::WINDOW + 9).prop_map(|(offset, length)| Step::Void(offset, length)),
    ]
}

struct Model {
    seen: Vec<Range<u64>>,
    floor: u64,
}

impl Model {
    fn starting_at(floor: u64) -> Self {
        Self {
            seen: core::iter::once(0..floor).collect(),
            floor,
        }
    }

    fn enter(&mut self, batch: u64) -> Result<(), Error> {
        if self.has(batch) {
            return Err(Error::BatchSeen { batch });
        }
        if batch >= self.floor + Ledger::WINDOW {
            let floor = self.floor;
            return Err(Error::BatchAhead { batch, floor });
        }
        self.void(batch..batch + 1)
    }

    fn void(&mut self, range: Range<u64>) -> Result<(), Error> {
        if !range.is_empty() && range.end > self.floor + Ledger::WINDOW {
            return Err(Error::VoidRange {
                start: range.start,
                end: range.end,
                floor: self.floor,
            });
        }
        self.seen.push(range);
        while let Some(range) = self.seen.iter().find(|range| range.contains(&self.floor)) {
            self.floor = range.end;
        }
        Ok(())
    }

    fn has(&self, batch: u64) -> bool {
        self.seen.iter().any(|range| range.contains(&batch))
    }
}
