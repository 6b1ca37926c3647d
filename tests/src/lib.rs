//! The lab: everything that a test with a real QEMU needs.
//!
//! ```text
//!   tools ─▶ qemu ─▶ guest ─┐                       cases: what is captured and how it is set up
//!   (apt)   (7.2,    │      ├─▶ migration ─▶ capture ─▶ fixtures/…zst ─▶ fixtures (every other crate)
//!            10.0)  image   │
//!                           tap
//! ```
//!
//! - [`tools`] installs what is missing, [`backport`] puts a second QEMU beside the distribution's;
//! - [`qemu`] finds the QEMUs, [`guest`] runs one with the [`image`], a guest that checks its own memory;
//! - [`backing`] is what a guest's memory is made of;
//! - [`hosts`] makes two hosts with a link of a [`rate`] and a length; [`linux`] boots a kernel with one program, [`mix`] is such a guest, and
//!   [`debian`] is one with real programs;
//! - [`tap`] stands between two QEMUs and keeps what passes; [`migration`] moves a guest through it;
//! - [`joined`] carries a migration between two QEMUs' channels as it is;
//! - [`reload`] takes a stream from one QEMU and gives one to another;
//! - [`both_ends`] agrees on keys; [`sealed`] takes a captured stream through the inner crates: apart, sealed, opened, together;
//! - [`program`] builds sealift, [`session`] runs it; [`certificates`] are for two hosts, [`trial`] has all of that ready to move a guest;
//! - [`cases`] lists the ways of migrating that are kept as fixtures, [`capture`] makes them, [`fixtures`] loads them.

pub mod backing;
pub mod backport;
pub mod both_ends;
pub mod capture;
pub mod cases;
pub mod certificates;
pub mod debian;
mod delay;
mod error;
pub mod fixtures;
pub mod guest;
pub mod hosts;
pub mod image;
pub mod joined;
pub mod linux;
pub mod migration;
pub mod mix;
pub mod program;
pub mod qemu;
pub mod rate;
pub mod reload;
pub mod sealed;
pub mod serial;
pub mod session;
mod static_program;
pub mod tap;
pub mod tools;
pub mod trial;

pub use error::{Context, Error};

/// Whether the long matrices are wanted: `cargo xtask test --all` sets `SEALIFT_MATRIX=all`.
#[must_use]
pub fn whole_matrix() -> bool {
    std::env::var("SEALIFT_MATRIX").is_ok_and(|matrix| matrix == "all")
}
