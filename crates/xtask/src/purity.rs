//! The inner crates are free of sockets, clocks, threads and randomness of their own.
//!
//! Three things together prove it: each is `no_std`, so that the compiler knows no `std::net`, `std::time`, `std::thread` or
//! `std::fs`; no crate that brings these is among its dependencies; and clippy, wherever it looks at the workspace, refuses the ways to
//! randomness that remain, because each asks it to. A check that cannot fail proves nothing, so clippy is also shown a crate that it must
//! refuse.

use std::path::{Path, PathBuf};

use crate::step::{self, Failed, cargo, root, target_directory};

/// The crates that are tested with bytes and a virtual clock.
const INNER: [&str; 5] = ["stream", "seal", "pages", "precopy", "session"];

/// Crates whose business is what an inner crate must not do.
const BANNED: [&str; 13] = [
    "async-io",
    "async-std",
    "getrandom",
    "mio",
    "nix",
    "polling",
    "rand",
    "rayon",
    "rustix",
    "smol",
    "socket2",
    "time",
    "tokio",
];

/// What asks clippy for the rules of `clippy.toml`.
const RULES: &str = "#![warn(clippy::disallowed_methods, clippy::disallowed_types)]";

/// ring brings the system's randomness along; the clippy rule keeps seal from using it.
const EXCUSED: [(&str, &str); 1] = [("ring", "getrandom")];

pub(crate) fn check() -> Result<(), Failed> {
    println!("\n── inner crates: no sockets, clocks, threads or randomness of their own");
    for name in INNER {
        check_crate(name)?;
    }
    check_the_rules()
}

fn check_crate(name: &str) -> Result<(), Failed> {
    let sources = root().join("crates").join(name).join("src");
    let lib = read(&sources.join("lib.rs"))?;
    for line in ["#![no_std]", RULES] {
        if !lib.lines().any(|found| found.trim() == line) {
            return Err(Failed::new(format!(
                "crates/{name}/src/lib.rs must say {line}"
            )));
        }
    }
    for file in rust_files(&sources)? {
        if brings_std(&read(&file)?) {
            return Err(Failed::new(format!(
                "{} brings std into crates/{name} outside its tests",
                file.display()
            )));
        }
    }
    let package = format!("sealift-{name}");
    let tree = step::output(
        cargo([
            "tree",
            "--edges",
            "normal",
            "--prefix",
            "depth",
            "--no-dedupe",
        ])
        .args(["--format", " {p}", "--package", &package]),
    )?;
    if let Some(banned) = banned(&tree).first() {
        return Err(Failed::new(format!(
            "crates/{name} pulls in {banned}: see cargo tree --package {package} --invert {banned}"
        )));
    }
    Ok(())
}

/// A crate that breaks the rules must be refused, by them and by nothing else.
fn check_the_rules() -> Result<(), Failed> {
    let impure = root().join("crates/xtask/purity/impure/Cargo.toml");
    let cargo = |command| {
        let mut cargo = cargo([command, "--quiet", "--manifest-path"]);
        // It stands outside the workspace, by whose rules it is judged.
        cargo.arg(&impure).env("CLIPPY_CONF_DIR", root());
        cargo.env("CARGO_TARGET_DIR", target_directory().join("purity"));
        cargo
    };
    step::output(&mut cargo("check"))?;
    match step::output(cargo("clippy").args(["--", "--deny", "warnings"])) {
        Err(refused) if refused.to_string().contains("disallowed type") => {
            println!("   a crate that makes its own randomness is refused");
            Ok(())
        }
        _ => Err(Failed::new(
            "clippy accepted a crate that makes its own randomness: the rules do not hold",
        )),
    }
}

fn read(file: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(file)
        .map_err(|error| Failed::new(format!("cannot read {}: {error}", file.display())))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let unreadable = |error| Failed::new(format!("cannot read {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Whether a file of a `no_std` crate brings std back, but for tests.
fn brings_std(source: &str) -> bool {
    let mut for_tests = false;
    for line in source.lines().map(str::trim) {
        if line.contains("extern crate std") && !for_tests {
            return true;
        }
        for_tests = line == "#[cfg(test)]";
    }
    false
}

/// The banned crates in a tree, each line of which is a depth and a package.
fn banned(tree: &str) -> Vec<&str> {
    let mut above: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        above.truncate(depth.parse().unwrap_or(0));
        let parent = above.last().copied().unwrap_or("");
        if BANNED.contains(&name) && !EXCUSED.contains(&(parent, name)) {
            found.push(name);
        }
        above.push(name);
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_on_a_socket_or_a_clock_is_found() {
        let tree =
            "0 sealift-stream v0.1.0 (somewhere)\n1 bytes v1.12.1\n1 tokio v1.54.1\n2 mio v1.0.0\n";
        assert_eq!(banned(tree), ["mio", "tokio"]);
        assert!(banned("0 bytes v1\n1 tokio-free v1\n").is_empty());
    }

    #[test]
    fn only_ring_may_bring_getrandom() {
        assert!(banned("0 seal v0\n1 ring v0.17.14\n2 getrandom v0.2.16\n").is_empty());
        assert_eq!(
            banned("0 seal v0\n1 ring v0\n1 getrandom v0.2.16\n"),
            ["getrandom"]
        );
        assert_eq!(
            banned("0 seal v0\n1 p256 v0\n2 getrandom v0.4\n"),
            ["getrandom"]
        );
    }

    #[test]
    fn std_is_for_tests_only() {
        assert!(!brings_std("#![no_std]\n#[cfg(test)]\nextern crate std;\n"));
        assert!(brings_std("mod sneaky {\n    extern crate std;\n}\n"));
    }
}
