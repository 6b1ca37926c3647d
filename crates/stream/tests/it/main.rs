//! The crate seen from outside, against streams written by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bounded;
mod fixtures;
mod lossless;
mod main_channel;
mod multifd;
mod return_path;
mod support;
mod surprises;
mod weave;
