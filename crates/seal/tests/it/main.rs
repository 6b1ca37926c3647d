//! The crate seen from outside: both ends of a session, and everything that is refused.
//!
//! The search for secrets in memory (`tests/memory.rs`) is a program of its own: other tests' secrets would be found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocation;
mod confirmation;
mod epochs;
mod refusals;
mod roundtrip;
mod saved;
mod shares;
mod support;
