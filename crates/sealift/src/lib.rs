//! What the operator of sealift gives and gets: arguments, events, reports, exit codes.
//!
//! ```text
//!   command line ─▶ arguments, units ─▶ the commands ─▶ events ─▶ reporter ─▶ terminal │ plain lines │ JSON
//!                                                          └ report   └ outcome ─▶ exit code
//! ```
//!
//! Nothing here opens a socket or talks to QEMU: the commands do, in the binary.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod event;
pub mod figures;
pub mod outcome;
pub mod report;
pub mod reporter;
pub mod units;
