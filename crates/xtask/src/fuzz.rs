//! Fuzzing: a smoke run of every target in the test suite, and long runs.
//!
//! A target starts from three kinds of input: seeds cut from the fixtures, what earlier runs found interesting (`fuzz/corpus`,
//! which is not kept in git), and inputs that once broke it (`fuzz/regressions`, which are).

use std::path::PathBuf;
use std::process::Command;

use crate::packages;
use crate::step::{self, Failed, cargo, root};

const CARGO_FUZZ: &str = "0.13.2";

/// Seconds per target in the test suite: enough to run every seed and regression and some tens of thousands of mutations.
const SMOKE_SECONDS: u64 = 10;

/// What each run may take.
const LIMITS: [&str; 3] = [
    // Longer than any item of a stream (74,060 bytes), so that a parser that takes nothing is caught; longer ones only slow it down.
    "-max_len=81920",
    // Seconds; an input takes milliseconds.
    "-timeout=10",
    // MiB at once: inputs are small, and so is what they may cost.
    "-malloc_limit_mb=64",
];

pub(crate) fn smoke() -> Result<(), Failed> {
    run_all(SMOKE_SECONDS)
}

pub(crate) fn long(minutes: u64) -> Result<(), Failed> {
    packages::install(packages::TESTS)?;
    let targets = targets()?.len() as u64;
    run_all(minutes * 60 / targets)
}

fn run_all(seconds: u64) -> Result<(), Failed> {
    packages::install_cargo_tool("cargo-fuzz", CARGO_FUZZ)?;
    step::run(
        "seeds from the fixtures",
        cargo(["run", "--quiet", "--bin", "seeds", "--manifest-path"])
            .arg(folder().join("Cargo.toml"))
            .arg("--")
            .arg(folder().join("corpus"))
            .env("CARGO_TARGET_DIR", folder().join("target")),
    )?;
    let clippy = ["clippy", "--quiet", "--manifest-path"];
    step::run(
        "clippy of the fuzz targets",
        cargo(clippy)
            .arg(folder().join("Cargo.toml"))
            .args(["--", "--deny", "warnings"])
            .env("CARGO_TARGET_DIR", folder().join("target")),
    )?;
    step::run("building the fuzz targets", &mut cargo_fuzz("build"))?;
    let mut broken = Vec::new();
    for target in targets()? {
        // One that breaks does not keep the others from their turn.
        if let Err(failed) = fuzz(&target, seconds) {
            println!("   {failed}");
            broken.push(target);
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failed::new(format!(
        "fuzzing broke {}: the inputs are in fuzz/artifacts; once mended they belong in fuzz/regressions",
        broken.join(", ")
    )))
}

fn fuzz(target: &str, seconds: u64) -> Result<(), Failed> {
    let mut command = cargo_fuzz("run");
    command
        .arg(target)
        .arg(folder().join("corpus").join(target));
    let regressions = folder().join("regressions").join(target);
    if regressions.exists() {
        command.arg(regressions);
    }
    // Each new input would be a line: some thousand of them say nothing.
    command.args(["--", "-print_funcs=0", "-print_pcs=0", "-verbosity=0"]);
    command.args(LIMITS).arg("-print_final_stats=1");
    command.arg(format!("-max_total_time={seconds}"));
    step::run(&format!("fuzzing {target} for {seconds} s"), &mut command)
}

/// cargo-fuzz wants sanitizers, which stable Rust has but hides.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = cargo(["fuzz", verb, "--fuzz-dir"]);
    command.arg(folder()).env("RUSTC_BOOTSTRAP", "1");
    // The workspace's own target folder is for builds without sanitizers.
    command.env("CARGO_TARGET_DIR", folder().join("target"));
    command
}

fn folder() -> PathBuf {
    root().join("fuzz")
}

fn targets() -> Result<Vec<String>, Failed> {
    let folder = folder().join("fuzz_targets");
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| Failed::new(format!("{}: {error}", folder.display())))?;
    let mut targets: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "rs").then_some(name)
        })
        .collect();
    targets.sort();
    if targets.is_empty() {
        return Err(Failed::new(
            "there is no fuzz target: something is wrong with this tree",
        ));
    }
    Ok(targets)
}
