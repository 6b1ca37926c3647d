//! From a connection to an admitted guest: who brings it, how it is to come, which one it is, and whether it may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sealift::event::{Peer, Stage, What};
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift_identity::peer_of;
use sealift_net::Error;
use sealift_net::control::{Receiver as Incoming, Secured, Sender};
use sealift_pages::{Algorithm, Codecs, WINDOW_MEMORY};
use sealift_seal::{Keyed, Receiver, Suite};
use sealift_session::control::{
    ErrorKind, Fault as Blame, Frame, LaneCount, LaneTokens, Message, MirrorBudget, Received,
    RefusalKind, Resume, Role, Text,
};
use sealift_session::handshake::again::Returned;
use sealift_session::handshake::receiver::{Abilities, Asked, Considering, Expecting, Greeted};
use sealift_session::handshake::{Agreed, Failed, Reason};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::comeback::{Comeback, Kept};
use super::opening::Arriving;
use super::target::Taken;
use super::{Came, Here, admission, lanes};
use crate::ending;
use crate::ending::{failure, whole};
use crate::source::seed;

/// How long the source may take for a step. Its admission comes when its QEMU has begun to migrate.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to say who it is and what it can.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// The most lanes that are admitted: as many as one address may have connections that have proven nothing yet, and beyond some they only
/// divide the same link.
const LANES_MAX: u32 = 16;
/// The most memory for contents that both ends remember.
const SLOTS_MAX: u64 = 256 << 20;
/// The same where pages are placed: what is there is read back, and what is remembered is what may still be on its way there.
const SLOTS_TO_PLACE: u64 = 32 << 20;
/// The most memory for windows. A source whose link is what it waits for has few workers at work, so four see as far as more would.
const WINDOWS_MAX: u64 = 4 * WINDOW_MEMORY;

