//! The receiver's stages: it is asked, chooses, and decides.

use alloc::vec::Vec;

use sealift_pages::{Algorithm, Codecs};
use sealift_seal::{Receiver, Seed, Suite, Unconfirmed, respond};

use super::again::Returned;
use super::said::{self, Guest, Said, Settled, Terminus, Whole, due, opaque};
use super::{Agreed, Failed, Reason, Secured, WIRE_VERSION};
use crate::control::{
    Admission, Choice, Destination, Distinct, Frame, LaneCount, Message, MirrorBudget, Offer,
    Received, Refused, Role, SessionId, Text, Verdict,
};

const HERE: Role = Role::Receiver;

/// What this receiver can do and allows.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// The suites that are allowed.
    pub suites: Vec<Suite>,
    /// The digest algorithms that it has beside SHA-256.
    pub digests: Vec<Algorithm>,
    /// The codecs that it can undo.
    pub codecs: Codecs,
    /// The most lanes that it admits.
    pub lanes: LaneCount,
    /// The most memory that it gives to mirrored state.
    pub mirror: MirrorBudget,
    /// The QEMU that waits for the guest.
    pub destination: Destination,
}

/// A connection that TLS has secured; the source's hello is due.
pub struct Expecting {
    secured: Secured,
    software: Option<Text<255>>,
}

impl Expecting {
    /// Waits for a hello. `software` is this program's name and version, for the peer's logs.
    #[must_use]
    pub const fn new(secured: Secured, software: Option<Text<255>>) -> Self {
        Self { secured, software }
    }

    /// Takes the source's hello, and answers it if it begins a session.
    ///
    /// # Errors
    /// When it is no hello of a source, or the ends have no version in common.
    pub fn receive(self, received: Received) -> Result<Asked, Failed> {
        let hello = due!(received, Hello, HERE);
        let reason = match hello.peer_name {
            _ if hello.role == HERE => Reason::Role,
            Some(_)
                if hello.resume && hello.wire_versions.as_slice().contains(&WIRE_VERSION.get()) =>
            {
                return Ok(Asked::Again(Returned::new(
                    self.secured,
                    hello.session,
                    self.software,
                    received.envelope,
                )));
            }
            Some(peer_name) if hello.wire_versions.as_slice().contains(&WIRE_VERSION.get()) => {
                let answer = said::hello(HERE, hello.session, self.software, None);
                let frame = Frame::of(Message::Hello(answer));
                let greeted = Greeted {
                    said: Said {
                        secured: self.secured,
                        session: hello.session,
                        peer_name,
                        peer_software: hello.software,
                        source_hello: received.envelope,
                        receiver_hello: frame.envelope().to_vec(),
                    },
                };
                return Ok(Asked::First(greeted, frame));
            }
            // A source's hello has a name: the message's own check.
            _ => Reason::Version,
        };
        Err(Failed::new(HERE, reason))
    }
}

/// What a source wants.
#[derive(Debug)]
pub enum Asked {
    /// To begin a session: the hello is to be sent.
    First(Greeted, Frame),
    /// To take one up again.
    Again(Returned),
}

/// Both have said hello; the offer is due.
pub struct Greeted {
    said: Said,
}

impl Greeted {
    /// The session's id, as the source made it.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.said.session
    }

    /// The name or address by which the source checked this host's certificate.
    #[must_use]
    pub const fn peer_name(&self) -> &Text<255> {
        &self.said.peer_name
    }

    /// Takes the offer, and the first of each that it has and `abilities` has too.
    ///
    /// # Errors
    /// When nothing is common, or memory is to be read again and the destination is not managed.
    pub fn receive(
        self,
        received: Received,
        abilities: &Abilities,
    ) -> Result<(Chosen, Frame), Failed> {
        let offer = due!(received, Offer, HERE);
        let (suite, choice) =
            choose(&offer, abilities).map_err(|reason| Failed::new(HERE, reason))?;
        let frame = Frame::of(Message::Choice(choice.clone()));
        let chosen = Chosen {
            said: self.said,
            settled: Settled {
                offer,
                offer_sent: received.envelope,
                choice,
                choice_sent: frame.envelope().to_vec(),
                suite,
            },
        };
        Ok((chosen, frame))
    }
}

