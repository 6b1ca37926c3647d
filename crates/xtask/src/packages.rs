//! What the system must provide, installed by its package manager when run as root.

use std::process::Command;

use crate::step::{self, Failed};

/// A Debian package, and a command that succeeds where it is there.
pub(crate) struct Package {
    name: &'static str,
    sign: &'static [&'static str],
}

/// What the tests take beside Rust and the C compiler that Rust links with: QEMU, an assembler for the guest, two hosts' network, and
/// C++ for libFuzzer.
pub(crate) const TESTS: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        sign: &["qemu-system-x86_64", "--version"],
    },
    Package {
        name: "binutils",
        sign: &["as", "--version"],
    },
    Package {
        name: "iproute2",
        sign: &["tc", "-Version"],
    },
    Package {
        name: "g++",
        sign: &["c++", "--version"],
    },
];

/// What making the test vectors takes: Python with room for packages of its own.
pub(crate) const VECTORS: &[Package] = &[Package {
    name: "python3-venv",
    sign: &["python3", "-c", "import venv, ensurepip"],
}];

impl Package {
    fn is_there(&self) -> bool {
        let (program, arguments) = self.sign.split_first().unwrap_or((&"false", &[]));
        step::succeeds(Command::new(program).args(arguments))
    }
}

/// Installs those packages that are not there.
pub(crate) fn install(packages: &[Package]) -> Result<(), Failed> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install --yes --no-install-recommends {}",
        missing.join(" ")
    );
    if !is_root() {
        return Err(Failed::new(format!(
            "missing on this machine: {}\n  as root: {line}",
            missing.join(", ")
        )));
    }
    step::run(
        "refreshing the list of packages",
        Command::new("apt-get").arg("update"),
    )?;
    step::run(
        &format!("installing {}", missing.join(", ")),
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Installs a cargo subcommand unless it is there. Its version is pinned, so that the same tool judges everywhere.
pub(crate) fn install_cargo_tool(tool: &str, version: &str) -> Result<(), Failed> {
    let there = step::output(step::cargo([tool.trim_start_matches("cargo-")]).arg("--version"))
        .is_ok_and(|printed| printed.split_whitespace().any(|word| word == version));
    if there {
        return Ok(());
    }
    step::run(
        &format!("installing {tool} {version}"),
        step::cargo(["install", "--locked", "--force", tool, "--version", version])
            // Not into the project's own target folder: what is built there has other flags.
            .env_remove("CARGO_TARGET_DIR"),
    )
}

fn is_root() -> bool {
    step::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
