//! Lists that stop growing.

use serde::Serialize;

/// Lines that are kept of any one list: more than any real stream has.
const KEPT: usize = 4096;

/// A list that stops growing, and counts what it leaves out.
#[derive(Debug, Serialize)]
pub(super) struct Lines<T> {
    list: Vec<T>,
    left_out: u64,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            left_out: 0,
        }
    }
}

impl<T> Lines<T> {
    /// Adds a line; returns its place if it was kept.
    pub(super) fn push(&mut self, line: T) -> Option<usize> {
        if self.list.len() < KEPT {
            self.list.push(line);
            Some(self.list.len() - 1)
        } else {
            self.left_out += 1;
            None
        }
    }

    /// The line at a place.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.list.get_mut(place)
    }

    /// Takes the last line back.
    pub(super) fn pop(&mut self) {
        match self.left_out {
            0 => {
                self.list.pop();
            }
            _ => self.left_out -= 1,
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}
