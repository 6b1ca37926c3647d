//! Makes its own randomness, which an inner crate must not.
#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

/// The system's randomness.
pub fn randomness() -> ring::rand::SystemRandom {
    ring::rand::SystemRandom::new()
}