/// Takes a connection to its end.
pub(super) async fn arrive(
    here: Arc<Here>,
    connection: Box<Secured>,
    from: SocketAddr,
    mut cancel: mpsc::Receiver<()>,
) -> Came {
    let admitted = async {
        let mut arrival = Arrival::greet(here, connection, from).await?;
        match arrival.hello().await {
            Ok(Asked::First(..)) if arrival.here.leaving.load(Ordering::Relaxed) => {
                arrival.sender.close(STEP_WITHIN).await;
                Err(Ending::stopped())
            }
            Ok(Asked::First(greeted, hello)) => arrival.admit(greeted, hello).await.map(Some),
            Ok(Asked::Again(returned)) => arrival.come_back(returned).await.map(|()| None),
            Err(ending) => {
                arrival.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    };
    let admitted = tokio::select! {
        admitted = admitted => admitted,
        Some(()) = cancel.recv() => Err(Ending::stopped()),
    };
    match admitted {
        Ok(Some((guest, agreed))) => Came::Guest(guest.carry(agreed, cancel).await),
        Ok(None) => Came::Back,
        Err(ending) => Came::Nothing(ending),
    }
}

/// A peer that is allowed to bring guests.
struct Arrival {
    here: Arc<Here>,
    sender: Sender,
    receiver: Incoming,
    peer: Peer,
    /// Until the handshake takes it.
    secured: Option<sealift_session::handshake::Secured>,
}

impl Arrival {
    async fn greet(
        here: Arc<Here>,
        connection: Box<Secured>,
        from: SocketAddr,
    ) -> Result<Self, Ending> {
        let identity = peer_of(connection.tls())
            .map_err(|error| Ending::because(Kind::Authentication, &error).fault(Fault::Peer))?;
        let secured = sealift_session::handshake::Secured {
            exporter: connection.exporter().map_err(|error| lost(&error))?,
            own_certificate: here.pki.own_certificate().to_vec(),
            peer_certificate: identity.certificate.clone(),
        };
        let peer = Peer {
            name: identity.to_string(),
            fingerprint: identity.fingerprint.clone(),
            address: from.to_string(),
        };
        let (sender, receiver) = connection.split();
        if let Err(refusal) = here.allowed.admits(&identity) {
            let told = failure(ErrorKind::Identity, Blame::User, &refusal.to_string());
            let _ = sender.send(Frame::of(Message::Failure(told)));
            sender.close(STEP_WITHIN).await;
            let message = format!("{} was refused: {refusal}", peer.address);
            return Err(Ending::new(Kind::Authentication, message).fault(Fault::Peer));
        }
        Ok(Self {
            here,
            sender,
            receiver,
            peer,
            secured: Some(secured),
        })
    }

    /// Takes the source's hello.
    async fn hello(&mut self) -> Result<Asked, Ending> {
        let received = self.next(HELLO_WITHIN).await?;
        let secured = self
            .secured
            .take()
            .ok_or_else(|| Ending::new(Kind::Host, "a connection was used twice"))?;
        let expecting = Expecting::new(secured, Text::cut(crate::SOFTWARE));
        let asked = expecting
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        self.receiver.accept_hello();
        Ok(asked)
    }

    /// Brings a source that comes back to its session.
    async fn come_back(mut self, returned: Returned) -> Result<(), Ending> {
        match self.prove(returned).await {
            Ok((kept, keys, theirs)) => {
                let Self {
                    sender,
                    receiver,
                    peer,
                    ..
                } = self;
                let comeback = Comeback {
                    sender,
                    receiver,
                    keys,
                    theirs,
                    peer,
                };
                // One after the other; and where the session has ended, the connection ends.
                let _ = kept.comebacks.send(comeback).await;
                Ok(())
            }
            Err(ending) => {
                self.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    }

    /// It is the one, or it gets nothing.
    async fn prove(
        &mut self,
        returned: Returned,
    ) -> Result<(Arc<Kept>, Keyed<Receiver>, Resume), Ending> {
        let session = returned.session();
        let kept = self.here.rooms.kept(session);
        // Somebody else's session is as unknown to him as one that is not here.
        let kept = kept.filter(|kept| kept.identity == self.peer.name);
        let Some(kept) = kept else {
            let failed = returned.refuse();
            return Err(self.refuse(&failed));
        };
        let (welcomed, hello) = returned.take_up(kept.known(session));
        self.send(hello)?;
        let received = self.next(HELLO_WITHIN).await?;
        let seed = seed()?;
        let (welcoming, frames) = welcomed
            .receive(received, seed)
            .map_err(|failed| self.refuse(&failed))?;
        for frame in frames {
            self.send(frame)?;
        }
        let received = self.next(HELLO_WITHIN).await?;
        let keys = welcoming
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        match self.next(HELLO_WITHIN).await?.message {
            Message::Resume(theirs) => Ok((kept, keys, theirs)),
            other => {
                let why = format!("the source sent {} in place of Resume", other.kind());
                self.tell_failure(ErrorKind::Protocol, Blame::Source, &why);
                Err(Ending::new(Kind::StillAtSource, why).fault(Fault::Peer))
            }
        }
    }

    /// Agrees on how and on what.
    async fn admit(
        mut self,
        greeted: Greeted,
        hello: Frame,
    ) -> Result<(Arriving, Agreed<Receiver>), Ending> {
        match self.negotiate(greeted, hello).await {
            Ok((taken, turn, considering)) => self.decide(taken, turn, considering).await,
            Err(ending) => {
                self.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    }

    async fn negotiate(
        &mut self,
        greeted: Greeted,
        hello: Frame,
    ) -> Result<(Taken, Option<OwnedMutexGuard<()>>, Considering), Ending> {
        self.send(hello)?;
        let voice = self.here.voice.of(greeted.session());
        // Before that the session has no name here: a connection that proves nothing is none.
        voice.stage(Stage::PreMigration);
        voice.tell(What::Connected {
            peer: self.peer.clone(),
            tls: crate::TLS.to_owned(),
        });
        let offer = self.next(HELLO_WITHIN).await?;

        // Only now: whoever says nothing must not keep others from QEMU.
        let turn = Arc::clone(&self.here.busy).try_lock_owned().ok();
        let taken = match turn {
            Some(_) => Taken::of(Arc::clone(&self.here.target)).await,
            None => Ok(Taken::unasked(Arc::clone(&self.here.target))),
        };
        let taken = taken.map_err(|error| {
            let why = format!("the destination's QEMU cannot be asked: {}", whole(&error));
            self.tell_failure(ErrorKind::Qemu, Blame::Receiver, &why);
            Ending::because(Kind::Host, &error).fault(Fault::ThisHost)
        })?;
        let abilities = abilities(&taken).map_err(|invalid| host(&invalid))?;
        let (chosen, choice) = greeted
            .receive(offer, &abilities)
            .map_err(|failed| self.refuse(&failed))?;
        self.send(choice)?;
        let received = self.next(STEP_WITHIN).await?;
        let considering = chosen
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        Ok((taken, turn, considering))
    }

    async fn decide(
        mut self,
        mut taken: Taken,
        turn: Option<OwnedMutexGuard<()>>,
        considering: Considering,
    ) -> Result<(Arriving, Agreed<Receiver>), Ending> {
        let session = considering.session();
        self.here.voice.of(session).stage(Stage::Reservation);
        let decided = match &turn {
            None => Err(admission::refused(
                RefusalKind::Busy,
                "the destination's QEMU is taken by another session; wait until it has ended",
            )),
            Some(_) => admission::decide(considering.admission(), taken.waiting.as_ref()),
        };
        let ready = match decided {
            Ok(free) => ready(&mut taken, &considering)
                .await
                .map(|()| free)
                .map_err(|why| {
                    let why = format!("the destination's QEMU cannot be made ready: {why}");
                    admission::refused(RefusalKind::Destination, &why)
                }),
            Err(refused) => Err(refused),
        };
        let (free, turn) = match (ready, turn) {
            (Ok(free), Some(turn)) => (free, turn),
            (Err(refused), _) => {
                taken.put_back(&self.here.voice.of(session)).await;
                let name = considering.admission().name.as_str().to_owned();
                let why = refused.explanation.as_str().to_owned();
                let _ = self.sender.send(considering.refuse(refused));
                self.sender.close(STEP_WITHIN).await;
                let message = format!("{name} from {} was refused: {why}", self.peer.name);
                return Err(Ending::new(Kind::Refused, message));
            }
            (Ok(_), None) => return Err(Ending::new(Kind::Host, "no turn")),
        };
        // Before the source knows that lanes may come.
        let visitors = self.here.rooms.enter(session);
        let agreed = self.agree(considering, free).await;
        match agreed {
            Ok((agreed, tokens)) => Ok((
                Arriving {
                    here: self.here,
                    sender: self.sender,
                    receiver: self.receiver,
                    taken,
                    turn,
                    visitors,
                    peer: self.peer,
                    tokens,
                },
                agreed,
            )),
            Err(ending) => {
                self.here.rooms.leave(session);
                taken.put_back(&self.here.voice.of(session)).await;
                self.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    }

    async fn agree(
        &mut self,
        considering: Considering,
        free: u64,
    ) -> Result<(Agreed<Receiver>, LaneTokens), Ending> {
        let tokens = lanes::tokens(considering.choice().lanes)
            .map_err(|failure| Ending::failed(Role::Receiver, &failure, Teller::Us))?;
        let (admitted, verdict) = considering.accept(free);
        self.send(verdict)?;
        let received = self.next(STEP_WITHIN).await?;
        let seed = seed()?;
        let (confirming, frames) = admitted
            .receive(received, seed)
            .map_err(|failed| self.refuse(&failed))?;
        for frame in frames {
            self.send(frame)?;
        }
        // They open nothing without the keys, so the source's confirmation need not be here yet.
        self.send(Frame::of(Message::LaneTokens(tokens.clone())))?;
        let received = self.next(STEP_WITHIN).await?;
        let agreed = confirming
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        Ok((agreed, tokens))
    }

    async fn next(&mut self, within: Duration) -> Result<Received, Ending> {
        self.receiver
            .receive_within(within)
            .await
            .map_err(|error| lost(&error))
    }

    fn send(&self, frame: Frame) -> Result<(), Ending> {
        self.sender.send(frame).map_err(|error| lost(&error))
    }

    fn tell_failure(&self, kind: ErrorKind, fault: Blame, why: &str) {
        let told = failure(kind, fault, why);
        let _ = self.sender.send(Frame::of(Message::Failure(told)));
    }

    /// Tells the peer what is wrong, if it is for the peer to know, and the operator.
    fn refuse(&self, failed: &Failed) -> Ending {
        if let Some(told) = failed.to_tell() {
            let _ = self.sender.send(Frame::of(Message::Failure(told)));
        }
        match failed.reason() {
            Reason::Told(failure) => Ending::failed(Role::Receiver, failure, Teller::Peer),
            _ => ending::found(failed),
        }
    }
}

/// Makes the destination's QEMU ready for this guest.
async fn ready(taken: &mut Taken, considering: &Considering) -> Result<(), String> {
    taken.prepare().await?;
    taken.reach(&considering.admission().blocks).await
}

fn abilities(taken: &Taken) -> Result<Abilities, sealift_session::control::Invalid> {
    let slots = match taken.is_to_be_placed() {
        true => SLOTS_TO_PLACE,
        false => SLOTS_MAX,
    };
    Ok(Abilities {
        suites: Suite::ALL.to_vec(),
        digests: vec![Algorithm::Blake3, Algorithm::Sha256],
        codecs: Codecs::ALL,
        lanes: LaneCount::new("Choice.lanes", LANES_MAX)?,
        mirror: MirrorBudget::new(slots, 0, WINDOWS_MAX)?,
        destination: taken.destination.clone(),
    })
}

fn lost(error: &Error) -> Ending {
    Ending::because(Kind::StillAtSource, error).fault(Fault::Network)
}

fn host(error: &(dyn std::error::Error + 'static)) -> Ending {
    Ending::because(Kind::Host, error).fault(Fault::ThisHost)
}
