//! The project's own commands, so that building and testing it needs nothing but Rust.
//!
//! `cargo xtask --help` lists them. What CI runs is `cargo xtask test`, no more and no less.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that runs others talks to its user"
)]

mod features;
mod fuzz;
mod packages;
mod policy;
mod purity;
mod step;
mod suite;
mod vectors;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use step::{Failed, cargo};

/// Build, test, show and measure sealift.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, clippy and unit tests: before each commit, under two minutes.
    Check,
    /// Everything that must hold before a change lands, under twenty minutes on two cores; what CI runs.
    Test {
        /// The long matrices as well.
        #[arg(long)]
        all: bool,
    },
    /// Move a running guest from one host to another, with progress on the screen; under two minutes once it is built. As root the hosts
    /// are network namespaces.
    Demo,
    /// Capture the fixtures again from real QEMUs, all of them or those named. Each full run adds 3 MB to the repository's history.
    Capture {
        /// Such as 10.0-xbzrle.
        names: Vec<String>,
    },
    /// Measure.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Fuzz every target for a while, and say what was found.
    Fuzz {
        /// Minutes in all, shared among the targets.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The inner crates against the raw limits of this machine. Run it with nothing else running.
    Core {
        /// Also write the figures here, as JSON.
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// The page pipeline alone, one thread there and back, each technique on and off. Run it with nothing else running.
    #[command(disable_help_flag = true)]
    Pages {
        /// Captured main channels; what `--help` after `pages` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Moving a guest by sealift and by what QEMU has itself, in turn, on the same link. Takes root; run it with nothing else running.
    #[command(disable_help_flag = true)]
    Peers {
        /// What `--help` after `peers` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// What made-up guests of up to 256 GiB cost sealift itself: private memory of each end, time as they grow. Takes root; run it with nothing else running.
    #[command(disable_help_flag = true)]
    Vast {
        /// What `--help` after `vast` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check => suite::check(),
        Command::Test { all } => suite::test(all),
        Command::Demo => demo(),
        Command::Capture { names } => capture(&names),
        Command::Bench {
            what: Bench::Core { save },
        } => bench_core(save),
        Command::Bench {
            what: Bench::Pages { arguments },
        } => bench_pages(&arguments),
        Command::Bench {
            what: Bench::Peers { arguments },
        } => bench_with_sealift("peers", &arguments),
        Command::Bench {
            what: Bench::Vast { arguments },
        } => bench_with_sealift("vast", &arguments),
        Command::Fuzz { minutes } => fuzz::long(minutes),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("\nxtask: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Failed> {
    let program = sealift()?;
    let mut command = cargo(["run", "--quiet", "--release", "--package", "sealift-lab"]);
    command.args(["--bin", "demo", "--"]).arg(program);
    step::run("the demo", &mut command)
}

/// Builds sealift as it is used, and returns where it is.
fn sealift() -> Result<PathBuf, Failed> {
    step::run(
        "building sealift",
        &mut cargo(["build", "--quiet", "--release", "--package", "sealift"]),
    )?;
    Ok(step::target_directory().join("release/sealift"))
}

fn capture(names: &[String]) -> Result<(), Failed> {
    step::run(
        "capturing the fixtures",
        cargo(["run", "--quiet", "--release", "--package", "sealift-lab"])
            .args(["--bin", "capture", "--"])
            .args(names),
    )
}

fn bench_core(save: Option<PathBuf>) -> Result<(), Failed> {
    let mut command = cargo(["run", "--quiet", "--release", "--package", "sealift-bench"]);
    command.args(["--bin", "core"]);
    if let Some(file) = save {
        command.arg("--").arg("--save").arg(file);
    }
    step::run("bench core", &mut command)
}

fn bench_pages(arguments: &[OsString]) -> Result<(), Failed> {
    let mut command = cargo(["run", "--quiet", "--release", "--package", "sealift-bench"]);
    command.args(["--bin", "pages", "--"]);
    step::run("bench pages", command.args(arguments))
}

fn bench_with_sealift(bench: &str, arguments: &[OsString]) -> Result<(), Failed> {
    let program = sealift()?;
    let mut command = cargo(["run", "--quiet", "--release", "--package", "sealift-bench"]);
    command.args(["--bin", bench, "--", "--sealift"]);
    step::run(
        &format!("bench {bench}"),
        command.arg(program).args(arguments),
    )
}
