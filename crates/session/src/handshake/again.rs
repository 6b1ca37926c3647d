//! Taking a session up again on a new connection: one type per stage, as at first, and fewer of them, since what was agreed on stays agreed on.
//!
//! ```text
//!  source                                                       receiver
//!  Returning::new ─────────────── Hello, Shares ──────────────▶ receiver::Expecting::receive: Asked::Again
//!  │                                                            Returned: is the session here?
//!  Returning::receive ◀────────── Hello ─────────────────────── Returned::take_up
//!  Exchanging::receive ◀───────── Shares, Confirmation ──────── Welcomed::receive
//!  Confirming ─────────────────── Confirmation ───────────────▶ Welcoming::receive
//!  Confirming::receive                                          │
//!  ▼                                                            ▼
//!  Keyed<Source>                                                Keyed<Receiver>
//! ```
//!
//! Whoever drives this sees to it that the new connection's certificate names whom the first one named. That it is the same process the keys prove: the
//! [resumption](Resumption) of the first exchange is in them.

use alloc::vec::Vec;

use sealift_seal::{
    self as seal, Exchanged, Initiator, Keyed, Receiver, Resumption, Return, Seed, Side, Source,
    Suite, Unconfirmed, respond,
};

use super::said::{self, due, opaque};
use super::{Failed, Reason, Secured, WIRE_VERSION};
use crate::control::{Frame, Hello, Message, Received, Role, SessionId, Text};

/// A session that was agreed on, as both ends remember it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its id.
    pub session: SessionId,
    /// The suite that was chosen.
    pub suite: Suite,
    /// What the first exchange has left.
    pub resumption: &'a Resumption,
}

/// Both hellos, and the connection that they came by.
struct Hellos {
    secured: Secured,
    source: Vec<u8>,
    receiver: Vec<u8>,
}

impl Hellos {
    fn derive<S: Side>(
        self,
        known: &Known<'_>,
        exchanged: Exchanged<S>,
        here: Role,
    ) -> Result<Unconfirmed<S>, Reason> {
        let Secured {
            exporter,
            own_certificate,
            peer_certificate,
        } = self.secured;
        let (source_certificate, receiver_certificate) = match here {
            Role::Source => (&own_certificate, &peer_certificate),
            Role::Receiver => (&peer_certificate, &own_certificate),
        };
        let context = Return {
            source_hello: &self.source,
            receiver_hello: &self.receiver,
            source_certificate,
            receiver_certificate,
            // The source opens the connection.
            tls_client: seal::Role::Source,
        };
        let session = seal::SessionId(known.session.0);
        exchanged
            .resume(exporter, session, known.resumption, &context)
            .map_err(Reason::Keys)
    }
}

/// The source has said hello, and sent its share; the receiver's hello is due.
pub struct Returning<'a> {
    known: Known<'a>,
    secured: Secured,
    sent: Vec<u8>,
    keys: Initiator,
}

impl<'a> Returning<'a> {
    /// Begins, on a connection that TLS has secured, with keys made from `seed`. `peer_name` is what the receiver's certificate was checked by.
    ///
    /// # Errors
    /// When no keys can be made.
    pub fn new(
        known: Known<'a>,
        secured: Secured,
        peer_name: Text<255>,
        software: Option<Text<255>>,
        seed: Seed,
    ) -> Result<(Self, [Frame; 2]), Failed> {
        let failed = |reason| Failed::new(Role::Source, reason);
        let keys =
            Initiator::new(known.suite, seed).map_err(|error| failed(Reason::Keys(error)))?;
        let shares = said::shares(keys.share()).map_err(failed)?;
        let hello = Hello {
            resume: true,
            ..said::hello(Role::Source, known.session, software, Some(peer_name))
        };
        let hello = Frame::of(Message::Hello(hello));
        let returning = Self {
            known,
            secured,
            sent: hello.envelope().to_vec(),
            keys,
        };
        Ok((returning, [hello, shares]))
    }

    /// Takes the receiver's hello.
    ///
    /// # Errors
    /// When it is no hello of a receiver that takes this session up.
    pub fn receive(self, received: Received) -> Result<Exchanging<'a>, Failed> {
        let hello = due!(received, Hello, Role::Source);
        let reason = if hello.role == Role::Source {
            Some(Reason::Role)
        } else if hello.session != self.known.session {
            let found = hello.session;
            Some(Reason::Session { found })
        } else if !hello.resume {
            Some(Reason::Resume)
        } else if !hello.wire_versions.as_slice().contains(&WIRE_VERSION.get()) {
            Some(Reason::Version)
        } else {
            None
        };
        match reason {
            Some(reason) => Err(Failed::new(Role::Source, reason)),
            None => Ok(Exchanging {
                known: self.known,
                hellos: Hellos {
                    secured: self.secured,
                    source: self.sent,
                    receiver: received.envelope,
                },
                keys: self.keys,
            }),
        }
    }
}

