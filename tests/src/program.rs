//! The program under test, built once for all tests of a process.
//!
//! Cargo builds it with the profile of the tests, as one of the workspace's programs, so that hardly a dependency is built anew for it;
//! and finds in half a second that nothing has changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;
use crate::tools::{run, target_directory};

/// Sealift. Built for debugging it has fault points; see [`Order::held`](crate::session::Order::held).
pub fn sealift() -> Result<&'static Path, Error> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| build().map_err(|error| error.to_string()));
    built.as_deref().map_err(Error::new)
}

fn build() -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--workspace",
        "--bin",
        "sealift",
    ]);
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
    Ok(target_directory().join(profile).join("sealift"))
}
