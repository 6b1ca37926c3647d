//! One of QEMU's migration channels as a blocking stream of bytes.
//!
//! ```text
//!   unix:PATH, tcp:HOST:PORT ── connect / accept ──┐
//!   fd:NAME  (a socket pair; QMP passes one end) ──┼──▶ Channel ── split ──▶ ReadHalf    from QEMU
//!   exec:    (stdin and stdout) ───────────────────┘       │                 WriteHalf   to QEMU
//!                                                          └── closer ─────▶ Closer      ends both, from any thread
//! ```
//!
//! Each half belongs to one thread and blocks it. Underneath, the descriptors do not block: a half that has to wait
//! polls its descriptor together with the closer's event, so that [`Closer::close`] ends a wait at once, on a pipe as well.

mod connect;
mod error;
mod listen;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, shutdown, socketpair,
};

use crate::shim::Leash;

pub use error::ChannelError;
pub use listen::Listener;

/// A channel that nobody reads or writes yet.
#[derive(Debug)]
pub struct Channel {
    read: Arc<OwnedFd>,
    write: Arc<OwnedFd>,
    closing: Arc<Closing>,
    leash: Option<Arc<Leash>>,
}

impl Channel {
    /// A socket pair: one end for QEMU, to be passed by [`Qmp::pass_fd`](crate::Qmp::pass_fd), and the channel.
    pub fn pair() -> Result<(OwnedFd, Self), ChannelError> {
        let (theirs, ours) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(ChannelError::system("make a socket pair"))?;
        Ok((theirs, Self::over_socket(ours)?))
    }

    /// Takes this process's stdin and stdout over, as `exec:` gives them. `/dev/null` and stderr take their places, so
    /// that nothing else can read from the channel or print into it.
    ///
    /// Under [`shim::run`](crate::shim::run) the channel comes from [`shim::channel`](crate::shim::channel) instead.
    pub fn stdio() -> Result<Self, ChannelError> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        if stdin.is_terminal() || stdout.is_terminal() {
            return Err(ChannelError::Terminal);
        }
        let taking = "take stdin and stdout over";
        let duplicate = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned()
                .map_err(|source| ChannelError::System {
                    doing: taking,
                    source,
                })
        };
        let (read, write) = (duplicate(stdin.as_fd())?, duplicate(stdout.as_fd())?);
        let null = std::fs::File::open("/dev/null").map_err(|source| ChannelError::System {
            doing: "open /dev/null",
            source,
        })?;
        rustix::stdio::dup2_stdin(&null).map_err(ChannelError::system(taking))?;
        rustix::stdio::dup2_stdout(io::stderr()).map_err(ChannelError::system(taking))?;
        Self::new(Arc::new(read), Arc::new(write))
    }

    /// Limits what the system keeps of what was written and QEMU has not read: bytes that wait there look delivered.
    /// The system rounds, and doubles for its own needs. A pipe keeps its 64 KiB.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        match rustix::net::sockopt::set_socket_send_buffer_size(&*self.write, bytes) {
            Err(Errno::NOTSOCK) => Ok(()),
            other => other.map_err(Into::into),
        }
    }

    /// What QEMU says first, without taking it: waits until that fills the buffer, or QEMU has closed its end, or for so long. Returns how many
    /// bytes there are. Only a socket can be looked into.
    pub fn peek(&self, buffer: &mut [u8], within: Duration) -> io::Result<usize> {
        /// Between two looks at bytes that are too few: the poll does not wait while there are any.
        const PAUSE: Duration = Duration::from_millis(10);
        let deadline = Instant::now().checked_add(within);
        loop {
            self.closing.check()?;
            let seen = match rustix::net::recv(&*self.read, &mut *buffer, RecvFlags::PEEK) {
                Ok((_, seen)) => Some(seen),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => None,
                Err(error) => return Err(self.closing.explain(error)),
            };
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match seen {
                Some(seen) if seen == buffer.len() || over || self.ended()? => return Ok(seen),
                None if over => return Ok(0),
                Some(_) => thread::sleep(PAUSE),
                None => {
                    let wait = self
                        .closing
                        .wait(self.read.as_fd(), PollFlags::IN, deadline);
                    wait?;
                }
            }
        }
    }

    /// Whether QEMU has closed its end.
    fn ended(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&*self.read, PollFlags::RDHUP)];
        loop {
            match poll(&mut polled, Some(&Timespec::default())) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
                    return Ok(polled
                        .iter()
                        .any(|polled| polled.revents().intersects(gone)));
                }
            }
        }
    }

    /// Something that ends this channel, from any thread and at any time.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer(self.closing.clone())
    }

    /// The two directions, each for a thread of its own.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let read = ReadHalf {
            fd: self.read,
            closing: self.closing.clone(),
            _leash: self.leash.clone(),
        };
        let write = WriteHalf {
            fd: self.write,
            closing: self.closing,
            _leash: self.leash,
        };
        (read, write)
    }

    pub(crate) fn over_socket(socket: impl Into<OwnedFd>) -> Result<Self, ChannelError> {
        let socket = Arc::new(socket.into());
        Self::new(socket.clone(), socket)
    }

    /// The channel that a shim handed over; the leash tells it that both halves are closed.
    pub(crate) fn on_leash(
        read: OwnedFd,
        write: OwnedFd,
        leash: Leash,
    ) -> Result<Self, ChannelError> {
        let mut channel = Self::new(Arc::new(read), Arc::new(write))?;
        channel.leash = Some(Arc::new(leash));
        Ok(channel)
    }

    fn new(read: Arc<OwnedFd>, write: Arc<OwnedFd>) -> Result<Self, ChannelError> {
        for fd in [&read, &write] {
            rustix::fs::fcntl_getfl(fd)
                .and_then(|flags| rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK))
                .map_err(ChannelError::system(
                    "make a channel's descriptor non-blocking",
                ))?;
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(ChannelError::system("make an event descriptor"))?;
        let closing = Arc::new(Closing {
            closed: AtomicBool::new(false),
            event,
            ends: [Arc::downgrade(&read), Arc::downgrade(&write)],
        });
        Ok(Self {
            read,
            write,
            closing,
            leash: None,
        })
    }
}

