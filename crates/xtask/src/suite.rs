//! The two suites: `check` before a commit, `test` before a change lands.

use std::time::Instant;

use crate::step::{self, Failed, cargo, root};
use crate::{fuzz, packages, policy, purity, vectors};

/// Format, clippy and the tests that need nothing but the crates.
pub(crate) fn check() -> Result<(), Failed> {
    timed("check", || {
        format()?;
        clippy()?;
        step::run(
            "unit and property tests",
            &mut cargo(["test", "--quiet", "--workspace", "--exclude", "sealift-lab"]),
        )
    })
}

/// Everything that must hold.
pub(crate) fn test(all: bool) -> Result<(), Failed> {
    timed("test", || {
        packages::install(packages::TESTS)?;
        format()?;
        clippy()?;
        purity::check()?;
        step::run(
            "unit, property and end-to-end tests",
            cargo(["test", "--workspace"]).env("SEALIFT_MATRIX", if all { "all" } else { "few" }),
        )?;
        step::run(
            "documentation",
            cargo(["doc", "--quiet", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "--deny warnings"),
        )?;
        policy::check()?;
        if all {
            vectors::check()?;
        }
        fuzz::smoke()
    })
}

fn timed(name: &str, suite: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let start = Instant::now();
    suite()?;
    println!(
        "\nxtask {name}: all passed in {} s",
        start.elapsed().as_secs()
    );
    Ok(())
}

fn format() -> Result<(), Failed> {
    step::run("format", &mut cargo(["fmt", "--all", "--check"]))?;
    step::run(
        "format of the fuzz targets",
        cargo(["fmt", "--check", "--manifest-path"]).arg(root().join("fuzz/Cargo.toml")),
    )
}

/// Clippy, crate by crate: in one build a feature that one crate asks for would hide that another forgot to. For the same reason each
/// is also looked at without its tests, which have dependencies of their own.
fn clippy() -> Result<(), Failed> {
    let deny = ["--", "--deny", "warnings"];
    for package in packages_of_workspace()? {
        let name = format!("clippy {package}");
        let clippy = || cargo(["clippy", "--quiet", "--package", &package]);
        step::run(&name, clippy().args(deny))?;
        step::run(
            &format!("{name}, with tests"),
            clippy().arg("--all-targets").args(deny),
        )?;
    }
    Ok(())
}

fn packages_of_workspace() -> Result<Vec<String>, Failed> {
    let printed = step::output(&mut cargo(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&printed)
        .map_err(|error| Failed::new(format!("cargo metadata: {error}")))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages
        .filter_map(|package| package["name"].as_str())
        .map(str::to_owned)
        .collect())
}
