//! What QEMU sees of the process behind `exec:`, with a shim and without, with a pair of pipes in QEMU's place.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::PATIENCE;

/// The shim, and QEMU's ends of the pipes apart from it: to wait for a child closes its stdin.
fn start(word: &str, what: &str) -> (Exec, ChildStdin, ChildStdout) {
    let directory = tempfile::tempdir().unwrap();
    let what = what.replace("FILE", directory.path().join("file").to_str().unwrap());
    let mut shim = Command::new(env!("CARGO_BIN_EXE_carrier"))
        .args(["shim", word, &what])
        .arg(directory.path().join("mark"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (to, from) = (shim.stdin.take().unwrap(), shim.stdout.take().unwrap());
    (Exec { shim, directory }, to, from)
}

struct Exec {
    shim: Child,
    directory: tempfile::TempDir,
}

impl Exec {
    fn mark(&self, what: &str) -> PathBuf {
        self.directory.path().join("mark").with_extension(what)
    }

    fn wait_mark(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.mark(what).exists() {
            assert!(Instant::now() < deadline, "the carrier is not {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The real process has lived until it is told to end.
    fn end_real(&self) {
        self.wait_mark("closed");
        assert!(!self.mark("ended").exists());
        std::fs::write(self.mark("go"), "").unwrap();
        self.wait_mark("ended");
    }
}

fn is_at_its_end(mut from: ChildStdout) -> bool {
    from.read(&mut [0]).unwrap() == 0
}

#[test]
fn the_shim_ends_well_when_qemu_closes_and_the_real_process_goes_on() {
    let (mut exec, mut to, from) = start("save", "FILE");
    to.write_all(b"a stream").unwrap();
    drop((to, from));
    assert!(exec.shim.wait().unwrap().success());
    exec.end_real();
    let file = exec.directory.path().join("file");
    assert_eq!(std::fs::read(file).unwrap(), b"a stream");
}

#[test]
fn the_shim_ends_as_a_real_process_that_never_took_the_channel() {
    let (mut exec, _to, from) = start("fail", "3");
    assert_eq!(exec.shim.wait().unwrap().code(), Some(3));
    assert!(is_at_its_end(from));
}

#[test]
fn the_shim_ends_as_a_real_process_that_was_killed() {
    const ABORTED: i32 = 128 + 6;
    let (mut exec, _to, from) = start("die", "-");
    assert_eq!(exec.shim.wait().unwrap().code(), Some(ABORTED));
    assert!(is_at_its_end(from));
}

#[test]
fn qemu_sees_that_the_real_process_closed_the_channel_and_need_not_wait_for_it() {
    let (mut exec, _to, from) = start("close", "-");
    assert!(is_at_its_end(from));
    assert!(exec.shim.wait().unwrap().success());
    exec.end_real();
}

#[test]
fn qemu_sees_that_one_half_was_closed_while_the_shim_stays() {
    let (mut exec, _to, from) = start("half", "-");
    assert!(is_at_its_end(from));
    assert!(exec.shim.try_wait().unwrap().is_none());
    exec.end_real();
    assert!(exec.shim.wait().unwrap().success());
}

#[test]
fn what_a_process_prints_does_not_get_into_a_channel_on_its_stdout() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut bare = Command::new(env!("CARGO_BIN_EXE_carrier"))
        .arg("bare")
        .args([&file, &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    bare.stdin.take().unwrap().write_all(b"a stream").unwrap();
    let output = bare.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(std::fs::read(file).unwrap(), b"a stream");
    assert_eq!(output.stdout, b"");
    assert_eq!(output.stderr, b"not for QEMU\n");
}
