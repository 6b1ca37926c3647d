//! From an address to lanes: the source's way to a receiver.
//!
//! ```text
//!  connect ─▶ TLS ─▶ hello, offer, choice ─▶ Negotiated    before QEMU is told to migrate, when sealift tells it
//!  admission, verdict, shares, confirmations ─▶ Agreed      when the guest's RAM blocks are known
//!  tokens ─▶ lanes                                          batches may go
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use sealift::event::Peer;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_identity::{Pki, explain, explain_io, peer_of};
use sealift_net::control::{Receiver, Secured, Sender};
use sealift_net::outbound::{Lane, Way};
use sealift_net::target::Target;
use sealift_net::{Error, lane};
use sealift_pages::{Algorithm, Codec, PageSize};
use sealift_seal::{Keyed, Seed, Source, Suite};
use sealift_session::control::{
    Admission, Choice, Direction, Distinct, Epoch, ErrorKind, Fault as Blame, Frame, Invalid,
    LaneCount, Message, MirrorBudget, Offer, SessionId, Text,
};
use sealift_session::handshake::source::{Greeting, Negotiated, Request};
use sealift_session::handshake::{Agreed, Failed, Reason};
use sealift_session::lane::LaneHello;
use tokio::task::JoinSet;

use super::shares::Shares;
use crate::ending;

/// How long the receiver may take for a step: most take a round trip; for its verdict it asks its QEMU first.
const STEP_WITHIN: Duration = Duration::from_secs(30);

/// Lanes that are opened at the same time: each is a stranger to the receiver until it has said hello, and it lets in only so many from one address.
const LANES_AT_ONCE: usize = 4;

/// How long the last message may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the source wants of the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) target: Target,
    /// What the receiver's certificate must name: the target's host, unless the operator said otherwise.
    pub(crate) peer_name: String,
    pub(crate) lanes: LaneCount,
    pub(crate) suites: Vec<Suite>,
    pub(crate) verify_full: bool,
    pub(crate) shares: Shares,
    pub(crate) resume_for: Duration,
}

/// A control channel, and who is at its other end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) address: SocketAddr,
    pub(crate) peer: Peer,
    /// Whom its certificate names.
    pub(crate) identity: String,
}

/// Connects, and learns who is there.
pub(crate) async fn connect(
    order: &Order,
    pki: &Pki,
) -> Result<(Link, sealift_session::handshake::Secured), Ending> {
    let name = ServerName::try_from(order.peer_name.clone()).map_err(|_| {
        Ending::new(
            Kind::Usage,
            format!("{} is neither a host name nor an address", order.peer_name),
        )
        .fault(Fault::User)
    })?;
    let config = pki
        .client_config()
        .map_err(|error| ending::of_pki(&error))?;
    let at = order.target.to_string();
    let lost = |error: &Error| lost(error, pki, &at);
    let stream = order.target.connect().await.map_err(|error| lost(&error))?;
    let secured = Secured::connect(stream, name, config)
        .await
        .map_err(|error| lost(&error))?;
    let address = secured.peer_address().map_err(|error| lost(&error))?;
    let identity = peer_of(secured.tls())
        .map_err(|error| Ending::because(Kind::Authentication, &error).fault(Fault::Peer))?;
    let seen = sealift_session::handshake::Secured {
        exporter: secured.exporter().map_err(|error| lost(&error))?,
        own_certificate: pki.own_certificate().to_vec(),
        peer_certificate: identity.certificate.clone(),
    };
    let (sender, receiver) = secured.split();
    let link = Link {
        sender,
        receiver,
        address,
        peer: Peer {
            name: order.peer_name.clone(),
            fingerprint: identity.fingerprint.clone(),
            address: address.to_string(),
        },
        identity: identity.to_string(),
    };
    Ok((link, seen))
}

