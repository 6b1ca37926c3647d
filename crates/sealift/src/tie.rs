//! The tie to the peer: whether it holds, what is said by it, and how far the peer's clock is from this host's.
//!
//! ```text
//!                   ┌─ Ping, Pong ──▶ answered here; the clocks' offset
//!  control channel ─┼─ all else ────▶ the session
//!                   └─ its end, or 5 s of silence ─▶ lost, once; nothing is heard until another channel is tied on
//! ```
//!
//! What must be heard is said all the same while there is no channel: it is kept, and goes over the next one.

use std::time::{Duration, Instant};

use sealift_net::Error;
use sealift_net::control::{Receiver, Sender};
use sealift_session::clock::{Offset, Pings};
use sealift_session::control::wire::Ping;
use sealift_session::control::{ErrorKind, Failure, Fault, Message, Pong, Received, Role};
use sealift_session::correspondence::Correspondence;

use crate::clock::now_ns;
use crate::ending::{failure, failure_of};
use crate::fault;

/// How often the peer's clock is asked for, which also says that this end lives.
const PING: Duration = Duration::from_secs(1);
/// A peer that asks for the clock once a second and says nothing for so long is gone, or cannot be reached.
const SILENCE: Duration = Duration::from_secs(5);
/// The same while a guest stands still for it.
const SILENCE_IN_BLACKOUT: Duration = Duration::from_secs(2);
/// The same before it has said anything: it may still be connecting its QEMU.
const SILENCE_AT_FIRST: Duration = Duration::from_secs(15);
/// It is looked after many times a second: after so long this host, or this process, stood still.
const STALL: Duration = Duration::from_secs(2);
/// How long the last messages may take to be written.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// The control channel to a peer, while pages flow.
pub(crate) struct Tie {
    /// None while there is no connection.
    channel: Option<(Sender, Receiver)>,
    correspondence: Correspondence,
    /// What the other end is.
    peer: Role,
    heard: Instant,
    /// How long it may be silent, and how long once it has said something.
    patience: Duration,
    usual: Duration,
    /// When it was looked after last.
    tended: Instant,
    pinged: Option<Instant>,
    pings: Pings,
}

impl Tie {
    /// The control channel on which all is agreed.
    pub(crate) fn new(sender: Sender, receiver: Receiver, peer: Role) -> Self {
        Self {
            channel: Some((sender, receiver)),
            correspondence: Correspondence::new(),
            peer,
            heard: Instant::now(),
            patience: SILENCE_AT_FIRST,
            usual: SILENCE,
            tended: Instant::now(),
            pinged: None,
            pings: Pings::default(),
        }
    }

    /// Ties another channel on, to a peer that has heard so many of what must be heard, and says the rest again.
    ///
    /// # Errors
    /// When it is not the peer that it was; or the connection is gone already.
    pub(crate) fn tie_on(
        &mut self,
        sender: Sender,
        receiver: Receiver,
        heard: u64,
    ) -> Result<(), Failure> {
        let peer = self.fault_of_peer();
        let again = self
            .correspondence
            .again(heard)
            .map_err(|unheard| failure_of(ErrorKind::Protocol, peer, &unheard))?;
        for frame in again {
            sender.send(frame).map_err(|error| lost(&error))?;
        }
        self.channel = Some((sender, receiver));
        (self.heard, self.tended, self.pinged) = (Instant::now(), Instant::now(), None);
        Ok(())
    }

    /// A guest stands still: the peer is missed sooner.
    pub(crate) fn hurry(&mut self) {
        // One that has said nothing yet is not hurried.
        if self.patience == self.usual {
            self.patience = SILENCE_IN_BLACKOUT;
        }
        self.usual = SILENCE_IN_BLACKOUT;
    }

    /// Gives the channel up, if there is one.
    pub(crate) fn cut(&mut self) {
        self.channel = None;
    }

