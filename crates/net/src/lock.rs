//! Locks whose holders do not panic half-way through a change.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after another thread panicked: what is behind these locks is whole between any two statements, and in release builds a
/// panic ends the process anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
