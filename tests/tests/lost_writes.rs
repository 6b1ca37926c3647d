//! QEMU by itself loses what an emulated guest writes while it migrates: nothing of sealift takes part here.
//!
//! ```text
//!   the guest's processor                         QEMU, as a round begins
//!   a store: marks its page dirty
//!   is the page dirty now? yes
//!     ── says so in its log: held here ──         takes the page off the dirty map; lets the next store to it trap
//!   lets no further store to it trap
//!   … stores, of which nobody learns …            sends the page once more, and never again
//! ```
//!
//! Held there a page is lost in each round; by itself that is rare ([QEMU.md](../../docs/QEMU.md)). A QEMU that fails this test has it mended.
#![allow(clippy::unwrap_used, reason = "the test's functions are tests as well")]

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use sealift_lab::Error;
use sealift_lab::guest::{self, Launch, PATIENCE};
use sealift_lab::migration::{Plan, migrate};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_qemu::Qmp;
use serde_json::Value;

/// What QEMU can trace between its look at the dirty map and what it makes of that.
const BETWEEN: &str = "memory_notdirty_set_dirty";
/// How many bytes of that may wait to be taken; with more the processor waits. It is the least that a pipe has.
const WAITING: usize = 4096;
/// How long it waits for a round to begin, at most: once the guest is to stop none does.
const HOLD: Duration = Duration::from_millis(500);
/// How often QEMU is asked for it.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// So many rounds, in each of which a page is lost: the guest writes to some of them again.
const ROUNDS: u64 = 20;

/// A log that is taken slowly.
fn log(at: &Path) -> File {
    mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // For writing as well, so that neither end waits for the other one.
    let log = OpenOptions::new().read(true).write(true).open(at).unwrap();
    rustix::pipe::fcntl_setpipe_size(&log, WAITING).unwrap();
    log
}

/// Takes of the log as much as waits there, whenever a round has begun.
fn taken_by_rounds(mut log: File, mut qmp: Qmp) {
    let mut lines = [0; WAITING];
    let mut rounds = move || {
        let asked = qmp.execute("query-migrate", Value::Null);
        asked.ok()?["ram"]["dirty-sync-count"].as_u64()
    };
    thread::spawn(move || {
        let mut last = None;
        while log.read(&mut lines).is_ok() {
            let held = Instant::now();
            loop {
                let now = rounds();
                // Before the first round nothing is held.
                if now.is_none() || now != last || held.elapsed() > HOLD {
                    last = now;
                    break;
                }
                thread::sleep(LOOK_EVERY);
            }
        }
    });
}

fn moved(qemu: &Qemu) -> Result<(), Error> {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("log");
    let log = log(&at);
    let launch = Launch::new(qemu, &qemu.machine(Machine::I440fx));
    let traced = ["-trace", BETWEEN, "-D", at.to_str().unwrap()];
    let mut source = launch.clone().arguments(traced).start()?;
    let qmp = Qmp::connect(&source.free_control(), PATIENCE)?;
    taken_by_rounds(log, qmp);
    source.wait_tick(1)?;
    let mut destination = launch.incoming().start()?;
    let plan = Plan {
        rounds: ROUNDS,
        ..Plan::default()
    };
    migrate(&mut source, &mut destination, &plan).map(drop)
}

#[test]
fn an_emulated_guest_loses_writes_that_qemu_does_not_see() {
    if guest::accelerator() != "tcg" {
        // KVM tracks writes in another way.
        return;
    }
    for qemu in qemu::all().unwrap() {
        let error = moved(&qemu).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{}: {error}", qemu.release());
    }
}
