//! The child that QEMU's `exec:` waits for.
//!
//! As it closes an `exec:` channel QEMU waits for the child's end, with its main loop blocked: it answers no QMP command
//! until then. But the hand-off goes on over QMP after the channel is closed. So the child is a shim, and the real process
//! its child:
//!
//! ```text
//!   QEMU ══ pipes ══▶ fd 0, fd 1 of the shim ── once, over the leash ──▶ the real process
//!     │                                                                        │
//!     └── waitpid ──▶ shim  ◀═══════════════ leash (a socket pair) ════════════┘  fd 0 of the real process
//!                      │ ends with 0 when QEMU has closed the channel, or the real process has;
//!                      └ else when the real process ends, and as that ended
//! ```
//!
//! The shim closes its own copies of the pipes: QEMU sees at once what the real process closes. It still watches them,
//! because Linux keeps a file in an epoll set for as long as any process has it open.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{Channel, ChannelError, descriptors};

/// What goes over the leash beside the descriptors: a socket carries those only with a byte. It tells a shim from an
/// stdin that is a socket for another reason.
const GREETING: &[u8] = b"sealift channel";

/// Starts the real process, hands it the channel on stdin and stdout, and stays for as long as QEMU has to wait for this
/// one. Returns what this process is to end with; the real one may go on.
///
/// `program` must take its channel by [`channel`]: the arguments tell it so. It gets a process group of its own, and its
/// stdout is this process's stderr.
pub fn run(program: &Path, arguments: &[OsString]) -> io::Result<ExitCode> {
    let (leash, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(theirs)
        .stdout(io::stderr().as_fd().try_clone_to_owned()?)
        .process_group(0)
        .spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    let child_end = pidfd_open(pid, PidfdFlags::empty())?;

    let watch = Watch::new()?;
    watch.other_end(io::stdin().as_fd(), What::Qemu)?;
    watch.other_end(io::stdout().as_fd(), What::Qemu)?;
    watch.readable(leash.as_fd(), What::Leash)?;
    watch.readable(child_end.as_fd(), What::Child)?;

    hand_over(&leash)?;
    match watch.wait()? {
        What::Qemu => Ok(ExitCode::SUCCESS),
        What::Leash if is_closed(&leash)? => Ok(ExitCode::SUCCESS),
        What::Leash | What::Child => child.wait().map(code),
    }
}

/// Takes the channel that a shim hands over; in the real process, once, before anything else reads stdin.
pub fn channel() -> Result<Channel, ChannelError> {
    let taking = "take the channel over from the shim";
    let fails = |source: io::Error| ChannelError::System {
        doing: taking,
        source,
    };
    let leash = io::stdin().as_fd().try_clone_to_owned().map_err(fails)?;
    let null = std::fs::File::open("/dev/null").map_err(fails)?;
    rustix::stdio::dup2_stdin(&null).map_err(ChannelError::system(taking))?;

    let mut greeting = [0; GREETING.len()];
    let received = loop {
        match descriptors::receive(&leash, &mut greeting) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    let (length, descriptors) = match received {
        Ok(received) => received,
        Err(error) if error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error()) => {
            return Err(ChannelError::NoShim);
        }
        Err(error) => return Err(fails(error)),
    };
    let pair: Result<[OwnedFd; 2], _> = descriptors.try_into();
    match pair {
        Ok([read, write]) if greeting.get(..length) == Some(GREETING) => {
            Channel::on_leash(read, write, Leash(leash))
        }
        _ => Err(ChannelError::NoShim),
    }
}

/// Gives fds 0 and 1 away: the real process gets copies, and the shim's own are replaced.
fn hand_over(leash: &OwnedFd) -> io::Result<()> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // So short a message goes whole into an empty socket.
    match descriptors::send(leash, GREETING, &[stdin.as_fd(), stdout.as_fd()]) {
        // The real process has ended already; the watch tells how.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => drop(other?),
    }
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(())
}

/// The real process's end of the leash. As the channel is closed it tells the shim so; a process that just ends does not.
#[derive(Debug)]
pub(crate) struct Leash(OwnedFd);

const CLOSED: &[u8] = b"c";

impl Drop for Leash {
    fn drop(&mut self) {
        // A shim that has ended already need not know.
        let _ = send(&self.0, CLOSED, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

/// Whether the real process has closed the channel, or has ended without a word.
fn is_closed(leash: &OwnedFd) -> io::Result<bool> {
    let mut word = [0];
    let (length, _) = rustix::net::recv(leash, &mut word, RecvFlags::empty())?;
    Ok(length != 0)
}

/// As shells do: a process that a signal ended counts as 128 and the signal.
fn code(status: ExitStatus) -> ExitCode {
    const SIGNALLED: i32 = 128;
    let code = status
        .code()
        .or_else(|| Some(SIGNALLED + status.signal()?))
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[derive(Clone, Copy)]
enum What {
    Qemu,
    Leash,
    Child,
}

impl What {
    /// Of several at once the process's end says the most.
    const BY_WEIGHT: [Self; 3] = [Self::Child, Self::Qemu, Self::Leash];

    fn number(self) -> u64 {
        match self {
            Self::Qemu => 0,
            Self::Leash => 1,
            Self::Child => 2,
        }
    }

    fn data(self) -> EventData {
        EventData::new_u64(self.number())
    }
}

struct Watch(OwnedFd);

impl Watch {
    fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// No flags: Linux reports hang-ups and errors always. At the reading end of a pipe the writer's close is a hang-up,
    /// at the writing end the reader's is an error.
    fn other_end(&self, fd: impl AsFd, what: What) -> io::Result<()> {
        match epoll::add(&self.0, fd, what.data(), EventFlags::empty()) {
            // A plain file or `/dev/null`: it has no other end that could close.
            Err(Errno::PERM) => Ok(()),
            other => Ok(other?),
        }
    }

    fn readable(&self, fd: impl AsFd, what: What) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, what.data(), EventFlags::IN)?)
    }

    fn wait(&self) -> io::Result<What> {
        loop {
            // stdin, stdout, the leash, the child.
            let mut events: Vec<epoll::Event> = Vec::with_capacity(4);
            match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let happened =
                |what: &What| events.iter().any(|event| event.data.u64() == what.number());
            if let Some(what) = What::BY_WEIGHT.into_iter().find(happened) {
                return Ok(what);
            }
        }
    }
}