/// Connects and agrees on how, not yet on what.
pub(crate) async fn negotiate(
    order: &Order,
    pki: &Pki,
    session: SessionId,
    page_size: PageSize,
) -> Result<(Link, Negotiated), Ending> {
    let (mut link, seen) = connect(order, pki).await?;
    let request = request(order, session, page_size).map_err(|invalid| own(&invalid))?;
    let (greeting, frames) = Greeting::new(seen, request);
    for frame in frames {
        link.send(frame, pki)?;
    }
    let received = link.next(pki).await?;
    let offering = greeting
        .receive(received)
        .map_err(|failed| link.refuse(&failed))?;
    link.receiver.accept_hello();
    let received = link.next(pki).await?;
    let negotiated = offering
        .receive(received)
        .map_err(|failed| link.refuse(&failed))?;
    Ok((link, negotiated))
}

fn request(order: &Order, session: SessionId, page_size: PageSize) -> Result<Request, Invalid> {
    let (contents, windows) = (order.shares.contents, order.shares.windows());
    let numbers = order.suites.iter().map(|suite| suite.number()).collect();
    Ok(Request {
        session,
        peer_name: Text::new("Hello.peer_name", order.peer_name.clone())?,
        software: Text::cut(crate::SOFTWARE),
        offer: Offer {
            suites: Distinct::new("Offer.suites", numbers)?,
            digests: Distinct::new("Offer.digests", DIGESTS.map(Algorithm::to_wire).to_vec())?,
            codecs: Distinct::new("Offer.codecs", vec![Codec::Zstd.to_wire()])?,
            lanes: order.lanes,
            page_size,
            mirror: MirrorBudget::new(contents - windows, 0, windows)?,
            verify_full: order.verify_full,
            resume_for: order.resume_for,
        },
    })
}

/// BLAKE3 first, for its speed; SHA-256 because it must be there (WIRE.md §3).
const DIGESTS: [Algorithm; 2] = [Algorithm::Blake3, Algorithm::Sha256];

impl Link {
    /// Says which guest it is, and agrees on keys.
    pub(crate) async fn admit(
        &mut self,
        pki: &Pki,
        negotiated: Negotiated,
        admission: Admission,
    ) -> Result<Agreed<Source>, Ending> {
        let (admitting, frames) = negotiated
            .admit(admission, seed()?)
            .map_err(|failed| self.refuse(&failed))?;
        for frame in frames {
            self.send(frame, pki)?;
        }
        let received = self.next(pki).await?;
        let exchanging = admitting
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        let received = self.next(pki).await?;
        let (confirming, frame) = exchanging
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        self.send(frame, pki)?;
        let received = self.next(pki).await?;
        confirming
            .receive(received)
            .map_err(|failed| self.refuse(&failed))
    }

    /// Tells the receiver why nothing comes, before anything of the guest has gone.
    pub(crate) async fn decline(self, why: &str) {
        let why = ending::failure(ErrorKind::Resources, Blame::Source, why);
        // A connection that is gone says it all.
        let _ = self.sender.send(Frame::of(Message::Failure(why)));
        self.sender.close(FAREWELL).await;
    }