/// The receiver still has the session; its share is due.
pub struct Exchanging<'a> {
    known: Known<'a>,
    hellos: Hellos,
    keys: Initiator,
}

impl Exchanging<'_> {
    /// Takes the receiver's share, derives the keys, and confirms them.
    ///
    /// # Errors
    /// When the share is none of the suite's.
    pub fn receive(self, received: Received) -> Result<(Confirming, Frame), Failed> {
        let shares = due!(received, Shares, Role::Source);
        let derived = self
            .keys
            .exchange(said::share(&shares))
            .map_err(Reason::Keys)
            .and_then(|exchanged| self.hellos.derive(&self.known, exchanged, Role::Source))
            .and_then(|keys| Ok((said::confirmation(&keys)?, keys)));
        let (frame, keys) = derived.map_err(|reason| Failed::new(Role::Source, reason))?;
        Ok((Confirming { keys }, frame))
    }
}

/// The source has confirmed; the receiver's confirmation is due.
pub struct Confirming {
    keys: Unconfirmed<Source>,
}

impl Confirming {
    /// Takes the receiver's confirmation.
    ///
    /// # Errors
    /// When it is another than the expected one: it is not the receiver of the first connection.
    pub fn receive(self, received: Received) -> Result<Keyed<Source>, Failed> {
        let confirmation = due!(received, Confirmation, Role::Source);
        self.keys
            .confirm(&confirmation)
            .map_err(|error| Failed::new(Role::Source, Reason::Keys(error)))
    }
}

/// A source wants to take a session up: whoever holds this knows whether it is here.
pub struct Returned {
    secured: Secured,
    session: SessionId,
    software: Option<Text<255>>,
    hello: Vec<u8>,
}

impl Returned {
    pub(super) fn new(
        secured: Secured,
        session: SessionId,
        software: Option<Text<255>>,
        hello: Vec<u8>,
    ) -> Self {
        Self {
            secured,
            session,
            software,
            hello,
        }
    }

    /// Which session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// It is here: says hello.
    #[must_use]
    pub fn take_up(self, known: Known<'_>) -> (Welcomed<'_>, Frame) {
        let hello = Hello {
            resume: true,
            ..said::hello(Role::Receiver, known.session, self.software, None)
        };
        let frame = Frame::of(Message::Hello(hello));
        let welcomed = Welcomed {
            known,
            hellos: Hellos {
                secured: self.secured,
                source: self.hello,
                receiver: frame.envelope().to_vec(),
            },
        };
        (welcomed, frame)
    }

    /// It is not: what is to be told.
    #[must_use]
    pub fn refuse(self) -> Failed {
        Failed::new(Role::Receiver, Reason::Resume)
    }
}

/// The session is here; the source's share is due.
pub struct Welcomed<'a> {
    known: Known<'a>,
    hellos: Hellos,
}

impl Welcomed<'_> {
    /// Takes the source's share, answers with this end's, made from `seed`, and confirms the keys: two frames.
    ///
    /// # Errors
    /// When the share is none of the suite's.
    pub fn receive(
        self,
        received: Received,
        seed: Seed,
    ) -> Result<(Welcoming, [Frame; 2]), Failed> {
        let shares = due!(received, Shares, Role::Receiver);
        let derived = respond(self.known.suite, seed, said::share(&shares))
            .map_err(Reason::Keys)
            .and_then(|exchanged| {
                let share = said::shares(exchanged.share())?;
                let keys = self.hellos.derive(&self.known, exchanged, Role::Receiver)?;
                let confirmation = said::confirmation(&keys)?;
                Ok((Welcoming { keys }, [share, confirmation]))
            });
        derived.map_err(|reason| Failed::new(Role::Receiver, reason))
    }
}

/// The receiver has confirmed; the source's confirmation is due.
pub struct Welcoming {
    keys: Unconfirmed<Receiver>,
}

impl Welcoming {
    /// Takes the source's confirmation.
    ///
    /// # Errors
    /// When it is another than the expected one: it is not the source of the first connection.
    pub fn receive(self, received: Received) -> Result<Keyed<Receiver>, Failed> {
        let confirmation = due!(received, Confirmation, Role::Receiver);
        self.keys
            .confirm(&confirmation)
            .map_err(|error| Failed::new(Role::Receiver, Reason::Keys(error)))
    }
}

opaque!(
    Returning<'_>,
    Exchanging<'_>,
    Confirming,
    Returned,
    Welcomed<'_>,
    Welcoming
);
