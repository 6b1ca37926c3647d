//! The engine: against sets of pages, and on a virtual clock between a guest, its QEMU and a link.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod books;
mod guest;
mod memory;
mod moves;
mod pace;
mod world;
