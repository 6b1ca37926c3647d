//! The source's stages: it asks, the receiver answers. What it can say without an answer it says at once: on a long line each round trip is
//! felt.

use alloc::vec::Vec;

use sealift_seal::{Initiator, Seed, Source, Suite, Unconfirmed};

use super::said::{self, Guest, Said, Settled, Terminus, Whole, due, opaque};
use super::{Agreed, Failed, Reason, Secured, WIRE_VERSION};
use crate::control::{
    Admission, Choice, Destination, Frame, Message, Offer, Received, Role, SessionId, Text, Verdict,
};

const HERE: Role = Role::Source;

/// What the source begins a session with.
#[derive(Clone, Debug)]
pub struct Request {
    /// The session's id, made at random.
    pub session: SessionId,
    /// The name or address by which the receiver's certificate was checked.
    pub peer_name: Text<255>,
    /// Name and version of this program, for the peer's logs.
    pub software: Option<Text<255>>,
    /// What this host can do and is asked for.
    pub offer: Offer,
}

/// Hello and offer are said; the receiver's hello is due.
pub struct Greeting {
    secured: Secured,
    request: Request,
    hello_sent: Vec<u8>,
    offer_sent: Vec<u8>,
}

impl Greeting {
    /// Begins a session on a connection that TLS has secured: says hello, and makes the offer.
    #[must_use]
    pub fn new(secured: Secured, request: Request) -> (Self, [Frame; 2]) {
        let hello = said::hello(
            HERE,
            request.session,
            request.software.clone(),
            Some(request.peer_name.clone()),
        );
        let hello = Frame::of(Message::Hello(hello));
        let offer = Frame::of(Message::Offer(request.offer.clone()));
        let greeting = Self {
            secured,
            request,
            hello_sent: hello.envelope().to_vec(),
            offer_sent: offer.envelope().to_vec(),
        };
        (greeting, [hello, offer])
    }

    /// Takes the receiver's hello.
    ///
    /// # Errors
    /// When it is no hello of a receiver for this session, or the ends have no version in common.
    pub fn receive(self, received: Received) -> Result<Offering, Failed> {
        let hello = due!(received, Hello, HERE);
        let reason = if hello.role == HERE {
            Some(Reason::Role)
        } else if hello.session != self.request.session {
            Some(Reason::Session {
                found: hello.session,
            })
        } else if hello.resume {
            Some(Reason::Resume)
        } else if !hello.wire_versions.as_slice().contains(&WIRE_VERSION.get()) {
            Some(Reason::Version)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Failed::new(HERE, reason));
        }
        let Request {
            session,
            peer_name,
            offer,
            ..
        } = self.request;
        Ok(Offering {
            said: Said {
                secured: self.secured,
                session,
                peer_name,
                peer_software: hello.software,
                source_hello: self.hello_sent,
                receiver_hello: received.envelope,
            },
            offer,
            sent: self.offer_sent,
        })
    }
}

/// The receiver has said hello; its choice is due.
pub struct Offering {
    said: Said,
    offer: Offer,
    sent: Vec<u8>,
}

impl Offering {
    /// Takes the receiver's choice.
    ///
    /// # Errors
    /// When it takes what was not offered.
    pub fn receive(self, received: Received) -> Result<Negotiated, Failed> {
        let choice = due!(received, Choice, HERE);
        choice
            .check_within(&self.offer)
            .map_err(|invalid| Failed::new(HERE, Reason::Invalid(invalid)))?;
        let suite = Suite::try_from(choice.suite)
            .map_err(|error| Failed::new(HERE, Reason::Keys(error)))?;
        Ok(Negotiated {
            said: self.said,
            settled: Settled {
                offer: self.offer,
                offer_sent: self.sent,
                choice,
                choice_sent: received.envelope,
                suite,
            },
        })
    }
}

/// Both know how; the source sets its QEMU up by it, and says which guest.
pub struct Negotiated {
    said: Said,
    settled: Settled,
}

