//! A host with certificates, and sealift on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, PATIENCE};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Host {
    directory: TempDir,
}

/// A command that has not ended.
pub(crate) struct Running(Child);

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) said: String,
}

impl Host {
    /// With a CA, and certificates of two hosts.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = Self { directory };
        for arguments in [
            ["pki", "init", "ca"].as_slice(),
            &["pki", "issue", "ca", "host-a", "--out", "a"],
            &["pki", "issue", "ca", "host-b", "--out", "b"],
        ] {
            let ended = host.run(arguments);
            assert_eq!(ended.code, 0, "{}", ended.said);
        }
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running(self.command(arguments).spawn().unwrap())
    }

    /// Waits with `sealift send --file` for QEMU's `migrate`, for host-a to open.
    pub(crate) fn saving(&self, file: &str, more: &[&str]) -> Running {
        let listen = format!("unix:{}", self.path(OUT).display());
        let mut arguments = vec!["send", "--file", file, "--listen", &listen];
        arguments.extend(["--recipient", "a/server-cert.pem"]);
        arguments.extend(more);
        let running = self.start(&arguments);
        let out = self.path(OUT);
        wait_until(|| listens(&out));
        running
    }

    /// Tells QEMU to migrate to what waits.
    pub(crate) fn migrate(&self, guest: &mut Guest, capabilities: &[&str]) {
        let capabilities: Vec<_> = capabilities
            .iter()
            .map(|name| json!({ "capability": name, "state": true }))
            .collect();
        ask(
            guest,
            "migrate-set-capabilities",
            json!({ "capabilities": capabilities }),
        );
        let uri = format!("unix:{}", self.path(OUT).display());
        ask(guest, "migrate", json!({ "uri": uri }));
    }

    pub(crate) fn export(&self, file: &Path, identity: &str, output: &str) -> Ended {
        let file = file.to_str().unwrap();
        self.run(&["export", "--raw", file, "-o", output, "--pki", identity])
    }

    /// What is in the directory, without the sockets.
    pub(crate) fn files(&self) -> Vec<String> {
        files_in(self.directory.path())
    }
}

/// Whether somebody listens at this socket. Its file is there a moment before, when QEMU would be refused; and to connect would be to be taken
/// for QEMU.
fn listens(path: &Path) -> bool {
    /// What the kernel's table says of a socket that listens.
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let path = path.to_str().unwrap();
    table
        .lines()
        .any(|line| line.ends_with(path) && line.split_whitespace().nth(3) == Some(LISTENS))
}

/// Where QEMU is told to migrate to.
const OUT: &str = "out";

impl Running {
    pub(crate) fn interrupt(&self) {
        let pid = self.0.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(killed.success());
    }

    pub(crate) fn wait(self) -> Ended {
        Ended::of(self.0.wait_with_output().unwrap())
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let mut said = String::from_utf8(output.stdout).unwrap();
        said.push_str(&String::from_utf8(output.stderr).unwrap());
        Self {
            code: output.status.code().unwrap(),
            said,
        }
    }

    /// It ended with this code, and said all of that.
    #[track_caller]
    pub(crate) fn with(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{}", self.said);
        for said in said {
            assert!(self.said.contains(said), "no {said:?} in:\n{}", self.said);
        }
    }
}

pub(crate) fn files_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn ask(guest: &mut Guest, command: &str, arguments: Value) -> Value {
    guest.qmp().execute(command, arguments).unwrap()
}

/// QEMU's word for what the guest does.
pub(crate) fn state(guest: &mut Guest) -> String {
    let status = ask(guest, "query-status", Value::Null);
    status["status"].as_str().unwrap().to_owned()
}

pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "no end after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What the guest wrote before it was saved, it goes on from, and looks at all of its memory.
pub(crate) fn goes_on(before: &Guest, after: &mut Guest) {
    let left_at = before.serial().progress().unwrap();
    let wanted = left_at.tick + 2 * after.ticks_per_pass() + 1;
    after.wait_tick(wanted).unwrap();
}
