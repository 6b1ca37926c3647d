//! `sealift receive`, which goes on waiting after each guest; its QEMU is a socket that takes what it gets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sealift_identity::authority::{self, Request};
use sealift_identity::{Moment, Pki};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
/// The receiver's name, and the source's.
pub(crate) const RECEIVER: &str = "host-b";
const SOURCE: &str = "host-a";
/// For what a healthy program does at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came on each of QEMU's channels, once it was closed.
type Channels = Arc<Mutex<Vec<JoinHandle<Vec<u8>>>>>;

pub(crate) struct Victim {
    process: Child,
    address: SocketAddr,
    channels: Channels,
    directory: TempDir,
}

impl Victim {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca");
        let now = Moment::now();
        authority::init(&ca, "the lab", 2, now).unwrap();
        for name in [SOURCE, RECEIVER] {
            let out = directory.path().join(name);
            let request = Request {
                name,
                alternatives: &[],
                days: 1,
                out: Some(&out),
                replace: false,
            };
            authority::issue(&ca, &request, now).unwrap();
        }
        let path = directory.path().join("qemu");
        let channels = Arc::default();
        accept(&path, Arc::clone(&channels));
        let mut process = Command::new(env!("CARGO_BIN_EXE_sealift"))
            .args(["receive", "--json", "--listen", "127.0.0.1:0"])
            .args(["--allow", SOURCE])
            .args([Path::new("--pki"), &directory.path().join(RECEIVER)])
            .args([Path::new("--journal"), &directory.path().join("journal")])
            .args(["--qemu", &format!("unix:{}", path.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        let address = listening["address"].as_str().unwrap().parse().unwrap();
        // A pipe that nobody reads is no part of any test here.
        thread::spawn(move || told.lines().map_while(Result::ok).for_each(drop));
        Self {
            process,
            address,
            channels,
            directory,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn source(&self) -> Pki {
        Pki::for_source(&self.path(SOURCE)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The most memory that it has had.
    pub(crate) fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() << 10
    }

    /// Waits until it has connected to its QEMU.
    pub(crate) fn qemu_is_connected(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.channels.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "QEMU is not connected to");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What QEMU got on all its channels until they were closed.
    pub(crate) fn qemu_got(&self) -> Vec<u8> {
        let mut got = Vec::new();
        for channel in self.channels.lock().unwrap().drain(..) {
            got.extend(channel.join().unwrap());
        }
        got
    }

    /// It still runs, and ends in good order when it is told to.
    pub(crate) fn ends(mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "it has ended");
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        // Cancelled; or what a session came to that was about to end.
        let code = self.process.wait().unwrap().code();
        assert!(matches!(code, Some(5 | 7)), "{code:?}");
    }
}

/// Takes what comes, and ends when it does, as QEMU would.
fn accept(path: &Path, channels: Channels) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for channel in listener.incoming() {
            let mut channel: UnixStream = channel.unwrap();
            let taken = thread::spawn(move || {
                let mut got = Vec::new();
                let _ = channel.read_to_end(&mut got);
                got
            });
            channels.lock().unwrap().push(taken);
        }
    });
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
