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
    pub(super) fn push(&mut self, line: T) {
        if self.list.len() < KEPT {
            self.list.push(line);
        } else {
            self.left_out += 1;
        }
    }

    /// The last line, if it was kept.
    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.list.last_mut().filter(|_| self.left_out == 0)
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
