//! Process access: the memory of QEMU's process, at its addresses.
//!
//! ```text
//!   read    process_vm_readv     many runs in a call, one copy; where it is refused: pread, /proc/PID/mem
//!   write   pwrite, /proc/PID/mem
//! ```
//!
//! `process_vm_readv` reads 1.3 to 1.5 times as fast (docs/QEMU.md), but names the process by its number. What was read is
//! believed only if QEMU is found alive afterwards, so a number that is another's by now does no harm. A write could do
//! some, and takes the descriptor, which is of this one process for ever; most of a destination's writes are a page's first, and
//! for these the two are equally fast.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::{Purpose, runs};

/// `UIO_MAXIOV`: the kernel takes no more runs in one call.
const RUNS_MAX: usize = 1024;

/// Bytes of a page's entry in /proc/PID/pagemap, and its bits for a page that is in memory, or swapped out.
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Entries that are read at once: those of 32 MiB of memory.
const ENTRIES: usize = 8192;

/// The memory of one process.
#[derive(Debug)]
pub(super) struct Memory {
    pid: Pid,
    memory: File,
    pagemap: Option<File>,
    /// Whether `process_vm_readv` is allowed, as far as is known. A descriptor stays when a privilege is given up.
    calls: AtomicBool,
}

impl Memory {
    /// Opens what is needed; that it is still the process which was meant is for the caller to check afterwards.
    pub(super) fn open(pid: u32, purpose: Purpose) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(|_| ErrorKind::InvalidInput)?;
        let memory = OpenOptions::new()
            .read(true)
            .write(purpose == Purpose::Write)
            .open(format!("/proc/{pid}/mem"))?;
        Ok(Self {
            pid: Pid::from_raw(number),
            memory,
            // Without it nothing is known to be untouched.
            pagemap: File::open(format!("/proc/{pid}/pagemap")).ok(),
            calls: AtomicBool::new(true),
        })
    }
}

/// A block in it.
#[derive(Debug)]
pub(super) struct Remote {
    process: Arc<Memory>,
    address: u64,
    /// Whether a page that the process has not touched holds zeros.
    anonymous: bool,
}

impl Remote {
    pub(super) fn new(process: Arc<Memory>, address: u64, anonymous: bool) -> Self {
        Self {
            process,
            address,
            anonymous,
        }
    }

    pub(super) fn read(&self, offsets: &[u64], page: usize, into: &mut [u8]) -> io::Result<()> {
        // No order with anything else is needed: at worst a refused call is tried once more.
        if self.process.calls.load(Ordering::Relaxed) {
            match self.call(offsets, page, into) {
                Ok(()) => return Ok(()),
                Err(error) if is_refusal(&error) => {
                    self.process.calls.store(false, Ordering::Relaxed);
                }
                // The descriptor says more exactly what is the matter.
                Err(_) => {}
            }
        }
        let memory = &self.process.memory;
        runs::each(offsets, page, into, |offset, part| {
            memory.read_exact_at(part, self.address + offset)
        })
    }

    fn call(&self, offsets: &[u64], page: usize, into: &mut [u8]) -> io::Result<()> {
        let mut remote = Vec::with_capacity(offsets.len().min(RUNS_MAX));
        let mut runs = runs::of(offsets, page).peekable();
        let mut rest = into;
        while runs.peek().is_some() {
            remote.clear();
            let mut length: usize = 0;
            for (offset, run) in runs.by_ref().take(RUNS_MAX) {
                let base =
                    usize::try_from(self.address + offset).map_err(|_| ErrorKind::InvalidInput)?;
                remote.push(RemoteIoVec { base, len: run });
                length = length.saturating_add(run);
            }
            let (part, after) = std::mem::take(&mut rest)
                .split_at_mut_checked(length)
                .ok_or(ErrorKind::InvalidInput)?;
            let read = process_vm_readv(self.process.pid, &mut [IoSliceMut::new(part)], &remote)?;
            if read != length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            rest = after;
        }
        Ok(())
    }

    pub(super) fn write(&self, offsets: &[u64], page: usize, from: &[u8]) -> io::Result<()> {
        let memory = &self.process.memory;
        runs::each_from(offsets, page, from, |offset, part| {
            memory.write_all_at(part, self.address + offset)
        })
    }

    /// Pages that the process has, in memory or swapped out; none where that says nothing of the others.
    pub(super) fn populated(&self, length: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        let page = rustix::param::page_size() as u64;
        let pagemap = match &self.process.pagemap {
            Some(pagemap) if self.anonymous && self.address.is_multiple_of(page) => pagemap,
            _ => return Ok(None),
        };
        let pages = length.div_ceil(page);
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut buffer = vec![0; ENTRIES * ENTRY];
        let mut at = 0;
        while at < pages {
            let entries = usize::try_from(pages - at).map_or(ENTRIES, |left| left.min(ENTRIES));
            let space = buffer.get_mut(..entries * ENTRY).unwrap_or_default();
            pagemap.read_exact_at(space, (self.address / page + at) * ENTRY as u64)?;
            for (index, entry) in (at..).zip(space.as_chunks::<ENTRY>().0) {
                if u64::from_ne_bytes(*entry) & (PRESENT | SWAPPED) == 0 {
                    continue;
                }
                let this = index * page..((index + 1) * page).min(length);
                match found.last_mut() {
                    Some(last) if last.end == this.start => last.end = this.end,
                    _ => found.push(this),
                }
            }
            at += entries as u64;
        }
        Ok(Some(found))
    }
}

/// Whether the call itself is not allowed, by privilege or by a filter of system calls.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::super::mapped::is_short;
    use super::*;

    /// What a process that dies looks like before it is dead; a descriptor of the memory it had before `exec` is in the same state, and for longer.
    #[test]
    fn memory_that_its_process_has_given_up_is_short() {
        let mut shell = Command::new("sh")
            .args(["-c", "read line; exec sh -c 'echo again; read line'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let memory = Arc::new(Memory::open(shell.id(), Purpose::Read).unwrap());
        // The call goes by the number, whose memory is another one now.
        memory.calls.store(false, Ordering::Relaxed);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", shell.id())).unwrap();
        let address = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let remote = Remote::new(memory, address, false);
        let mut page = [0; 4096];
        remote.read(&[0], page.len(), &mut page).unwrap();

        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        input.write_all(b"on\n").unwrap();
        output.read_line(&mut String::new()).unwrap();
        let lost = remote.read(&[0], page.len(), &mut page).unwrap_err();
        assert!(is_short(&lost), "{lost:?}");
        drop(input);
        shell.wait().unwrap();
    }
}
