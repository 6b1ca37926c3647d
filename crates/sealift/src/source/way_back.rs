//! The way back to the receiver, when connections broke.
//!
//! ```text
//!  broken ─▶ connect ─▶ TLS: the same identity ─▶ keys: the same process ─▶ Resume, both ways ─▶ lanes ─▶ back
//!    ▲          │ not now: a little later, and each time a little later still                      │
//!    └──────────┴──────────────────────────────────────────────────────────────────────────────────┘ until the time is over
//! ```
//!
//! QEMU notices nothing of it but a socket that nobody reads, and the guest runs on.

use std::sync::Arc;
use std::time::Duration;

use sealift::event::Peer;
use sealift::outcome::{Ending, Fault as Owner, Kind};
use sealift_identity::Pki;
use sealift_net::control::{Receiver, Sender};
use sealift_net::outbound::Lane;
use sealift_seal::{Keyed, Resumption, Source, Suite};
use sealift_session::control::{
    Bytes, Choice, ErrorKind, Failure, Fault, Frame, Message, Resume, SessionId, Text,
};
use sealift_session::handshake::again::{Known, Returning};
use sealift_session::handshake::{Agreed, Failed, Reason};
use tokio::time::{Instant, sleep, timeout};

use super::link::{self, Link, Order};
use crate::ending::{failure, failure_of};
use crate::random;

/// An attempt is given up after so long: on the longest line a handful of round trips, and a lost packet or two.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(8);
/// What is waited after the first attempt that fails, and twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Up to this: a link that comes back is noticed soon, and a host that restarts is not flooded.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What it takes to come back.
#[derive(Debug)]
pub(crate) struct WayBack {
    pub(crate) order: Order,
    pub(crate) pki: Arc<Pki>,
    pub(crate) session: SessionId,
    pub(crate) suite: Suite,
    pub(crate) choice: Choice,
    pub(crate) resumption: Resumption,
    /// Whom the receiver's certificate named at first.
    pub(crate) identity: String,
}

/// What this end has of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Has {
    /// Messages that it has heard of those that must be heard.
    pub(crate) heard: u64,
    /// The lowest batch that is not acknowledged to it.
    pub(crate) lowest: u64,
}

/// It is back.
pub(crate) struct Back {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) keys: Keyed<Source>,
    pub(crate) lanes: Vec<Lane>,
    /// What the receiver has.
    pub(crate) theirs: Resume,
    /// Where it was found.
    pub(crate) peer: Peer,
}

/// Why an attempt failed.
enum Trouble {
    /// As it may at any time: another one follows.
    Passing(String),
    /// The receiver will not have it, now or later.
    Final(Failure),
}

impl WayBack {
    /// After a session was agreed on; none where nobody wants to come back.
    pub(super) fn new(
        order: &Order,
        pki: &Arc<Pki>,
        link: &Link,
        agreed: &Agreed<Source>,
    ) -> Result<Option<Self>, Ending> {
        if order.resume_for.is_zero() {
            return Ok(None);
        }
        let resumption = agreed
            .keyed
            .resumption()
            .map_err(|error| Ending::because(Kind::StillAtSource, &error).fault(Owner::ThisHost))?;
        Ok(Some(Self {
            order: order.clone(),
            pki: Arc::clone(pki),
            session: agreed.session,
            suite: agreed.suite,
            choice: agreed.choice.clone(),
            resumption,
            identity: link.identity.clone(),
        }))
    }

