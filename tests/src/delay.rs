//! A long line between two hosts: each packet waits a while before it goes on, in either direction.
//!
//! ```text
//!       host a                   namespace of the line                   host b
//!  ┌──────────────┐  ┌──────────────────────────────────────────┐  ┌──────────────┐
//!  │ eth0 ── tbf ─┼──┼─ a ── macvtap ─▶ read, wait, write ─▶ … ─┼──┼─ eth0        │
//!  │              │  │                                          │  │              │
//!  │        eth0 ─┼──┼─ … ◀─ write, wait, read ◀─ macvtap ── b ─┼──┼─ tbf ── eth0 │
//!  └──────────────┘  └──────────────────────────────────────────┘  └──────────────┘
//! ```
//!
//! What the kernel's netem does, for kernels without it. Whole packets wait, so that a connection has one round trip and one congestion
//! control from end to end, as on a long line. They pass as the sender's kernel made them, up to 64 KiB each with what its network card would
//! have to know of them before them, so that even a fast line costs little. What is sent faster than a line of that length holds is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

use crate::{Context, Error};

/// The greatest packet that a kernel makes, its Ethernet header, and the twelve bytes at most that say what is left to do with it.
const LARGEST: usize = (64 << 10) + 14 + 12;

/// Packets that may be on the line in one direction: 10 Gbit/s for 80 ms in packets of 24 KiB, which is what TCP makes at that rate; at
/// the most 256 MiB.
const HELD: usize = 4096;

/// The line. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Line {
    threads: Vec<JoinHandle<()>>,
    /// Closed, it wakes the readers for the last time.
    stop: Option<OwnedFd>,
}

/// A packet, and when it has come.
type Held = (Instant, Vec<u8>);

impl Line {
    /// Between the devices of two ends.
    pub(crate) fn new([a, b]: [File; 2], delay: Duration) -> Result<Self, Error> {
        let (stopped, stop) = rustix::pipe::pipe().context("a pipe")?;
        let (a, b, stopped) = (Arc::new(a), Arc::new(b), Arc::new(stopped));
        let mut threads = Vec::new();
        for (from, to) in [(&a, &b), (&b, &a)] {
            let (hold, held) = sync_channel(HELD);
            let (from, to, stopped) = (Arc::clone(from), Arc::clone(to), Arc::clone(&stopped));
            threads.push(thread::spawn(move || take(&from, &hold, &stopped)));
            threads.push(thread::spawn(move || give(&held, &to, delay)));
        }
        Ok(Self {
            threads,
            stop: Some(stop),
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // What went wrong in it was a broken link to whoever used it.
            let _ = thread.join();
        }
    }
}

/// Reads packets until it is told to stop. A full line loses them.
fn take(mut from: &File, hold: &SyncSender<Held>, stopped: &OwnedFd) {
    let mut buffer = vec![0; LARGEST];
    loop {
        match from.read(&mut buffer) {
            Ok(length) => {
                let packet = buffer.get(..length).unwrap_or_default().to_vec();
                let _ = hold.try_send((Instant::now(), packet));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [
                    PollFd::new(from, PollFlags::IN),
                    PollFd::new(stopped, PollFlags::IN),
                ];
                let waited = poll(&mut ready, None);
                if waited.is_err() || !ready[1].revents().is_empty() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The device is gone.
            Err(_) => return,
        }
    }
}

/// Writes each packet when its time has come: in the order in which they came, as all wait equally long.
fn give(held: &Receiver<Held>, mut to: &File, delay: Duration) {
    while let Ok((came, packet)) = held.recv() {
        thread::sleep((came + delay).saturating_duration_since(Instant::now()));
        // A packet that cannot be sent is lost, as on any line.
        let _ = to.write_all(&packet);
    }
}

/// Opens the character device behind a macvtap, by its number as the kernel writes it: `246:1`.
///
/// The kernel's own name for it in /dev is the interface's number, which two namespaces may both have. So it gets a name of its own, for as
/// long as opening takes; in /dev, as elsewhere devices may be forbidden.
pub(crate) fn open(number: &str, unique: &str) -> Result<File, Error> {
    let parts = number.trim().split_once(':');
    let parsed = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) =
        parsed.ok_or_else(|| Error::new(format!("`{number}` is not the number of a device")))?;
    let path = PathBuf::from(format!("/dev/{unique}"));
    let _ = fs::remove_file(&path);
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    )
    .context(format!("cannot make {}", path.display()))?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).context("a flag")?;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(&path)
        .context(format!("cannot open {}", path.display()));
    let _ = fs::remove_file(&path);
    opened
}
