//! Whoever uses the programs of the Debian guest: process 1 of it, once they run.
//!
//! ```text
//!   bank     psql ─ transfers between accounts ─▶ PostgreSQL     the sum of all must be zero, the ledger must have all
//!   reader   HTTP over loopback ─▶ nginx ─▶ page cache           each file must be what it was at the start
//!   main     looks at the clock twenty times a second, and says how far both are:
//!
//!   tick 17 pages 34816 bad 0 written 512 at 4.203911 stall 0.000213
//!   audit 3
//! ```
//!
//! The lines are those of the guest "mix": `pages` counts what was done, transfers and files; `written` the transfers alone. An audit is
//! told of when the books have been compared and every file has been fetched once more since the last. Whatever is wrong is told of in a line
//! with BAD.
#![forbid(unsafe_code)]

mod bank;
mod reader;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Often enough for a guest's standstill of some tens of milliseconds to be seen; seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(50);

/// What both have done so far.
#[derive(Debug, Default)]
struct Done {
    transfers: AtomicU64,
    files: AtomicU64,
    /// How often the books were compared.
    balanced: AtomicU64,
    /// How often all files were fetched.
    all_read: AtomicU64,
    bad: AtomicU64,
}

impl Done {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    fn bad(&self, what: &dyn std::fmt::Display) {
        /// Damaged things that get a line of their own.
        const SHOWN: u64 = 8;
        if self.bad.fetch_add(1, Ordering::Relaxed) < SHOWN {
            say(format_args!("BAD {what}"));
        }
    }
}

fn main() -> ExitCode {
    let documents = PathBuf::from(std::env::args_os().nth(1).unwrap_or_default());
    let done = Arc::new(Done::default());
    let files = match reader::list(&documents) {
        Ok(files) => files,
        Err(error) => {
            say(format_args!("BAD {}: {error}", documents.display()));
            return ExitCode::FAILURE;
        }
    };
    say(format_args!("clerk ready files {}", files.len()));
    let (bank, reader) = (Arc::clone(&done), Arc::clone(&done));
    // An end of either is told of, and process 1 must not end.
    thread::spawn(move || bank.bad(&bank::run(&bank)));
    thread::spawn(move || reader.bad(&reader::run(&files, &reader)));
    look(&done)
}

fn look(done: &Done) -> ! {
    let start = Instant::now();
    let (mut tick, mut audits) = (0u64, 0);
    loop {
        let before = start.elapsed();
        thread::sleep(LOOK);
        let now = start.elapsed();
        let stall = (now - before).saturating_sub(LOOK);
        tick += 1;
        let transfers = Done::of(&done.transfers);
        say(format_args!(
            "tick {tick} pages {} bad {} written {transfers} at {:.6} stall {:.6}",
            transfers + Done::of(&done.files),
            Done::of(&done.bad),
            now.as_secs_f64(),
            stall.as_secs_f64()
        ));
        let audited = Done::of(&done.balanced).min(Done::of(&done.all_read));
        if audited > audits {
            audits = audited;
            say(format_args!("audit {audits}"));
        }
    }
}

/// One line, in one write. Nobody could be told that the console fails.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}