impl Negotiated {
    /// What the receiver took of the offer.
    #[must_use]
    pub const fn choice(&self) -> &Choice {
        &self.settled.choice
    }

    /// The QEMU that the guest goes to.
    #[must_use]
    pub const fn destination(&self) -> &Destination {
        &self.settled.choice.destination
    }

    /// Asks for a guest to be admitted, and sends this end's share, made from `seed`: if the guest may come, keys are the next thing.
    ///
    /// # Errors
    /// When its blocks do not have the pages that were offered.
    pub fn admit(
        self,
        admission: Admission,
        seed: Seed,
    ) -> Result<(Admitting, [Frame; 2]), Failed> {
        admission
            .check_within(&self.settled.offer)
            .map_err(|invalid| Failed::new(HERE, Reason::Own(invalid)))?;
        let keys = Initiator::new(self.settled.suite, seed)
            .map_err(|error| Failed::new(HERE, Reason::Keys(error)))?;
        let shares = said::shares(keys.share()).map_err(|reason| Failed::new(HERE, reason))?;
        let frame = Frame::of(Message::Admission(admission.clone()));
        let admitting = Admitting {
            said: self.said,
            settled: self.settled,
            admission,
            sent: frame.envelope().to_vec(),
            keys,
        };
        Ok((admitting, [frame, shares]))
    }
}

/// The guest is named, and this end's share sent; the verdict is due.
pub struct Admitting {
    said: Said,
    settled: Settled,
    admission: Admission,
    sent: Vec<u8>,
    keys: Initiator,
}

impl Admitting {
    /// Takes the verdict.
    ///
    /// # Errors
    /// [`Reason::Refused`] when the guest may not come.
    pub fn receive(self, received: Received) -> Result<Exchanging, Failed> {
        let memory_free = match due!(received, Verdict, HERE) {
            Verdict::Accepted { memory_free } => memory_free,
            Verdict::Refused(refused) => {
                return Err(Failed::new(HERE, Reason::Refused(refused)));
            }
        };
        Ok(Exchanging {
            whole: Whole {
                said: self.said,
                settled: self.settled,
                guest: Guest {
                    admission: self.admission,
                    admission_sent: self.sent,
                    memory_free,
                    verdict_sent: received.envelope,
                },
            },
            keys: self.keys,
        })
    }
}

/// The guest may come; the receiver's share is due.
pub struct Exchanging {
    whole: Whole,
    keys: Initiator,
}

impl Exchanging {
    /// Takes the receiver's share, derives the keys, and confirms them.
    ///
    /// # Errors
    /// When the share is none of the suite's.
    pub fn receive(self, received: Received) -> Result<(Confirming, Frame), Failed> {
        let shares = due!(received, Shares, HERE);
        let derived = self
            .keys
            .exchange(said::share(&shares))
            .map_err(Reason::Keys)
            .and_then(|exchanged| self.whole.derive(exchanged, HERE))
            .and_then(|(keys, terminus)| Ok((said::confirmation(&keys)?, keys, terminus)));
        let (frame, keys, terminus) = derived.map_err(|reason| Failed::new(HERE, reason))?;
        Ok((Confirming { keys, terminus }, frame))
    }
}

/// This end has confirmed; the receiver's confirmation is due.
pub struct Confirming {
    keys: Unconfirmed<Source>,
    terminus: Terminus,
}

impl Confirming {
    /// Takes the receiver's confirmation.
    ///
    /// # Errors
    /// When it is another than the expected one: the ends did not see the same handshake.
    pub fn receive(self, received: Received) -> Result<Agreed<Source>, Failed> {
        let confirmation = due!(received, Confirmation, HERE);
        self.terminus
            .confirm(self.keys, &confirmation)
            .map_err(|reason| Failed::new(HERE, reason))
    }
}

opaque!(
    Greeting, Offering, Negotiated, Admitting, Exchanging, Confirming
);
