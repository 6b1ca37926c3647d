//! The ledger against the simplest model of it: a list of everything ever entered.

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn it_does_what_a_list_does(start in 0..2 * Ledger::WINDOW, offsets in prop::collection::vec(offset(), 1..200)) {
        let mut ledger = Ledger::starting_at(start);
        let mut model = Model { seen: BTreeSet::new(), floor: start };
        for offset in offsets {
            let batch = model.floor.saturating_add_signed(offset);
            prop_assert_eq!(ledger.enter(batch), model.enter(batch));
            prop_assert_eq!(ledger.floor(), model.floor);
        }
        let bits = ledger.seen();
        prop_assert_ne!(bits.last(), Some(&0), "nothing stands behind the last");
        let seen: BTreeSet<_> = (0..8 * bits.len() as u64)
            .filter(|bit| bits[usize::try_from(bit / 8).unwrap()] >> (bit % 8) & 1 == 1)
            .map(|bit| model.floor + bit)
            .collect();
        prop_assert_eq!(seen, model.seen);
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
fn the_last_number_of_all_is_never_taken() {
    for floor in [0, u64::MAX - 1] {
        let batch = u64::MAX;
        assert_eq!(
            Ledger::starting_at(floor).enter(batch),
            Err(Error::BatchAhead { batch, floor })
        );
    }
}

/// How far from the floor.
fn offset() -> impl Strategy<Value = i64> {
    let window = i64::try_from(Ledger::WINDOW).unwrap();
    prop_oneof![
        8 => -3..6i64,
        2 => -2 * window..2 * window,
        2 => window - 3..window + 3,
    ]
}

struct Model {
    /// Above the floor.
    seen: BTreeSet<u64>,
    floor: u64,
}

impl Model {
    fn enter(&mut self, batch: u64) -> Result<(), Error> {
        if batch < self.floor || self.seen.contains(&batch) {
            return Err(Error::BatchSeen { batch });
        }
        if batch >= self.floor + Ledger::WINDOW {
            let floor = self.floor;
            return Err(Error::BatchAhead { batch, floor });
        }
        self.seen.insert(batch);
        while self.seen.remove(&self.floor) {
            self.floor += 1;
        }
        Ok(())
    }
}