/// What a read with a time limit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// So many bytes; never 0, unless the buffer is empty.
    Bytes(usize),
    /// Nothing came in time. The channel is as it was.
    Quiet,
    /// QEMU has closed its end.
    End,
}

/// What QEMU says. Dropping both halves closes the channel.
#[derive(Debug)]
pub struct ReadHalf {
    fd: Arc<OwnedFd>,
    closing: Arc<Closing>,
    _leash: Option<Arc<Leash>>,
}

impl ReadHalf {
    /// Reads what is there, waiting for it for at most `timeout`, or without limit.
    ///
    /// After [`Closer::close`] the error is [`io::ErrorKind::ConnectionAborted`], and what QEMU had still said is lost.
    pub fn read_within(
        &mut self,
        buffer: &mut [u8],
        timeout: Option<Duration>,
    ) -> io::Result<ReadOutcome> {
        // 0 bytes would mean the end.
        if buffer.is_empty() {
            return Ok(ReadOutcome::Bytes(0));
        }
        // Longer than the clock can count is without limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.closing.check()?;
            match rustix::io::read(&*self.fd, &mut *buffer) {
                Ok(0) => {
                    // Our own shutdown looks like QEMU's.
                    self.closing.check()?;
                    return Ok(ReadOutcome::End);
                }
                Ok(length) => return Ok(ReadOutcome::Bytes(length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self
                        .closing
                        .wait(self.fd.as_fd(), PollFlags::IN, deadline)?
                    {
                        return Ok(ReadOutcome::Quiet);
                    }
                }
                Err(error) => return Err(self.closing.explain(error)),
            }
        }
    }
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_within(buffer, None)? {
            ReadOutcome::Bytes(length) => Ok(length),
            ReadOutcome::Quiet | ReadOutcome::End => Ok(0),
        }
    }
}

/// What QEMU is told. Dropping it ends this direction: QEMU reads to the last byte and then finds the end. For a source that
/// waits for its return path that is a failure: the migration fails and the guest runs on.
#[derive(Debug)]
pub struct WriteHalf {
    fd: Arc<OwnedFd>,
    closing: Arc<Closing>,
    _leash: Option<Arc<Leash>>,
}

impl WriteHalf {
    fn write_with(
        &mut self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        loop {
            self.closing.check()?;
            match attempt(self.fd.as_fd()) {
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.closing.wait(self.fd.as_fd(), PollFlags::OUT, None)?;
                }
                Err(error) => return Err(self.closing.explain(error)),
            }
        }
    }
}

impl Write for WriteHalf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_with(|fd| rustix::io::write(fd, bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // More than this at once is an error (Linux, `UIO_MAXIOV`); the caller writes the rest next time.
        const MOST_PIECES: usize = 1024;
        let pieces = pieces.get(..MOST_PIECES).unwrap_or(pieces);
        self.write_with(|fd| rustix::io::writev(fd, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // A pipe's end closes by itself; a socket's lives on with the other half.
        let _ = shutdown(&*self.fd, Shutdown::Write);
    }
}

/// Ends a channel: reads and writes that wait for QEMU fail at once, and so do all later ones.
///
/// On a socket QEMU sees the end at once; on pipes when both halves have been dropped.
#[derive(Clone, Debug)]
pub struct Closer(Arc<Closing>);

impl Closer {
    /// Ends the channel. More than once does no harm.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        for end in self.0.ends.iter().filter_map(Weak::upgrade) {
            // A pipe cannot be shut down, and what is closed already need not be.
            let _ = shutdown(&*end, Shutdown::Both);
        }
        // Nobody ever takes the event back, so that it wakes both halves. It cannot overflow but by 2^64 calls.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
    }
}

#[derive(Debug)]
struct Closing {
    closed: AtomicBool,
    event: OwnedFd,
    /// Weak: a closer that somebody keeps must not keep the channel open.
    ends: [Weak<OwnedFd>; 2],
}

impl Closing {
    fn check(&self) -> io::Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "this process closed the channel to QEMU",
            ));
        }
        Ok(())
    }

    /// An error after our own shutdown is the shutdown's.
    fn explain(&self, error: Errno) -> io::Error {
        self.check().err().unwrap_or_else(|| error.into())
    }

    /// Waits until something can be done with the descriptor; `false` at the deadline.
    fn wait(
        &self,
        fd: BorrowedFd<'_>,
        flags: PollFlags,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut polled = [
                PollFd::from_borrowed_fd(fd, flags),
                PollFd::new(&self.event, PollFlags::IN),
            ];
            match poll(&mut polled, left.and_then(timespec).as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => {
                    self.check()?;
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// `None`, without limit, for more than the system can count.
fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}
