//! A middleman that changes nothing and keeps what passes.
//!
//! ```text
//!   source QEMU ──▶ listening socket │ connection 0: 0-forward ──▶ │ destination QEMU's socket
//!               ◀──                  │               0-return  ◀── │
//!                                    │ connection 1 …              │
//! ```
//!
//! Connections are made in the order in which they came, and at once: a channel may stay silent for long,
//! and QEMU tells channels apart by that order. Nothing is read before the bytes ahead of it are written,
//! so QEMU sees the back-pressure of a direct connection plus one buffer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Context, Error};

/// A running middleman; dropping it cuts all connections.
#[derive(Debug)]
pub struct Tap {
    listens_at: PathBuf,
    state: Arc<State>,
    acceptor: Option<JoinHandle<io::Result<()>>>,
}

/// What passed through one connection.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Source to destination.
    pub forward: PathBuf,
    /// Destination to source.
    pub back: PathBuf,
}

#[derive(Debug)]
struct State {
    destination: PathBuf,
    directory: PathBuf,
    stopping: AtomicBool,
    connections: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    source: UnixStream,
    destination: UnixStream,
    copiers: Vec<JoinHandle<io::Result<()>>>,
    recording: Recording,
}

impl Tap {
    /// Listens at one socket for connections to the other. Recordings go into `directory`.
    pub fn start(listen: &Path, destination: &Path, directory: &Path) -> Result<Self, Error> {
        let listener =
            UnixListener::bind(listen).context(format!("cannot listen at {}", listen.display()))?;
        let state = Arc::new(State {
            destination: destination.to_owned(),
            directory: directory.to_owned(),
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        let acceptor = thread::spawn(move || accepting.accept(&listener));
        Ok(Self {
            listens_at: listen.to_owned(),
            state,
            acceptor: Some(acceptor),
        })
    }

    /// Waits until both ends have closed all connections, and returns them in the order in which they came.
    pub fn finish(mut self, timeout: Duration) -> Result<Vec<Recording>, Error> {
        let deadline = Instant::now() + timeout;
        self.stop_accepting()?;
        let mut recordings = Vec::new();
        for connection in self.state.take_connections() {
            let number = recordings.len();
            while !connection.copiers.iter().all(JoinHandle::is_finished) {
                if Instant::now() >= deadline {
                    connection.cut();
                    return Err(Error::new(format!(
                        "connection {number} is still open after {timeout:?}"
                    )));
                }
                thread::sleep(Duration::from_millis(5));
            }
            for copier in connection.copiers {
                copier
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
                    .context(format!("connection {number}"))?;
            }
            recordings.push(connection.recording);
        }
        Ok(recordings)
    }

    fn stop_accepting(&mut self) -> Result<(), Error> {
        let Some(acceptor) = self.acceptor.take() else {
            return Ok(());
        };
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then looks at the flag.
        let _ = UnixStream::connect(&self.listens_at);
        acceptor
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
            .context("the tap's acceptor failed")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.stop_accepting();
        for connection in self.state.take_connections() {
            connection.cut();
        }
    }
}

impl State {
    fn accept(&self, listener: &UnixListener) -> io::Result<()> {
        loop {
            let (source, _) = listener.accept()?;
            if self.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            let mut connections = self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let number = connections.len();
            connections.push(self.forward(source, number)?);
        }
    }

    fn forward(&self, source: UnixStream, number: usize) -> io::Result<Connection> {
        let destination = UnixStream::connect(&self.destination)?;
        let recording = Recording {
            forward: self.directory.join(format!("{number}-forward")),
            back: self.directory.join(format!("{number}-return")),
        };
        let there = (
            source.try_clone()?,
            destination.try_clone()?,
            File::create(&recording.forward)?,
        );
        let back = (
            destination.try_clone()?,
            source.try_clone()?,
            File::create(&recording.back)?,
        );
        let copiers = [there, back]
            .map(|(from, to, file)| thread::spawn(move || copy(from, to, file)))
            .into();
        Ok(Connection {
            source,
            destination,
            copiers,
            recording,
        })
    }

    fn take_connections(&self) -> Vec<Connection> {
        std::mem::take(
            &mut self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Connection {
    fn cut(&self) {
        let _ = self.source.shutdown(Shutdown::Both);
        let _ = self.destination.shutdown(Shutdown::Both);
    }
}

/// Copies until the end, which is passed on; an end without one (a reset) cuts both directions.
fn copy(mut from: UnixStream, mut to: UnixStream, mut file: File) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            // QEMU closes a socket with unread bytes when it needs nothing more: also an end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        file.write_all(bytes)?;
        if let Err(error) = to.write_all(bytes) {
            let _ = from.shutdown(Shutdown::Both);
            return Err(error);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_are_forwarded_in_order_and_both_directions_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (outer, inner) = (
            directory.path().join("outer"),
            directory.path().join("inner"),
        );
        let destination = UnixListener::bind(&inner).unwrap();
        let tap = Tap::start(&outer, &inner, directory.path()).unwrap();

        let mut ends = Vec::new();
        for _ in 0..2 {
            let source = UnixStream::connect(&outer).unwrap();
            // Nothing was written, and yet the connection arrives.
            ends.push((source, destination.accept().unwrap().0));
        }
        let mut received = [0; 7];
        for (number, (source, destination)) in ends.iter_mut().enumerate() {
            write!(source, "there {number}").unwrap();
            destination.read_exact(&mut received).unwrap();
            write!(destination, "back {number}").unwrap();
            source.read_exact(&mut received[..6]).unwrap();
        }
        drop(ends);

        let recordings = tap.finish(Duration::from_secs(60)).unwrap();
        assert_eq!(recordings.len(), 2);
        for (number, recording) in recordings.iter().enumerate() {
            assert_eq!(
                std::fs::read_to_string(&recording.forward).unwrap(),
                format!("there {number}")
            );
            assert_eq!(
                std::fs::read_to_string(&recording.back).unwrap(),
                format!("back {number}")
            );
        }
    }
}