    /// Opens the lanes for which the receiver sends tokens.
    pub(crate) async fn open_lanes(
        &mut self,
        pki: &Pki,
        session: SessionId,
        choice: &Choice,
        keys: &mut Keyed<Source>,
    ) -> Result<Vec<Lane>, Ending> {
        let tokens = match self.next(pki).await?.message {
            Message::LaneTokens(tokens) => tokens,
            Message::Failure(failure) => return Err(ending::told(&failure)),
            other => {
                let message = format!("the receiver sent {} instead of lane tokens", other.kind());
                return Err(Ending::new(Kind::StillAtSource, message).fault(Fault::Peer));
            }
        };
        tokens
            .check_within(choice)
            .map_err(|invalid| Ending::because(Kind::StillAtSource, &invalid).fault(Fault::Peer))?;
        let key = keys.lane_hello_key().map_err(|error| broken(&error))?;
        let mut lanes = Vec::new();
        for tokens in tokens.as_slice().chunks(LANES_AT_ONCE) {
            let mut opening = JoinSet::new();
            for token in tokens {
                let sealer = keys.sealer(token.lane()).map_err(|error| broken(&error))?;
                let epoch =
                    Epoch::new(token.lane(), Direction::SourceToReceiver, sealer.epoch(), 0)
                        .map_err(|invalid| own(&invalid))?;
                self.send(Frame::of(Message::Epoch(epoch)), pki)?;
                let hello = LaneHello::new(Direction::SourceToReceiver, session, token.clone());
                let (address, hello) = (self.address, hello.encode(&key));
                opening.spawn(async move {
                    let stream = lane::open(address, hello.as_slice()).await?;
                    let way = Way::Peer(stream);
                    Ok(Lane { way, sealer })
                });
            }
            for opened in opening.join_all().await {
                let lane = opened.map_err(|error| lost(&error, pki, &self.address.to_string()))?;
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    pub(super) fn send(&self, frame: Frame, pki: &Pki) -> Result<(), Ending> {
        let at = self.address.to_string();
        self.sender
            .send(frame)
            .map_err(|error| lost(&error, pki, &at))
    }

    pub(super) async fn next(
        &mut self,
        pki: &Pki,
    ) -> Result<sealift_session::control::Received, Ending> {
        let at = self.address.to_string();
        self.receiver
            .receive_within(STEP_WITHIN)
            .await
            .map_err(|error| lost(&error, pki, &at))
    }

    /// Tells the peer what is wrong, if it is for the peer to know, and the operator.
    fn refuse(&self, failed: &Failed) -> Ending {
        if let Some(failure) = failed.to_tell() {
            let _ = self.sender.send(Frame::of(Message::Failure(failure)));
        }
        match failed.reason() {
            Reason::Told(failure) => ending::told(failure),
            Reason::Refused(refused) => Ending::refused(refused),
            _ => ending::found(failed),
        }
    }
}

/// Fresh randomness for an exchange.
pub(crate) fn seed() -> Result<Seed, Ending> {
    Seed::fill(|bytes| crate::random::fill(bytes))
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))
}

/// A connection that was not made, or broke while the guest is certain to be at the source.
pub(crate) fn lost(error: &Error, pki: &Pki, peer: &str) -> Ending {
    match error {
        Error::Tls(tls) => {
            let reason = explain(tls, pki, peer);
            of_reason(&reason)
        }
        // A receiver that refuses a certificate says so when the handshake looks done already; its goodbye may be lost on the way.
        Error::Lost(source) => of_reason(&explain_io(source, pki, peer)),
        Error::Resolve { .. } | Error::Connect { .. } => {
            Ending::because(Kind::StillAtSource, error).fault(Fault::Network)
        }
        Error::Frame(_) => Ending::because(Kind::StillAtSource, error).fault(Fault::Peer),
        Error::Thread(_) | Error::Listen { .. } | Error::Resealing(_) => {
            Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
        }
        Error::Closed | Error::Silent(_) | Error::Stuck => {
            Ending::because(Kind::StillAtSource, error).fault(Fault::Network)
        }
    }
}

fn of_reason(reason: &sealift_identity::Reason) -> Ending {
    use sealift_identity::{Fault as Found, Kind as About};
    let kind = match reason.kind {
        About::Identity => Kind::Authentication,
        About::Protocol | About::Connection => Kind::StillAtSource,
    };
    Ending::new(kind, reason.to_string()).fault(match reason.fault {
        Found::ThisHost => Fault::ThisHost,
        Found::Peer => Fault::Peer,
        Found::Network => Fault::Network,
    })
}

fn own(invalid: &Invalid) -> Ending {
    Ending::because(Kind::StillAtSource, invalid).fault(Fault::ThisHost)
}

fn broken(error: &sealift_seal::Error) -> Ending {
    Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
}
