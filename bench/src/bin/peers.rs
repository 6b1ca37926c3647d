//! `cargo xtask bench peers`: moving a guest by sealift and by what QEMU has itself, in turn, on the same link.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to its user"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sealift_bench::machine::{self, Alone};
use sealift_bench::peers::{Bench, Dirty, Outcome, Row, Transport, text, verdicts};
use sealift_lab::rate::BitRate;
use serde_json::{Value, json};

/// Move a guest by sealift and by what QEMU has itself, in turn, and hold the figures against each other. Takes root, and the machine to itself.
#[derive(Parser)]
struct Arguments {
    /// The link's rate, such as 1gbit. Without it and --dirty: 1gbit with 2000:64, and 200mbit with 5000:128.
    #[arg(long, value_name = "RATE", requires = "dirty")]
    link: Option<BitRate>,
    /// Pages a second that the guest rewrites, and the MiB that they are in, such as 2000:64.
    #[arg(long, value_name = "RATE:MIB", requires = "link")]
    dirty: Option<Dirty>,
    /// How often each transport has its turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only this transport: tcp, tls, multifd-tls, multifd-tls-zstd or sealift. May be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<Transport>,
    /// The sealift to measure.
    #[arg(long, value_name = "PROGRAM")]
    sealift: Option<PathBuf>,
    /// Also write the figures here, as JSON.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let _alone =
        Alone::on_this_machine(|| eprintln!("another bench is measuring; waiting for it"))?;
    let rows = match (arguments.link, arguments.dirty) {
        (Some(link), Some(dirty)) => vec![Row { link, dirty }],
        _ => Row::NAMED.to_vec(),
    };
    let transports = transports(arguments)?;
    let load = machine::load();
    let mut figures = Vec::new();
    for row in rows {
        let bench = Bench::new(&row, arguments.sealift.clone())?;
        let qemu = bench.qemu_version().to_owned();
        eprintln!("{row}");
        let outcomes = measure(&bench, &transports, usize::from(arguments.rounds));
        println!("\n{row}; QEMU {qemu}\n\n{}", text(&outcomes));
        let verdicts = verdicts(&outcomes);
        for (line, reached) in &verdicts {
            println!("{line}: {}", if *reached { "ok" } else { "MISSED" });
        }
        figures.push(as_json(&row, &qemu, &outcomes, &verdicts));
        // After every row: a later one may fail, and each takes minutes.
        save(arguments, load, &figures)?;
    }
    println!("\n{}, {}", machine::describe(), load_in_words(load));
    Ok(())
}

/// Those that are wanted and can be measured.
fn transports(arguments: &Arguments) -> Result<Vec<Transport>, Box<dyn Error>> {
    let wanted =
        |transport: &Transport| arguments.only.is_empty() || arguments.only.contains(transport);
    let mut transports: Vec<_> = Transport::ALL.into_iter().filter(wanted).collect();
    let objection = match &arguments.sealift {
        None => Some("no --sealift was given".to_owned()),
        Some(sealift) => Bench::objection(sealift)?,
    };
    if let Some(objection) = objection
        && transports.contains(&Transport::Sealift)
    {
        eprintln!("NOT MEASURED: sealift. {objection}");
        transports.retain(|&transport| transport != Transport::Sealift);
    }
    Ok(transports)
}

fn measure(bench: &Bench, transports: &[Transport], rounds: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for round in 1..=rounds {
        for &transport in transports {
            eprint!("  round {round} of {rounds}: {transport} … ");
            let outcome = bench.run(transport, round);
            match (outcome.figures(), outcome.failure()) {
                (Some(figures), _) => eprintln!(
                    "{:.2} s, blackout {:.0} ms",
                    figures.time_s, figures.blackout_ms
                ),
                (None, why) => eprintln!("no arrival: {}", why.unwrap_or_default()),
            }
            outcomes.push(outcome);
        }
    }
    outcomes
}

fn as_json(row: &Row, qemu: &str, outcomes: &[Outcome], verdicts: &[(String, bool)]) -> Value {
    let verdicts: Vec<Value> = verdicts
        .iter()
        .map(|(line, reached)| json!({ "verdict": line, "reached": reached }))
        .collect();
    json!({ "row": row, "qemu": qemu, "runs": outcomes, "verdicts": verdicts })
}

fn save(arguments: &Arguments, load: Option<f64>, figures: &[Value]) -> Result<(), Box<dyn Error>> {
    let Some(file) = &arguments.save else {
        return Ok(());
    };
    let all = json!({ "machine": machine::describe(), "load_before": load, "rows": figures });
    std::fs::write(file, serde_json::to_vec_pretty(&all)?)
        .map_err(|error| format!("{}: {error}", file.display()).into())
}

fn load_in_words(load: Option<f64>) -> String {
    /// The mean over a minute of a machine that does nothing, with what the shell and the build before leave.
    const QUIET: f64 = 0.5;
    match load {
        Some(load) if load > QUIET => {
            format!("SOMETHING ELSE WAS RUNNING: a load of {load} before the first run")
        }
        Some(load) => format!("a load of {load} before the first run"),
        None => "its load is not known".to_owned(),
    }
}
