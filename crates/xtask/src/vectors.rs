//! The test vectors are what their generators make today: a second implementation, in Python, of what `proto/WIRE.md` says.

use std::process::Command;

use crate::packages;
use crate::step::{self, Failed, root};

/// The generators, in `proto/vectors`.
const GENERATORS: [&str; 2] = ["generate.py", "records.py"];

/// What they import beside the standard library.
const IMPORTS: [&str; 2] = ["cryptography", "blake3"];

pub(crate) fn check() -> Result<(), Failed> {
    packages::install(packages::VECTORS)?;
    let environment = root().join("target/vectors");
    let python = environment.join("bin/python");
    if !python.exists() {
        step::run(
            "a Python environment for the vectors",
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
    }
    step::run(
        "what the vectors' generators import",
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(IMPORTS),
    )?;
    for generator in GENERATORS {
        step::run(
            &format!("vectors by {generator}"),
            Command::new(&python)
                .arg(root().join("proto/vectors").join(generator))
                .arg("--check"),
        )?;
    }
    Ok(())
}