    /// How many of what must be heard this end has heard: what the peer is told when another channel is to be tied on.
    pub(crate) const fn has_heard(&self) -> u64 {
        self.correspondence.heard()
    }

    /// What the peer says next; nothing when it was for the tie alone. The error is the channel's end, and comes once: from then on this waits for
    /// another one.
    ///
    /// Dropped before it is done it has taken nothing.
    pub(crate) async fn hear(&mut self) -> Result<Option<Message>, Failure> {
        let Some((_, receiver)) = &mut self.channel else {
            return std::future::pending().await;
        };
        match receiver.receive().await {
            Ok(received) => self.take(received),
            Err(error) => {
                self.channel = None;
                Err(lost(&error))
            }
        }
    }

    /// Takes what the peer has said.
    pub(crate) fn take(&mut self, received: Received) -> Result<Option<Message>, Failure> {
        self.heard = Instant::now();
        self.patience = self.usual;
        self.correspondence.hear(&received.message);
        match received.message {
            Message::Ping(ping) => {
                if let Err(unheard) = self.correspondence.was_heard(ping.heard) {
                    let peer = self.fault_of_peer();
                    return Err(failure_of(ErrorKind::Protocol, peer, &unheard));
                }
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

    /// Queues a message, or keeps it for another channel if it must be heard. The error is the connection's end.
    pub(crate) fn say(&mut self, message: Message) -> Result<(), Failure> {
        let (before, after) = fault::say(&message);
        fault::at(before);
        let frame = self.correspondence.say(message).map_err(|unheard| {
            self.channel = None;
            failure_of(ErrorKind::Resources, Fault::Network, &unheard)
        })?;
        let said = match &self.channel {
            Some((sender, _)) => sender.send(frame),
            None => Ok(()),
        };
        fault::at(after);
        said.map_err(|error| {
            self.channel = None;
            lost(&error)
        })
    }

    /// Asks for the peer's clock when that is due. The error is that the tie broke, or that the peer has been silent for too long.
    pub(crate) fn tend(&mut self) -> Result<(), Failure> {
        if self.channel.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        let gap = now.duration_since(std::mem::replace(&mut self.tended, now));
        if gap > STALL {
            // This host stood still, and what the peer said meanwhile has yet to be read.
            self.heard += gap;
        }
        if now.duration_since(self.heard) > self.patience {
            self.channel = None;
            let peer = match self.peer {
                Role::Source => "source",
                Role::Receiver => "receiver",
            };
            let why = format!("the {peer} said nothing for {} s", self.patience.as_secs());
            return Err(failure(ErrorKind::Timeout, Fault::Network, &why));
        }
        if self
            .pinged
            .is_none_or(|pinged| now.duration_since(pinged) >= PING)
        {
            self.pinged = Some(now);
            let ping = Ping {
                heard: self.correspondence.heard(),
                ..self.pings.ping(now_ns())
            };
            self.say(Message::Ping(ping))?;
        }
        Ok(())
    }

    const fn fault_of_peer(&self) -> Fault {
        match self.peer {
            Role::Source => Fault::Source,
            Role::Receiver => Fault::Receiver,
        }
    }

    /// How far the peer's clock is from this host's.
    pub(crate) const fn offset(&self) -> Offset {
        self.pings.offset()
    }

    /// Ends it when what was said last has been written.
    pub(crate) async fn close(self) {
        if let Some((sender, _)) = self.channel {
            sender.close(FAREWELL).await;
        }
    }
}

/// Whether another connection could make it good again: not what the ends say to each other.
pub(crate) const fn is_of_the_link(why: &Failure) -> bool {
    matches!(why.kind, ErrorKind::Timeout | ErrorKind::Integrity)
}

fn lost(error: &Error) -> Failure {
    let kind = match error {
        Error::Frame(_) => ErrorKind::Protocol,
        _ => ErrorKind::Timeout,
    };
    failure_of(kind, Fault::Network, error)
}
