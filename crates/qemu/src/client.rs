//! The QMP client: commands one at a time, events kept until somebody asks for them.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use std::{fmt, io};

use serde_json::{Value, json};

use crate::transport::Transport;
use crate::wire::{self, Lines, Message, Outcome};
use crate::{Address, Error};

/// Events that nobody asks for are kept up to this many; then the oldest go. A migration makes some
/// twenty, and QEMU limits the rate of those that a guest can provoke.
const MAX_QUEUED_EVENTS: usize = 1024;

/// A QEMU version as the greeting gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 10 in 10.0.2.
    pub major: u32,
    /// 0 in 10.0.2.
    pub minor: u32,
    /// 2 in 10.0.2.
    pub micro: u32,
    /// The distribution's own version; may be empty.
    pub package: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        if self.package.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.package)
        }
    }
}

/// Something that QEMU reports without being asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Such as `STOP`, `RESUME`, `MIGRATION`.
    pub name: String,
    /// Null when the event carries nothing.
    pub data: Value,
    /// When it happened, on the clock of QEMU's host: nanoseconds since 1970, to the microsecond. 0 when QEMU could not
    /// tell.
    pub at_ns: u64,
}

/// A connection to one QEMU's control socket.
#[derive(Debug)]
pub struct Qmp {
    transport: Transport,
    lines: Lines,
    events: VecDeque<Event>,
    version: Version,
    timeout: Duration,
    last_id: u64,
}

impl Qmp {
    /// Connects, reads the greeting and leaves the negotiation mode. Each later command gets the same
    /// `timeout` unless [`Qmp::set_timeout`] changes it.
    pub fn connect(address: &Address, timeout: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + timeout;
        let no_greeting = || Error::NoGreeting {
            address: address.clone(),
            waited: timeout,
        };
        let transport =
            Transport::connect(address, timeout).map_err(|source| match source.kind() {
                // The queue of a socket that somebody else holds is full.
                io::ErrorKind::TimedOut => no_greeting(),
                _ => Error::Connect {
                    address: address.clone(),
                    source,
                },
            })?;
        let mut this = Self {
            transport,
            lines: Lines::default(),
            events: VecDeque::new(),
            version: Version {
                major: 0,
                minor: 0,
                micro: 0,
                package: String::new(),
            },
            timeout,
            last_id: 0,
        };
        this.version = match this
            .receive_line(None, deadline)?
            .as_deref()
            .map(Message::parse)
        {
            None => return Err(no_greeting()),
            Some(Ok(Message::Greeting(version))) => version,
            Some(Ok(other)) => return Err(not_qmp(address, &format!("{other:?}"))),
            Some(Err(error)) => return Err(not_qmp(address, &error.to_string())),
        };
        this.execute("qmp_capabilities", Value::Null)?;
        Ok(this)
    }

    /// Which QEMU this is.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// How long each later command may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Runs one command and returns its result. `arguments` is an object, or null for none.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.execute_with(command, arguments, None)
    }

    /// Gives QEMU a copy of a descriptor under a name, for `fd:NAME` in a later command. Only a unix socket carries
    /// descriptors. QEMU keeps it until it is used; a second one of the same name replaces it.
    pub fn pass_fd(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), Error> {
        if !self.transport.carries_descriptors() {
            return Err(Error::CannotPass {
                name: name.to_owned(),
            });
        }
        self.execute_with("getfd", json!({ "fdname": name }), Some(fd))
            .map(drop)
    }

    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, Error> {
        self.last_id += 1;
        let id = self.last_id;
        let deadline = Instant::now() + self.timeout;
        let no_answer = || Error::NoAnswer {
            command: command.to_owned(),
            waited: self.timeout,
        };
        let line = wire::command(command, arguments, id);
        self.transport
            .write_all(&line, fd, deadline)
            .map_err(|source| match source.kind() {
                io::ErrorKind::TimedOut => no_answer(),
                _ => socket_error(Some(command), source),
            })?;
        let timeout = self.timeout;
        while let Some(message) = self.receive(Some(command), deadline)? {
            match message {
                // An answer to an earlier command, one that was given up, is passed over.
                Message::Answer {
                    id: Some(answered), ..
                } if answered != id => {}
                Message::Answer {
                    outcome: Outcome::Return(value),
                    ..
                } => return Ok(value),
                Message::Answer {
                    outcome: Outcome::Error { class, description },
                    ..
                } => {
                    return Err(Error::Refused {
                        command: command.to_owned(),
                        class,
                        description,
                    });
                }
                Message::Event(event) => self.queue(event),
                Message::Greeting(_) | Message::Unknown => {}
            }
        }
        Err(Error::NoAnswer {
            command: command.to_owned(),
            waited: timeout,
        })
    }

    /// Runs a line of the human monitor and returns what it prints.
    pub fn hmp(&mut self, line: &str) -> Result<String, Error> {
        let output = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        match output {
            Value::String(text) => Ok(text),
            other => Err(Error::Malformed {
                problem: format!("the monitor line `{line}` returned {other}"),
            }),
        }
    }

    /// Takes the oldest event with one of these names, waiting for it if need be. Others stay queued.
    pub fn wait_event(&mut self, names: &[&str], timeout: Duration) -> Result<Event, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let wanted = self
                .events
                .iter()
                .position(|event| names.contains(&event.name.as_str()));
            if let Some(event) = wanted.and_then(|index| self.events.remove(index)) {
                return Ok(event);
            }
            match self.receive(None, deadline)? {
                Some(Message::Event(event)) => self.queue(event),
                Some(_) => {}
                None => {
                    let awaited = names.iter().map(|&name| name.to_owned()).collect();
                    return Err(Error::NoEvent {
                        awaited,
                        waited: timeout,
                    });
                }
            }
        }
    }

    /// Takes all events that have been read so far, without waiting.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    fn queue(&mut self, event: Event) {
        if self.events.len() == MAX_QUEUED_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next message, `None` at the deadline. A message that is half here by then is not lost.
    fn receive(
        &mut self,
        command: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Message>, Error> {
        self.receive_line(command, deadline)?
            .map(|line| Message::parse(&line))
            .transpose()
    }

    fn receive_line(
        &mut self,
        command: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(line) = self.lines.next_line()? {
                return Ok(Some(line));
            }
            match self.transport.read(&mut buffer, deadline) {
                Ok(None) => return Ok(None),
                Ok(Some(0)) => {
                    return Err(Error::Closed {
                        command: command.map(str::to_owned),
                    });
                }
                Ok(Some(length)) => self.lines.push(buffer.get(..length).unwrap_or_default()),
                Err(source) => return Err(socket_error(command, source)),
            }
        }
    }
}

fn not_qmp(address: &Address, found: &str) -> Error {
    // Enough to recognise what it is; the peer does not fill anybody's log.
    const SHOWN: usize = 120;
    Error::NotQmp {
        address: address.clone(),
        found: found.chars().take(SHOWN).collect(),
    }
}

/// A reset or a broken pipe is how a QEMU that ended looks from here.
fn socket_error(command: Option<&str>, source: io::Error) -> Error {
    let command = command.map(str::to_owned);
    match source.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Closed { command },
        _ => Error::Socket { command, source },
    }
}