fn choose(offer: &Offer, abilities: &Abilities) -> Result<(Suite, Choice), Reason> {
    if offer.verify_full && !abilities.destination.managed {
        return Err(Reason::VerifyFull);
    }
    let suite = Suite::choose(offer.suites.as_slice(), &abilities.suites).map_err(Reason::Keys)?;
    let has = |&&found: &&u8| {
        abilities
            .digests
            .iter()
            .any(|algorithm| algorithm.to_wire() == found)
    };
    let digest = offer.digests.as_slice().iter().find(has).copied();
    let codecs = offer.codecs.as_slice().iter().copied();
    let codecs = codecs.filter(|&codec| said::codecs(&[codec]) != Codecs::NONE);
    let codecs = if abilities.codecs == Codecs::NONE {
        Vec::new()
    } else {
        codecs.collect()
    };
    let choice = Choice {
        suite: suite.number(),
        // Every offer has SHA-256.
        digest: digest.unwrap_or(Algorithm::Sha256.to_wire()),
        codecs: Distinct::new("Choice.codecs", codecs).map_err(Reason::Own)?,
        lanes: offer.lanes.min(abilities.lanes),
        mirror: offer.mirror.least(abilities.mirror),
        destination: abilities.destination.clone(),
    };
    choice.check_within(offer).map_err(Reason::Own)?;
    Ok((suite, choice))
}

/// The choice is made; the admission is due.
pub struct Chosen {
    said: Said,
    settled: Settled,
}

impl Chosen {
    /// What was chosen.
    #[must_use]
    pub const fn choice(&self) -> &Choice {
        &self.settled.choice
    }

    /// Takes the admission.
    ///
    /// # Errors
    /// When the guest's blocks do not have the pages that were offered.
    pub fn receive(self, received: Received) -> Result<Considering, Failed> {
        let admission = due!(received, Admission, HERE);
        admission
            .check_within(&self.settled.offer)
            .map_err(|invalid| Failed::new(HERE, Reason::Invalid(invalid)))?;
        Ok(Considering {
            said: self.said,
            settled: self.settled,
            admission,
            received: received.envelope,
        })
    }
}

/// A guest wants to come: whoever holds this decides.
pub struct Considering {
    said: Said,
    settled: Settled,
    admission: Admission,
    received: Vec<u8>,
}

impl Considering {
    /// The session's id.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.said.session
    }

    /// The guest.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What the source can do.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.settled.offer
    }

    /// What was chosen of that.
    #[must_use]
    pub const fn choice(&self) -> &Choice {
        &self.settled.choice
    }

    /// The guest may come. `memory_free` was free on this host.
    #[must_use]
    pub fn accept(self, memory_free: u64) -> (Admitted, Frame) {
        let frame = Frame::of(Message::Verdict(Verdict::Accepted { memory_free }));
        let admitted = Admitted {
            whole: Whole {
                said: self.said,
                settled: self.settled,
                guest: Guest {
                    admission: self.admission,
                    admission_sent: self.received,
                    memory_free,
                    verdict_sent: frame.envelope().to_vec(),
                },
            },
        };
        (admitted, frame)
    }

    /// It may not: the session ends with this frame.
    #[must_use]
    pub fn refuse(self, refused: Refused) -> Frame {
        Frame::of(Message::Verdict(Verdict::Refused(refused)))
    }
}

/// The guest may come; the source's share is due.
pub struct Admitted {
    whole: Whole,
}

impl Admitted {
    /// Takes the source's share, answers with this end's, made from `seed`, and confirms the keys: two frames.
    ///
    /// # Errors
    /// When the share is none of the suite's.
    pub fn receive(
        self,
        received: Received,
        seed: Seed,
    ) -> Result<(Confirming, [Frame; 2]), Failed> {
        let shares = due!(received, Shares, HERE);
        let derived = respond(self.whole.settled.suite, seed, said::share(&shares))
            .map_err(Reason::Keys)
            .and_then(|exchanged| {
                let share = said::shares(exchanged.share())?;
                let (keys, terminus) = self.whole.derive(exchanged, HERE)?;
                let confirmation = said::confirmation(&keys)?;
                Ok((Confirming { keys, terminus }, [share, confirmation]))
            });
        derived.map_err(|reason| Failed::new(HERE, reason))
    }
}

/// This end has confirmed; the source's confirmation is due.
pub struct Confirming {
    keys: Unconfirmed<Receiver>,
    terminus: Terminus,
}

impl Confirming {
    /// Takes the source's confirmation.
    ///
    /// # Errors
    /// When it is another than the expected one: the ends did not see the same handshake.
    pub fn receive(self, received: Received) -> Result<Agreed<Receiver>, Failed> {
        let confirmation = due!(received, Confirmation, HERE);
        self.terminus
            .confirm(self.keys, &confirmation)
            .map_err(|reason| Failed::new(HERE, reason))
    }
}

opaque!(
    Expecting,
    Greeted,
    Chosen,
    Considering,
    Admitted,
    Confirming
);
