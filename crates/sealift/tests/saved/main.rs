//! A guest is saved, restored and exported, by real QEMUs, as an operator would do it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod files;
mod guests;
mod host;
