//! Batches that go on a window, on their way to a worker: each window's are inflated in the order of their slots, by one worker at a time; others go on with
//! other windows.
//!
//! ```text
//!   arrives      slot 4 ─▶ nobody has the window, and 4 is next? ─ yes ─▶ the worker takes the window and the batch
//!                                                                 └ no ──▶ waits here; the worker takes another batch
//!   gives back   5 waits? ─ yes ─▶ the worker goes on with it
//! ```
//!
//! What waits here has arrived and is not placed, so [`HELD_MAX`](super::HELD_MAX) bounds it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sealift_pages::{DecodeError, OutOfTurn, Place, Unpacking};

use super::Job;
use crate::lock::lock;

pub(super) struct Windows {
    windows: Vec<Mutex<Window>>,
}

struct Window {
    /// Nobody has it.
    free: Option<Unpacking>,
    /// The first slot that nobody has taken yet.
    next: u64,
    /// What has arrived before its turn.
    early: BTreeMap<u64, Job>,
}

impl Windows {
    /// So many windows, of which nothing has arrived. They take memory when something does.
    pub(super) fn new(windows: u64) -> Self {
        let windows = (1..=windows).map(|number| {
            Mutex::new(Window {
                free: Some(Unpacking::new(number)),
                next: 1,
                early: BTreeMap::new(),
            })
        });
        Self {
            windows: windows.collect(),
        }
    }

    /// A batch has arrived. Returns it with its window when it is its turn, and nothing when it has to wait.
    ///
    /// # Errors
    /// When there is no such window, or its slot has arrived before: the peer's fault.
    pub(super) fn arrive(
        &self,
        place: Place,
        job: Job,
    ) -> Result<Option<(Unpacking, Job)>, DecodeError> {
        let window = self.of(place.window).ok_or(DecodeError::NoWindow)?;
        let mut window = lock(window);
        if place.slot < window.next || window.early.contains_key(&place.slot) {
            let expected = Place {
                slot: window.next,
                ..place
            };
            let found = place;
            return Err(DecodeError::OutOfTurn(OutOfTurn { expected, found }));
        }
        window.early.insert(place.slot, job);
        Ok(window.take())
    }

    /// A worker is done with the batch whose turn it was. Returns the next one, if it is there, with the window.
    pub(super) fn give_back(&self, unpacking: Unpacking) -> Option<(Unpacking, Job)> {
        let place = unpacking.next();
        let mut window = lock(self.of(place.window)?);
        window.free = Some(unpacking);
        window.take()
    }

    fn of(&self, window: u64) -> Option<&Mutex<Window>> {
        let index = usize::try_from(window.checked_sub(1)?).ok()?;
        self.windows.get(index)
    }
}

impl Window {
    fn take(&mut self) -> Option<(Unpacking, Job)> {
        let unpacking = self.free.take()?;
        let Some(job) = self.early.remove(&self.next) else {
            self.free = Some(unpacking);
            return None;
        };
        self.next += 1;
        Some((unpacking, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u64) -> Job {
        Job {
            number,
            buffer: Vec::new(),
            length: 0,
        }
    }

    fn place(slot: u64) -> Place {
        Place { window: 2, slot }
    }

    #[test]
    fn a_batch_waits_for_its_turn_and_for_whoever_has_the_window() {
        let windows = Windows::new(2);
        assert!(windows.arrive(place(2), job(20)).unwrap().is_none());
        assert!(windows.arrive(place(3), job(10)).unwrap().is_none());
        let (mut unpacking, first) = windows.arrive(place(1), job(30)).unwrap().unwrap();
        assert_eq!((first.number, unpacking.next()), (30, place(1)));
        // Somebody has the window: whatever comes waits.
        assert!(windows.arrive(place(4), job(40)).unwrap().is_none());
        // The other window is nobody's business here.
        let other = Place { window: 1, slot: 1 };
        assert_eq!(
            windows.arrive(other, job(50)).unwrap().unwrap().1.number,
            50
        );
        for number in [20, 10, 40] {
            let (again, next) = windows.give_back(unpacking).unwrap();
            assert_eq!(next.number, number);
            unpacking = again;
        }
        assert!(windows.give_back(unpacking).is_none());
        let fifth = windows.arrive(place(5), job(60)).unwrap();
        assert_eq!(fifth.unwrap().1.number, 60);
    }

    #[test]
    fn a_window_that_was_not_agreed_on_is_refused() {
        let windows = Windows::new(2);
        for window in [0, 3, u64::MAX] {
            let refused = windows.arrive(Place { window, slot: 1 }, job(1)).err();
            assert_eq!(refused, Some(DecodeError::NoWindow));
        }
    }

    #[test]
    fn a_slot_that_comes_twice_is_refused() {
        let windows = Windows::new(2);
        assert!(windows.arrive(place(2), job(1)).unwrap().is_none());
        let again = windows.arrive(place(2), job(2)).err();
        let out_of_turn = OutOfTurn {
            expected: place(1),
            found: place(2),
        };
        assert_eq!(again, Some(DecodeError::OutOfTurn(out_of_turn)));
        let (_unpacking, _) = windows.arrive(place(1), job(3)).unwrap().unwrap();
        // It is in somebody's hands: the same slot would wait for ever.
        assert!(windows.arrive(place(1), job(4)).is_err());
    }
}