    /// Tries until it is back, or the time is over. The error says why for good, or what was the matter last.
    /// The first attempt is made at once, unless the last one brought nothing that lasted.
    pub(crate) async fn take(
        &self,
        has: Has,
        at_once: bool,
        until: Instant,
    ) -> Result<Back, Failure> {
        let mut pause = FIRST_PAUSE;
        if !at_once {
            sleep(jittered(LONGEST_PAUSE)).await;
        }
        loop {
            let within = ATTEMPT_WITHIN.min(until.saturating_duration_since(Instant::now()));
            let why = match timeout(within, self.attempt(has)).await {
                Ok(Ok(back)) => return Ok(back),
                Ok(Err(Trouble::Final(failure))) => return Err(failure),
                Ok(Err(Trouble::Passing(why))) => why,
                Err(_) => "the receiver does not answer".to_owned(),
            };
            let pauses = jittered(pause);
            if Instant::now() + pauses >= until {
                return Err(failure(ErrorKind::Timeout, Fault::Network, &why));
            }
            sleep(pauses).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, has: Has) -> Result<Back, Trouble> {
        let passing = |ending: Ending| Trouble::Passing(ending.line());
        let (mut link, seen) = link::connect(&self.order, &self.pki)
            .await
            .map_err(passing)?;
        if link.identity != self.identity {
            let why = format!(
                "{} is {} now, and was {} before",
                link.address, link.identity, self.identity
            );
            return Err(Trouble::Passing(why));
        }
        let known = Known {
            session: self.session,
            suite: self.suite,
            resumption: &self.resumption,
        };
        let name = Text::new("Hello.peer_name", self.order.peer_name.clone()).map_err(own)?;
        let seed = link::seed().map_err(passing)?;
        let software = Text::cut(crate::SOFTWARE);
        let refuse = |link: &Link, failed: Failed| refused(link, &failed);
        let (returning, frames) = Returning::new(known, seen, name, software, seed)
            .map_err(|failed| refuse(&link, failed))?;
        for frame in frames {
            link.send(frame, &self.pki).map_err(passing)?;
        }
        let received = link.next(&self.pki).await.map_err(passing)?;
        let exchanging = returning
            .receive(received)
            .map_err(|failed| refuse(&link, failed))?;
        link.receiver.accept_hello();
        let received = link.next(&self.pki).await.map_err(passing)?;
        let (confirming, confirmation) = exchanging
            .receive(received)
            .map_err(|failed| refuse(&link, failed))?;
        let ours = Resume {
            heard: has.heard,
            lowest: has.lowest,
            seen: Bytes::new("Resume.seen", vec![]).map_err(own)?,
        };
        for frame in [confirmation, Frame::of(Message::Resume(ours))] {
            link.send(frame, &self.pki).map_err(passing)?;
        }
        let received = link.next(&self.pki).await.map_err(passing)?;
        let mut keys = confirming
            .receive(received)
            .map_err(|failed| refuse(&link, failed))?;
        let theirs = match link.next(&self.pki).await.map_err(passing)?.message {
            Message::Resume(theirs) => theirs,
            Message::Failure(told) => return Err(Trouble::Final(told)),
            other => {
                let why = format!("the receiver sent {} in place of Resume", other.kind());
                let why = failure(ErrorKind::Protocol, Fault::Receiver, &why);
                return Err(Trouble::Final(why));
            }
        };
        let lanes = link
            .open_lanes(&self.pki, self.session, &self.choice, &mut keys)
            .await
            .map_err(passing)?;
        let Link {
            sender,
            receiver,
            peer,
            ..
        } = link;
        Ok(Back {
            sender,
            receiver,
            keys,
            lanes,
            theirs,
            peer,
        })
    }
}

/// A handshake that failed does so each time.
fn refused(link: &Link, failed: &Failed) -> Trouble {
    if let Some(told) = failed.to_tell() {
        let _ = link.sender.send(Frame::of(Message::Failure(told)));
    }
    Trouble::Final(match failed.reason() {
        Reason::Told(failure) => failure.clone(),
        _ => failure_of(failed.kind(), failed.fault(), failed),
    })
}

fn own(invalid: sealift_session::control::Invalid) -> Trouble {
    Trouble::Final(failure_of(ErrorKind::Internal, Fault::Source, &invalid))
}

/// Between half of a pause and all of it, so that sessions that broke together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let chance = random::array::<1>().map_or(128, |[byte]| byte);
    pause / 2 + pause * u32::from(chance) / 512
}
