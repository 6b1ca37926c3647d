//! Makes its own randomness, which an inner crate must not.
#![no_std]

/// The system's randomness.
pub fn randomness() -> ring::rand::SystemRandom {
    ring::rand::SystemRandom::new()
}
