//! The two suites: `check` before a commit, `test` before a change lands.

use std::time::Instant;

use crate::step::{self, Failed, cargo, root};
use crate::{features, fuzz, packages, policy, purity, vectors};

/// What the sources say of themselves, and the tests that need nothing but the crates.
pub(crate) fn check() -> Result<(), Failed> {
    timed("check", || {
        sources()?;
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
        sources()?;
        step::run(
            "unit, property and end-to-end tests",
            cargo(["test", "--workspace"]).env("SEALIFT_MATRIX", if all { "all" } else { "few" }),
        )?;
        policy::check()?;
        if all {
            vectors::check()?;
        }
        fuzz::smoke()
    })
}

/// What needs no run: it comes before what takes minutes.
fn sources() -> Result<(), Failed> {
    format()?;
    clippy()?;
    purity::check()?;
    step::run(
        "documentation",
        cargo(["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
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

/// Clippy, over all crates: first without their tests, which have dependencies of their own, of which one might lend a feature. What
/// crates might lend each other is for [`features`].
fn clippy() -> Result<(), Failed> {
    features::check()?;
    let clippy = || cargo(["clippy", "--quiet", "--workspace"]);
    let deny = ["--", "--deny", "warnings"];
    step::run("clippy", clippy().args(deny))?;
    step::run(
        "clippy, with tests",
        clippy().arg("--all-targets").args(deny),
    )
}
