//! The program under test, built once for all tests of a process.
//!
//! ```text
//!  sealift()             target/PROFILE/sealift                as it is released
//!  with_fault_points()   target/fault-points/PROFILE/sealift   can be held up at a step of the hand-off
//! ```
//!
//! Cargo builds it with the profile of the tests, and finds in half a second that nothing has changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;
use crate::tools::{run, target_directory};

/// Sealift as it is released.
pub fn sealift() -> Result<&'static Path, Error> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PROGRAM, || build(&target_directory(), &[]))
}

/// Sealift with the feature `fault-points`. It has a directory of its own: in the other's it would take its place.
pub fn with_fault_points() -> Result<&'static Path, Error> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PROGRAM, || {
        let directory = target_directory().join("fault-points");
        build(&directory, &["--features", "fault-points"])
    })
}

fn once(
    program: &'static OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<&'static Path, Error> {
    let built = program.get_or_init(|| build().map_err(|error| error.to_string()));
    built.as_deref().map_err(Error::new)
}

fn build(directory: &Path, features: &[&str]) -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "sealift", "--bin"])
        .arg("sealift")
        .args(features)
        .arg("--target-dir")
        .arg(directory);
    // What cargo told this test of itself would make build scripts run again, and everything after them.
    for (name, _) in std::env::vars_os() {
        let told = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ];
        if told
            .iter()
            .any(|told| name.to_string_lossy().starts_with(told))
        {
            command.env_remove(name);
        }
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        command.arg("--release");
        "release"
    };
    run(&mut command)?;
    Ok(directory.join(profile).join("sealift"))
}
