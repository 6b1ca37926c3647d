//! What it costs to move a guest: sealift against what QEMU has itself, on the same guest and the same link.
//!
//! ```text
//!        host a                       host b
//!  ┌──────────────────┐  tbf    ┌──────────────────┐     for each round
//!  │ QEMU with guest ─┼─ delay ─┼▶ QEMU, incoming  │       for each transport
//!  │                  │         │                  │         start both, let the guest run, look at it undisturbed
//!  │ sealift migrate ─┼─────────┼▶ sealift receive │         move it, watch from outside
//!  └──────────────────┘         └──────────────────┘         see that every page is right, end both
//!
//!  time       from the order to the guest's RESUME at the destination, with post-copy until all of it has come
//!  blackout   from STOP at the source to RESUME at the destination, both by QEMU's time stamps on the one clock of this machine
//!  wire       bytes through host a's end of the link, both ways
//!  CPU        both QEMUs without their vCPU threads, and sealift's processes
//!  work       pages that the guest checked a second, blackout included, against the seconds before
//!  stall      the longest time that the guest's program did not come to run, on the guest's own clock
//! ```
//!
//! Every run has a freshly started guest: its memory is then the same in each, and no run inherits what another did to it.

mod contest;
mod figures;
mod order;
mod record;
mod report;
mod row;
mod run;
mod samples;
mod subject;
mod table;
mod transport;
mod verdict;
mod watch;

pub use crate::certificates::Certificates;
pub use contest::{News, hold, usual};
pub use figures::{CameTo, Figures, Outcome};
pub use order::Sealift;
pub use record::{Measured, Record, write};
pub use report::html;
pub use row::{Against, Blackout, Dirty, Link, Row, Wanted, Work};
pub use run::Bench;
pub use samples::Sample;
pub use table::text;
pub use transport::Transport;
pub use verdict::{Reference, Verdict, reference, verdicts};
