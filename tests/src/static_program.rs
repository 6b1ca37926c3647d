//! Programs for guests: static, as there may be nothing else in a guest's file system.

use std::path::PathBuf;
use std::process::Command;

use crate::tools::{self, run};
use crate::{Context as _, Error};

/// Builds the one program of a package of this workspace, in release.
pub(crate) fn build(package: &str) -> Result<PathBuf, Error> {
    /// Named, so that the flag is not for build scripts as well; the C library's static form comes with its headers.
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target = tools::target_directory().join("guest-mix");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["rustc", "--quiet", "--release", "--package", package])
        .args(["--target", TARGET, "--target-dir"])
        // Its own folder: whoever runs this may hold the lock of cargo's.
        .arg(&target)
        .args(["--", "-C", "target-feature=+crt-static"]))
    .context(format!("building {package} for a guest"))?;
    let program = target.join(TARGET).join("release").join(package);
    Ok(std::path::absolute(&program).unwrap_or(program))
}
