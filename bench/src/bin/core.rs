//! `cargo xtask bench core`: the inner crates against the raw limits of this machine, in one run.
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
use sealift_bench::{measure, raw, sealing, streams, table};
use serde_json::json;

/// Measure the inner crates against the raw limits of this machine. Run it with nothing else running.
#[derive(Parser)]
struct Arguments {
    /// Also write the figures here, as JSON.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("core: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let _alone =
        Alone::on_this_machine(|| eprintln!("another bench is measuring; waiting for it"))?;
    let mut cases = raw::cases();
    cases.extend(streams::cases());
    cases.extend(sealing::cases()?);
    let measured = measure(cases, |round, of| eprint!("\rround {round} of {of} "));
    eprintln!();
    let rows = table::rows(&measured);
    let machine = machine::describe();
    println!("{machine}\n\n{}", table::text(&rows));
    if let Some(file) = &arguments.save {
        let figures = json!({ "machine": machine, "rows": rows });
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
