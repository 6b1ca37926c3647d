//! Licences, sources and advisories of what is depended on: `deny.toml`, judged by cargo-deny.

use crate::packages;
use crate::step::{self, Failed, cargo};

/// The version whose configuration `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn check() -> Result<(), Failed> {
    packages::install_cargo_tool("cargo-deny", CARGO_DENY)?;
    step::run(
        "licences, sources and versions of dependencies",
        cargo([
            "deny",
            "--all-features",
            "check",
            "licenses",
            "bans",
            "sources",
        ])
        .args(["--hide-inclusion-graph"]),
    )?;
    println!("\n── advisories against dependencies");
    let mut fetch = cargo(["deny", "fetch", "db"]);
    match step::output(&mut fetch) {
        Ok(_) => step::run(
            "advisories",
            &mut cargo([
                "deny",
                "--all-features",
                "check",
                "--disable-fetch",
                "advisories",
            ]),
        ),
        Err(unreachable) => {
            println!(
                "   !!! SKIPPED: the advisory database cannot be fetched from here, so that NOTHING has been\n   \
                 !!! said about known vulnerabilities. Run `cargo deny check advisories` where it can.\n   \
                 !!! {}",
                last_line(&unreachable.to_string())
            );
            Ok(())
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("")
}
