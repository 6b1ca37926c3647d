//! What it costs to move a guest: sealift against what QEMU has itself, on the same guest and the same link.
//!
//! ```text
//!        host a                       host b
//!  ┌──────────────────┐  tbf    ┌──────────────────┐     for each round
//!  │ QEMU with "mix" ─┼─────────┼▶ QEMU, incoming  │       for each transport
//!  │                  │         │                  │         start both, let the guest run, look at it undisturbed
//!  │ sealift migrate ─┼─────────┼▶ sealift receive │         move it, watch from outside
//!  └──────────────────┘         └──────────────────┘         see that every page is right, end both
//!
//!  time       from the order to the guest's RESUME at the destination
//!  blackout   from STOP at the source to RESUME at the destination, both by QEMU's time stamps on the one clock of this machine
//!  wire       bytes through host a's end of the link, both ways
//!  CPU        both QEMUs without their vCPU threads, and sealift's processes
//!  work       pages that the guest checked a second, blackout included, against the seconds before
//!  stall      the longest time that the guest's program did not come to run, on the guest's own clock
//! ```
//!
//! Every run has a freshly started guest: its memory is then the same in each, and no run inherits what another did to it.

mod certificates;
mod cpu;
mod figures;
mod program;
mod row;
mod run;
mod table;
mod transport;
mod watch;

pub use certificates::Certificates;
pub use figures::{CameTo, Figures, Outcome};
pub use row::{Dirty, Row};
pub use run::Bench;
pub use table::{text, verdicts};
pub use transport::Transport;
