//! The QEMU process itself, for what its sockets cannot say: that it has ended, for certain.
//!
//! A descriptor of the process, not its number: a number may be another process's by the time it is used.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A QEMU process on this host.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
}

impl Process {
    /// The process with this number, which must be known to be QEMU's at this moment.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { fd })
    }

    /// Waits until it has ended, for at most so long. Returns whether it has.
    pub fn wait_end(&self, timeout: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut ends = [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)];
            match poll(&mut ends, Some(&left)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends it by force. The guest in it is lost, so it must be one that runs elsewhere.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, Signal::KILL) {
            // It has ended already.
            Err(Errno::SRCH) => Ok(()),
            other => other.map_err(Into::into),
        }
    }
}

/// The QEMU at the other end of a unix socket; none where that is somebody else, who passes on what is said, or cannot be known.
pub(crate) fn qemu(socket: impl AsFd) -> Option<u32> {
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).ok()?;
    let program = match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(program) => program,
        // The program of another user's process is not shown, and its name is: the first 15 bytes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.into()
        }
        Err(_) => return None,
    };
    is_qemu(&program).then_some(pid)
}

/// By the names that QEMU's programs have in distributions: `qemu-system-x86_64`, `qemu-kvm`, `kvm`. libvirt's daemon, which
/// makes the control sockets of its guests, has one of the kind.
fn is_qemu(program: &Path) -> bool {
    let name = program.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| {
        !name.starts_with("virtqemud") && (name.contains("qemu") || name.starts_with("kvm"))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_forwarder_is_not_taken_for_qemu() {
        for program in [
            "/usr/bin/qemu-system-x86_64",
            "/usr/libexec/qemu-kvm (deleted)",
            "/usr/bin/kvm",
            "qemu-system-x86\n",
        ] {
            assert!(is_qemu(Path::new(program)), "{program}");
        }
        for program in [
            "/usr/bin/socat1",
            "/usr/sbin/libvirtd",
            "/usr/sbin/virtqemud",
            "/usr/bin/ssh",
        ] {
            assert!(!is_qemu(Path::new(program)), "{program}");
        }
    }

    #[test]
    fn its_end_is_seen_and_can_be_brought_about() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!process.wait_end(Duration::ZERO).unwrap());
        process.kill().unwrap();
        assert!(process.wait_end(Duration::from_secs(60)).unwrap());
        child.wait().unwrap();
        process.kill().unwrap();
    }
}
