//! `cargo xtask bench pages`: the page pipeline alone, each technique on and off.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to its user"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sealift_bench::machine::{self, Alone};
use sealift_bench::pages::recorded::Recorded;
use sealift_bench::pages::{measure, table, ways};

/// Measure the page pipeline alone, one thread there and back, each technique on and off. Run it with nothing else running.
#[derive(Parser)]
struct Arguments {
    /// Main channels as they were captured, compressed by zstd when their names end in .zst; or, when they end in .raw, a guest's memory as QEMU's
    /// pmemsave writes it. Without one, a made-up guest like "mix".
    files: Vec<PathBuf>,
    /// MiB of copies that the source keeps.
    #[arg(long, default_value_t = 512)]
    budget: u64,
    /// Trips of each way, of which the shortest counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only ways whose name has this in it.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
}

/// The program's own: what a trip before has touched is there for the next, so that the shortest trip tells what the pipeline costs, and not what the
/// kernel takes to clear memory for it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The made-up guest: what is rewritten, and how often.
const MIX: (usize, usize, usize) = (512, 64, 8);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let _alone =
        Alone::on_this_machine(|| eprintln!("another bench is measuring; waiting for it"))?;
    println!("{}", machine::describe());
    if arguments.files.is_empty() {
        let (mib, hot, rounds) = MIX;
        let name = format!("made-up mix: {mib} MiB, {hot} MiB rewritten {rounds} times");
        return one(&name, &Recorded::mix(mib, hot, rounds), arguments);
    }
    for file in &arguments.files {
        let name = file.display().to_string();
        let stream = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
        let stream = if file.extension().is_some_and(|end| end == "zst") {
            zstd::decode_all(stream.as_slice())?
        } else {
            stream
        };
        let recorded = if file.extension().is_some_and(|end| end == "raw") {
            Recorded::of_memory(&stream)
        } else {
            Recorded::of_stream(&stream).map_err(|error| format!("{name}: {error}"))?
        };
        drop(stream);
        one(&name, &recorded, arguments)?;
    }
    Ok(())
}

fn one(
    name: &str,
    recorded: &Recorded,
    arguments: &Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    let budget = arguments.budget << 20;
    let only = arguments.only.as_deref().unwrap_or_default();
    let mut ways = ways(budget);
    ways.retain(|way| way.name.contains(only));
    let trips = measure(recorded, &ways, arguments.rounds, |way| {
        eprint!("\r{way:<40}");
    })?;
    eprint!("\r{:<40}\r", "");
    println!("\n{name}\n{}", table::summary(recorded));
    println!(
        "store {} MiB; GB/s of content, zeros left out, one thread\n",
        arguments.budget
    );
    println!(
        "{}\n{}",
        table::speeds(&ways, &trips),
        table::kinds(&ways, &trips)
    );
    Ok(())
}
