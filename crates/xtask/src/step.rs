//! Running a command as a step with a name, and saying how it went.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A step that failed, in a sentence.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The project's top folder.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR");
    set.map_or_else(|| root().join("target"), |set| root().join(set))
}

/// Cargo, with these arguments, at the project's top.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// Runs a step, its output going to the user as it comes.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<(), Failed> {
    println!("\n── {name}");
    let start = Instant::now();
    let status = command
        .status()
        .map_err(|error| Failed::new(format!("{name}: cannot start {command:?}: {error}")))?;
    if !status.success() {
        return Err(Failed::new(format!(
            "{name} failed ({status})\n  {command:?}"
        )));
    }
    println!("   {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command for what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String, Failed> {
    let output = command
        .output()
        .map_err(|error| Failed::new(format!("cannot start {command:?}: {error}")))?;
    if !output.status.success() {
        return Err(Failed::new(format!(
            "{command:?} failed ({})\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failed::new(format!("{command:?} printed something that is not text")))
}

/// Whether a command can be started and says that all is well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
