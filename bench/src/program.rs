//! One of sealift's processes while it is watched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::{Context as _, Error};
use serde_json::Value;

use crate::cpu::has_ended;

/// What it says goes into files, so that nobody has to read along. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    said: PathBuf,
    errors: PathBuf,
}

impl Program {
    /// Starts it. `name` is for messages, and for its files in `directory`.
    pub(crate) fn start(mut command: Command, name: &str, directory: &Path) -> Result<Self, Error> {
        let file = |kind: &str| {
            let path = directory.join(format!("{name}.{kind}"));
            let file = File::create(&path).context(format!("cannot make {}", path.display()))?;
            Ok::<_, Error>((path, file))
        };
        let ((said, stdout), (errors, stderr)) = (file("said")?, file("errors")?);
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context(format!("cannot start sealift {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            said,
            errors,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it listens at this TCP port.
    pub(crate) fn wait_listening(&mut self, port: u16, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        while !listens(self.pid(), port) {
            if self.has_ended() || Instant::now() >= deadline {
                return Err(self.complaint(&format!("it does not listen at port {port}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it has ended. Until [`Program::judge`] its processor time can still be asked for.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.pid())
    }

    /// Waits for its end, and is content only when it did what it was to do.
    pub(crate) fn judge(&mut self) -> Result<(), Error> {
        let status = self
            .child
            .wait()
            .context(format!("waiting for sealift {}", self.name))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.complaint(&format!("it ended ({status})")))
        }
    }

    /// The events that it has told, a JSON object each.
    pub(crate) fn events(&self) -> Vec<Value> {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let lines = said.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Says what is wrong, with the newest that it has said itself.
    pub(crate) fn complaint(&self, what: &str) -> Error {
        /// The end of what it said; the beginning is seldom why.
        const SHOWN: usize = 8;
        let said = [&self.errors, &self.said].map(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(SHOWN)..].join("\n")
        });
        Error::new(format!(
            "sealift {}: {what}\n{}",
            self.name,
            said.join("\n")
        ))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether anybody on the process's host listens at this port.
fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        table.lines().any(|line| is_listener(line, port))
    })
}

/// `0: 00000000:1C9D 00000000:0000 0A …`: number, own address, the other's, state.
fn is_listener(line: &str, port: u16) -> bool {
    /// `TCP_LISTEN`
    const LISTENING: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let own = fields.next().and_then(|own| own.rsplit_once(':'));
    let state = fields.nth(1);
    own.is_some_and(|(_, own)| own == format!("{port:04X}")) && state == Some(LISTENING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let listener = "   0: 00000000:1C9D 00000000:0000 0A 00000000:00000000 00:00000000";
        let connection = "   1: 02004D0A:1C9D 01004D0A:C350 01 00000000:00000000 00:00000000";
        assert!(is_listener(listener, 7325));
        assert!(!is_listener(listener, 7326));
        assert!(!is_listener(connection, 7325));
        assert!(!is_listener(
            "  sl  local_address rem_address   st tx_queue",
            7325
        ));
    }
}
