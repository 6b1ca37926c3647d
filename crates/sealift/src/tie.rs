//! The tie to the peer: whether it stands, what is said by it, and how far the peer's clock is from this host's.
//!
//! ```text
//!                   ┌─ Ping, Pong ──▶ answered here; the clocks' offset
//!  control channel ─┼─ all else ────▶ the session
//!                   └─ its end, or 15 s of silence ─▶ lost, once; nothing is heard any more
//! ```

use std::time::{Duration, Instant};

use sealift_net::Error;
use sealift_net::control::{Receiver, Sender};
use sealift_session::clock::{Offset, Pings};
use sealift_session::control::{ErrorKind, Failure, Fault, Frame, Message, Pong, Received, Role};

use crate::clock::now_ns;
use crate::ending::{failure, failure_of};
use crate::fault;

/// How often the peer's clock is asked for, which also says that this end lives.
const PING: Duration = Duration::from_secs(1);
/// A peer that asks for the clock once a second and says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// It is looked after many times a second: after so long this host, or this process, stood still.
const STALL: Duration = Duration::from_secs(2);
/// How long the last messages may take to be written.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// The control channel to a peer, while pages flow.
pub(crate) struct Tie {
    sender: Sender,
    receiver: Receiver,
    /// What the other end is.
    peer: Role,
    stands: bool,
    heard: Instant,
    /// When it was looked after last.
    tended: Instant,
    pinged: Option<Instant>,
    pings: Pings,
}

impl Tie {
    /// The control channel on which all is agreed.
    pub(crate) fn new(sender: Sender, receiver: Receiver, peer: Role) -> Self {
        Self {
            sender,
            receiver,
            peer,
            stands: true,
            heard: Instant::now(),
            tended: Instant::now(),
            pinged: None,
            pings: Pings::default(),
        }
    }

    /// What the peer says next; nothing when it was for the tie alone. The error is the tie's end, and comes once: from then on this waits for
    /// ever.
    ///
    /// Dropped before it is done it has taken nothing.
    pub(crate) async fn hear(&mut self) -> Result<Option<Message>, Failure> {
        if !self.stands {
            return std::future::pending().await;
        }
        match self.receiver.receive().await {
            Ok(received) => self.take(received),
            Err(error) => {
                self.stands = false;
                Err(lost(&error))
            }
        }
    }

    fn take(&mut self, received: Received) -> Result<Option<Message>, Failure> {
        self.heard = Instant::now();
        match received.message {
            Message::Ping(ping) => {
                let now = now_ns();
                // A clock that was set back in between has no answer worth sending.
                if let Ok(pong) = Pong::new(ping.id, now, now.max(now_ns())) {
                    self.say(Message::Pong(pong))?;
                }
                Ok(None)
            }
            Message::Pong(pong) => {
                self.pings.pong(&pong, now_ns());
                Ok(None)
            }
            message => Ok(Some(message)),
        }
    }

    /// Queues a message. The error is the connection's end.
    pub(crate) fn say(&self, message: Message) -> Result<(), Failure> {
        let (before, after) = fault::say(&message);
        fault::at(before);
        let said = self.sender.send(Frame::of(message));
        fault::at(after);
        said.map_err(|error| lost(&error))
    }

    /// Asks for the peer's clock when that is due. The error is that the tie broke, or that the peer has been silent for too long.
    pub(crate) fn tend(&mut self) -> Result<(), Failure> {
        if !self.stands {
            return Ok(());
        }
        let now = Instant::now();
        let gap = now.duration_since(std::mem::replace(&mut self.tended, now));
        if gap > STALL {
            // This host stood still, and what the peer said meanwhile has yet to be read.
            self.heard += gap;
        }
        if now.duration_since(self.heard) > SILENCE {
            self.stands = false;
            let peer = match self.peer {
                Role::Source => "source",
                Role::Receiver => "receiver",
            };
            let why = format!("the {peer} said nothing for {} s", SILENCE.as_secs());
            return Err(failure(ErrorKind::Timeout, Fault::Network, &why));
        }
        if self
            .pinged
            .is_none_or(|pinged| now.duration_since(pinged) >= PING)
        {
            self.pinged = Some(now);
            let ping = self.pings.ping(now_ns());
            self.say(Message::Ping(ping))?;
        }
        Ok(())
    }

    /// How far the peer's clock is from this host's.
    pub(crate) const fn offset(&self) -> Offset {
        self.pings.offset()
    }

    /// Ends it when what was said last has been written.
    pub(crate) async fn close(self) {
        self.sender.close(FAREWELL).await;
    }
}

fn lost(error: &Error) -> Failure {
    failure_of(ErrorKind::Timeout, Fault::Network, error)
}
