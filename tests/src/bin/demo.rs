//! `cargo xtask demo`: a running guest's migration, through everything that there is of sealift so far.
#![allow(clippy::print_stdout, reason = "a demo talks to its user")]

use std::process::ExitCode;
use std::time::Instant;

use sealift_lab::guest::{Launch, accelerator};
use sealift_lab::image::Workload;
use sealift_lab::qemu::{self, Machine};
use sealift_lab::tools::progress;
use sealift_lab::{Error, reload, sealed};

/// A guest of 64 MiB (and 8 KiB: see `guest::MEMORY`), which keeps rewriting and checking 16 MiB of it.
const MEMORY: &str = "65544K";
const WORKLOAD: Workload = Workload {
    pages: 4096,
    hot: 1024,
    gap: 300,
    tick: 512,
    seeds: 64,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let all = qemu::all()?;
    let qemu = all.last().ok_or_else(|| Error::new("no QEMU was found"))?;
    let machine = qemu.machine(Machine::I440fx);
    println!(
        "QEMU {}, {machine}, accelerator {}\n",
        qemu.full_version(),
        accelerator()
    );

    let launch = Launch::new(qemu, &machine)
        .memory(MEMORY)
        .workload(WORKLOAD);
    let mut source = launch.start()?;
    let ticks = source.ticks_per_pass();
    source.wait_tick(ticks + 2)?;
    println!("a guest runs and checks its memory:");
    last_words(&source, 2)?;

    let start = Instant::now();
    let stream = reload::capture(&mut source)?;
    let stopped = source.serial().progress()?;
    step(
        start,
        &format!("captured its migration: {} bytes", stream.len()),
    );
    drop(source);

    let start = Instant::now();
    let sealed = sealed::seal(&stream)?;
    step(
        start,
        &format!(
            "took it apart: {} pages with content, {} of zeros, {} other bytes",
            sealed.literal, sealed.zero, sealed.other
        ),
    );
    let bytes: usize = sealed.batches.iter().map(Vec::len).sum();
    println!(
        "           sealed it: {} batches, {bytes} bytes, {:?} and AES-256-GCM, a BLAKE3 digest each",
        sealed.batches.len(),
        sealed.suite
    );

    let start = Instant::now();
    let again = sealed::open(sealed)?;
    step(
        start,
        "opened every batch, verified its digest and put the stream together again",
    );
    if again != stream {
        return Err(Error::new("the stream is not what it was"));
    }
    println!("           it is byte for byte what QEMU sent");

    let start = Instant::now();
    let mut destination = launch.incoming().start()?;
    reload::load(&mut destination, &again)?;
    step(start, "loaded it into a second QEMU");
    let all_checked = stopped.tick + ticks + 2;
    destination.wait_tick(all_checked)?;
    println!(
        "the guest runs on there, from tick {} on; since then it has checked every page:",
        stopped.tick
    );
    last_words(&destination, 2)?;
    println!("\nNot one bad page. The guest did not notice.");
    Ok(())
}

fn step(start: Instant, what: &str) {
    println!("{:>8.3} s {what}", start.elapsed().as_secs_f64());
}

/// The newest whole lines that the guest printed.
fn last_words(guest: &sealift_lab::guest::Guest, count: usize) -> Result<(), Error> {
    let text = guest.serial().text()?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines: Vec<&str> = whole.lines().collect();
    for line in &lines[lines.len().saturating_sub(count)..] {
        println!("           | {line}");
    }
    Ok(())
}
