//! The inner crates are free of sockets, clocks, threads and randomness of their own.
//!
//! Three things together prove it: each is `no_std`, so that the compiler knows no `std::net`, `std::time`, `std::thread` or
//! `std::fs`; no crate that brings these is among its dependencies; and clippy refuses the ways to randomness that remain.
//! A check that cannot fail proves nothing, so clippy is also shown a crate that it must refuse.

use std::path::Path;

use crate::step::{self, Failed, cargo, root};

/// The crates that are tested with bytes and a virtual clock, those that do not exist yet included.
pub(crate) const INNER: [&str; 5] = ["stream", "seal", "pages", "precopy", "session"];

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

/// ring brings the system's randomness along; the clippy rule keeps seal from using it.
const EXCUSED: [(&str, &str); 1] = [("seal", "getrandom")];

pub(crate) fn check() -> Result<(), Failed> {
    println!("\n── inner crates: no sockets, clocks, threads or randomness of their own");
    for name in INNER {
        let folder = root().join("crates").join(name);
        if !folder.exists() {
            continue;
        }
        let lib = std::fs::read_to_string(folder.join("src/lib.rs"))
            .map_err(|error| Failed::new(format!("crates/{name}/src/lib.rs: {error}")))?;
        if !is_no_std(&lib) {
            return Err(Failed::new(format!(
                "crates/{name} must be no_std, without std outside its tests"
            )));
        }
        let package = format!("sealift-{name}");
        let tree = step::output(
            cargo(["tree", "--edges", "normal", "--prefix", "none"]).args([
                "--format",
                "{p}",
                "--package",
                &package,
            ]),
        )?;
        if let Some(banned) = banned(name, &tree).first() {
            return Err(Failed::new(format!(
                "crates/{name} pulls in {banned}: see cargo tree --package {package} --invert {banned}"
            )));
        }
        step::run(
            &format!("{package}: clippy by the inner crates' rules"),
            clippy(&root().join("Cargo.toml"))
                .args(["--package", &package])
                .args(DENIED),
        )?;
    }
    let impure = rules().join("impure/Cargo.toml");
    if step::succeeds(clippy(&impure).args(DENIED)) {
        return Err(Failed::new(
            "clippy accepted a crate that makes its own randomness: the rules do not hold",
        ));
    }
    println!("   a crate that makes its own randomness is refused");
    Ok(())
}

const DENIED: [&str; 3] = ["--", "-D", "clippy::disallowed_types"];

fn rules() -> std::path::PathBuf {
    root().join("crates/xtask/purity")
}

fn clippy(manifest: &Path) -> std::process::Command {
    let mut command = cargo(["clippy", "--quiet", "--lib", "--manifest-path"]);
    command.arg(manifest).env("CLIPPY_CONF_DIR", rules());
    // The impure crate stands outside the workspace; what it shares with it need not be built twice.
    command.env("CARGO_TARGET_DIR", root().join("target/purity"));
    command
}

fn is_no_std(lib: &str) -> bool {
    let mut no_std = false;
    let mut test_only = false;
    for line in lib.lines().map(str::trim) {
        no_std |= line == "#![no_std]";
        if line.contains("extern crate std") && !test_only {
            return false;
        }
        test_only = line == "#[cfg(test)]";
    }
    no_std
}

fn banned<'a>(inner: &str, tree: &'a str) -> Vec<&'a str> {
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<&str> = names
        .filter(|name| BANNED.contains(name) && !EXCUSED.contains(&(inner, name)))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_on_a_socket_or_a_clock_is_found() {
        let tree = "sealift-stream v0.1.0 (somewhere)\nbytes v1.12.1\ntokio v1.54.1\nmio v1.0.0\n";
        assert_eq!(banned("stream", tree), ["mio", "tokio"]);
        assert!(banned("stream", "bytes v1\ntokio-free v1\n").is_empty());
    }

    #[test]
    fn only_seal_may_have_getrandom_behind_ring() {
        let tree = "ring v0.17.14\ngetrandom v0.2.16\n";
        assert!(banned("seal", tree).is_empty());
        assert_eq!(banned("pages", tree), ["getrandom"]);
    }

    #[test]
    fn std_is_for_tests_only() {
        assert!(is_no_std("#![no_std]\n#[cfg(test)]\nextern crate std;\n"));
        assert!(!is_no_std("#![no_std]\nextern crate std;\n"));
        assert!(!is_no_std("// #![no_std]\n"));
    }
}
