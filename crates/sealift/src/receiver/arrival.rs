//! From a connection to a guest on its way: who it is, which guest, whether it may come, and the lanes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sealift::event::{Access, Admitted, Event, Guest, Peer, Stage, What};
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift_identity::journal::About;
use sealift_identity::{Side, peer_of};
use sealift_net::Error;
use sealift_net::control::{Receiver as Incoming, Secured, Sender};
use sealift_net::inbound::{self, Inbound, Lane, Placed, Plan, Standing, Way};
use sealift_net::lane;
use sealift_pages::{Algorithm, Codecs};
use sealift_precopy::VersionMap;
use sealift_qemu::channel::Closer;
use sealift_seal::{Receiver, Seed, Suite};
use sealift_session::control::{
    Direction, ErrorKind, Failure, Fault as Blame, Frame, LaneCount, LaneToken, LaneTokens,
    Message, MirrorBudget, RefusalKind, Role, SessionId, Text,
};
use sealift_session::handoff::ReceiverHandoff;
use sealift_session::handoff::receiver::Terms;
use sealift_session::handshake::receiver::{Abilities, Considering, Expecting};
use sealift_session::handshake::{Agreed, Failed, Reason};
use sealift_session::lane::LaneHello;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::relay::{self, Clearance, Relay};
use super::session::{Session, Sources};
use super::story::Story;
use super::target::Taken;
use super::{Came, Here, Visitor, admission, qemu_says};
use crate::ending::{failure, failure_of, whole};
use crate::journals::Shared as Journals;
use crate::monitor::Monitor;
use crate::{ending, random};

/// How long the source may take for a step. Its admission comes when its QEMU has begun to migrate.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// How long lanes may take to come.
const LANES_WITHIN: Duration = Duration::from_secs(30);
/// The most lanes that are admitted: beyond some tens they only divide the same link.
const LANES_MAX: u32 = 64;
/// The most memory for contents that both ends remember.
const SLOTS_MAX: u64 = 256 << 20;

/// Takes a connection to its end.
pub(super) async fn arrive(
    here: Arc<Here>,
    connection: Box<Secured>,
    from: SocketAddr,
    cancel: mpsc::Receiver<()>,
) -> Came {
    match Arrival::greet(here, connection, from).await {
        Ok(arrival) => match arrival.admit().await {
            Ok((guest, agreed)) => Came::Guest(guest.carry(agreed, cancel).await),
            Err(ending) => Came::Nothing(ending),
        },
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

/// A guest that was admitted.
struct Arriving {
    here: Arc<Here>,
    sender: Sender,
    receiver: Incoming,
    taken: Taken,
    /// Kept until the guest is here, or is not.
    turn: OwnedMutexGuard<()>,
    visitors: mpsc::Receiver<Visitor>,
    peer: Peer,
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

    /// Agrees on how and on what.
    async fn admit(mut self) -> Result<(Arriving, Agreed<Receiver>), Ending> {
        match self.negotiate().await {
            Ok((taken, turn, considering)) => self.decide(taken, turn, considering).await,
            Err(ending) => {
                self.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    }

    async fn negotiate(
        &mut self,
    ) -> Result<(Taken, Option<OwnedMutexGuard<()>>, Considering), Ending> {
        // Whoever comes second is told why before anything else is agreed on.
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

        let received = self.next().await?;
        let secured = self
            .secured
            .take()
            .ok_or_else(|| Ending::new(Kind::Host, "a connection was used twice"))?;
        let expecting = Expecting::new(secured, Text::cut(crate::SOFTWARE));
        let (greeted, hello) = expecting
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        self.receiver.accept_hello();
        self.send(hello)?;
        self.tell(
            greeted.session(),
            What::Connected {
                peer: self.peer.clone(),
                tls: crate::TLS.to_owned(),
            },
        );
        let abilities = abilities(&taken)
            .map_err(|invalid| Ending::because(Kind::Host, &invalid).fault(Fault::ThisHost))?;
        let received = self.next().await?;
        let (chosen, choice) = greeted
            .receive(received, &abilities)
            .map_err(|failed| self.refuse(&failed))?;
        self.send(choice)?;
        let received = self.next().await?;
        let considering = chosen
            .receive(received)
            .map_err(|failed| self.refuse(&failed))?;
        Ok((taken, turn, considering))
    }

    async fn decide(
        mut self,
        taken: Taken,
        turn: Option<OwnedMutexGuard<()>>,
        considering: Considering,
    ) -> Result<(Arriving, Agreed<Receiver>), Ending> {
        let decided = match &turn {
            None => Err(admission::refused(
                RefusalKind::Busy,
                "the destination's QEMU is taken by another session; wait until it has ended",
            )),
            Some(_) => admission::decide(considering.admission(), taken.waiting.as_ref()),
        };
        let ready = match decided {
            Ok(free) => taken.prepare().await.map(|()| free).map_err(|error| {
                let why = format!(
                    "the destination's QEMU cannot be made ready: {}",
                    whole(&error)
                );
                admission::refused(RefusalKind::Destination, &why)
            }),
            Err(refused) => Err(refused),
        };
        let (free, turn) = match (ready, turn) {
            (Ok(free), Some(turn)) => (free, turn),
            (Err(refused), _) => {
                let name = considering.admission().name.as_str().to_owned();
                let why = refused.explanation.as_str().to_owned();
                let _ = self.sender.send(considering.refuse(refused));
                self.sender.close(STEP_WITHIN).await;
                let message = format!("{name} from {} was refused: {why}", self.peer.name);
                return Err(Ending::new(Kind::Refused, message));
            }
            (Ok(_), None) => return Err(Ending::new(Kind::Host, "no turn")),
        };
        let session = considering.session();
        // Before the source knows that lanes may come.
        let visitors = self.here.rooms.enter(session);
        let agreed = self.agree(considering, free).await;
        match agreed {
            Ok(agreed) => Ok((
                Arriving {
                    here: self.here,
                    sender: self.sender,
                    receiver: self.receiver,
                    taken,
                    turn,
                    visitors,
                    peer: self.peer,
                },
                agreed,
            )),
            Err(ending) => {
                self.here.rooms.leave(session);
                self.sender.close(STEP_WITHIN).await;
                Err(ending)
            }
        }
    }

    async fn agree(
        &mut self,
        considering: Considering,
        free: u64,
    ) -> Result<Agreed<Receiver>, Ending> {
        let (admitted, verdict) = considering.accept(free);
        self.send(verdict)?;
        let received = self.next().await?;
        let seed = Seed::fill(|bytes| random::fill(bytes)).map_err(|error| host(&error))?;
        let (confirming, frames) = admitted
            .receive(received, seed)
            .map_err(|failed| self.refuse(&failed))?;
        for frame in frames {
            self.send(frame)?;
        }
        let received = self.next().await?;
        confirming
            .receive(received)
            .map_err(|failed| self.refuse(&failed))
    }

    fn tell(&self, session: SessionId, what: What) {
        self.here.reporter.tell(Event {
            at: SystemTime::now(),
            session: Some(session),
            what,
        });
    }

    async fn next(&mut self) -> Result<sealift_session::control::Received, Ending> {
        self.receiver
            .receive_within(STEP_WITHIN)
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

fn abilities(taken: &Taken) -> Result<Abilities, sealift_session::control::Invalid> {
    Ok(Abilities {
        suites: Suite::ALL.to_vec(),
        digests: vec![Algorithm::Blake3, Algorithm::Sha256],
        codecs: Codecs::ALL,
        lanes: LaneCount::new("Choice.lanes", LANES_MAX)?,
        mirror: MirrorBudget::new(SLOTS_MAX, 0, 0)?,
        destination: taken.destination.clone(),
    })
}

impl Arriving {
    /// Opens the lanes and receives the guest.
    async fn carry(mut self, mut agreed: Agreed<Receiver>, cancel: mpsc::Receiver<()>) -> Ending {
        let session = agreed.session;
        let opened = self.lanes(&mut agreed).await;
        self.here.rooms.leave(session);
        let begun = match opened {
            Ok(lanes) => self.begin(agreed, lanes, cancel).await,
            Err(failed) => Err((failed, self.sender)),
        };
        match begun {
            Ok((session, sources)) => session.run(sources).await,
            Err((told, sender)) => {
                let ending = Ending::failed(Role::Receiver, &told, Teller::Us);
                let _ = sender.send(Frame::of(Message::Failure(told)));
                sender.close(STEP_WITHIN).await;
                ending
            }
        }
    }

    /// Sends a token for each lane, and waits until each has come and its first epoch was announced.
    async fn lanes(&mut self, agreed: &mut Agreed<Receiver>) -> Result<Vec<Lane>, Failure> {
        let tokens = tokens(agreed.choice.lanes)?;
        let key = agreed
            .keyed
            .lane_hello_key()
            .map_err(|error| failure_of(ErrorKind::Internal, Blame::Receiver, &error))?;
        let unused = tokens.as_slice().to_vec();
        self.send(Message::LaneTokens(tokens))?;
        let mut waiting: BTreeMap<u8, LaneToken> = unused
            .into_iter()
            .map(|token| (token.lane(), token))
            .collect();
        let wanted = waiting.len();
        let mut epochs = BTreeMap::new();
        let mut streams = BTreeMap::new();
        let deadline = Instant::now() + LANES_WITHIN;
        while streams.len() < wanted || epochs.len() < wanted {
            let next = async {
                tokio::select! {
                    received = self.receiver.receive() => Next::Message(received),
                    Some(visitor) = self.visitors.recv() => Next::Visitor(visitor),
                }
            };
            match timeout_at(deadline, next).await {
                Ok(Next::Message(Ok(received))) => match received.message {
                    Message::Epoch(epoch) => {
                        epoch.check_within(&agreed.choice).map_err(|error| {
                            failure_of(ErrorKind::Protocol, Blame::Source, &error)
                        })?;
                        epochs.entry(epoch.lane()).or_insert(epoch);
                    }
                    Message::Failure(told) => return Err(told),
                    other => {
                        return Err(failure(
                            ErrorKind::Protocol,
                            Blame::Source,
                            &format!(
                                "the source sent {} before its lanes were open",
                                other.kind()
                            ),
                        ));
                    }
                },
                Ok(Next::Message(Err(error))) => {
                    return Err(failure_of(ErrorKind::Timeout, Blame::Network, &error));
                }
                Ok(Next::Visitor((stream, hello))) => {
                    // Whoever cannot prove it is closed without a word, and changes nothing.
                    let proven = LaneHello::parse(&hello).ok().and_then(|hello| {
                        let token = waiting.get(&hello.lane())?;
                        hello.prove(&key, token).ok()
                    });
                    if let Some(proven) = proven
                        && proven.direction() == Direction::SourceToReceiver
                    {
                        waiting.remove(&proven.lane());
                        let stream = lane::blocking(stream).map_err(|error| {
                            failure_of(ErrorKind::Resources, Blame::Receiver, &error)
                        })?;
                        streams.insert(proven.lane(), stream);
                    }
                }
                Err(_) => {
                    return Err(failure(
                        ErrorKind::Timeout,
                        Blame::Network,
                        &format!(
                            "{} of {wanted} lanes came within {} s: is the port open for further connections?",
                            streams.len(),
                            LANES_WITHIN.as_secs()
                        ),
                    ));
                }
            }
        }
        streams
            .into_iter()
            .filter_map(|(number, stream)| Some((stream, *epochs.get(&number)?)))
            .map(|(stream, epoch)| {
                let opener = agreed.keyed.opener(epoch.lane(), epoch.epoch());
                opener
                    .map(|opener| Lane {
                        way: Way::Peer(stream),
                        opener,
                    })
                    .map_err(|error| failure_of(ErrorKind::Protocol, Blame::Source, &error))
            })
            .collect()
    }

    /// Connects QEMU and starts the threads.
    async fn begin(
        self,
        agreed: Agreed<Receiver>,
        lanes: Vec<Lane>,
        cancel: mpsc::Receiver<()>,
    ) -> Result<(Session, Sources), (Failure, Sender)> {
        let Self {
            here,
            sender,
            receiver,
            taken,
            turn,
            peer,
            ..
        } = self;
        match start(&here, taken, turn, &peer, agreed, lanes).await {
            Ok(Started {
                inbound,
                placed,
                clearance,
                closer,
                monitor,
                handoff,
                journal,
                story,
                blocks,
                digest,
                turn,
                sources: (from_inbound, from_relay, from_qemu),
            }) => Ok((
                Session {
                    sender,
                    receiver,
                    inbound,
                    placed,
                    clearance,
                    closer,
                    monitor,
                    handoff,
                    journal,
                    story,
                    blocks,
                    digest,
                    _turn: turn,
                },
                Sources {
                    inbound: from_inbound,
                    relay: from_relay,
                    qemu: from_qemu,
                    cancel,
                },
            )),
            Err(failed) => Err((failed, sender)),
        }
    }

    fn send(&self, message: Message) -> Result<(), Failure> {
        self.sender
            .send(Frame::of(message))
            .map_err(|error| failure_of(ErrorKind::Timeout, Blame::Network, &error))
    }
}

/// What comes first while lanes are awaited.
enum Next {
    Message(Result<sealift_session::control::Received, Error>),
    Visitor(Visitor),
}

fn tokens(lanes: LaneCount) -> Result<LaneTokens, Failure> {
    let internal = |error: &(dyn std::error::Error + 'static)| {
        failure_of(ErrorKind::Internal, Blame::Receiver, error)
    };
    let tokens = (0..lanes.lanes()).map(|lane| {
        let mut token = Zeroizing::new([0; 32]);
        random::fill(token.as_mut_slice()).map_err(|error| internal(&error))?;
        // At most 256 of them.
        Ok(LaneToken::new(u8::try_from(lane).unwrap_or(u8::MAX), token))
    });
    LaneTokens::new(tokens.collect::<Result<_, _>>()?).map_err(|error| internal(&error))
}

/// What [`start`] has started.
struct Started {
    inbound: Inbound,
    placed: Placed,
    clearance: Clearance,
    closer: Closer,
    monitor: Option<Monitor>,
    handoff: ReceiverHandoff,
    journal: Arc<Journals>,
    story: Story,
    blocks: Vec<String>,
    digest: Algorithm,
    turn: OwnedMutexGuard<()>,
    sources: (
        mpsc::UnboundedReceiver<inbound::Event>,
        mpsc::UnboundedReceiver<relay::Event>,
        mpsc::UnboundedReceiver<qemu_says::Says>,
    ),
}

async fn start(
    here: &Here,
    taken: Taken,
    turn: OwnedMutexGuard<()>,
    peer: &Peer,
    agreed: Agreed<Receiver>,
    lanes: Vec<Lane>,
) -> Result<Started, Failure> {
    let resources = |error: &(dyn std::error::Error + 'static)| {
        failure_of(ErrorKind::Resources, Blame::Receiver, error)
    };
    let admission = &agreed.admission;
    let journal = Journals::create(
        &here.journals,
        agreed.session.0,
        Side::Receiver,
        &About {
            guest_name: admission.name.as_str().to_owned(),
            guest_uuid: admission.uuid,
            peer_name: peer.name.clone(),
            qmp_address: taken
                .monitor
                .as_ref()
                .map(|monitor| monitor.address().to_string()),
        },
    )
    .map_err(|error| resources(&error))?;
    let main = taken
        .connect()
        .await
        .map_err(|why| failure(ErrorKind::Qemu, Blame::Receiver, &why))?;

    let (events, from_inbound) = mpsc::unbounded_channel();
    let (says, from_qemu) = mpsc::unbounded_channel();
    let (relayed, from_relay) = mpsc::unbounded_channel();
    let placed = Placed::new(events.clone());
    let page_size = agreed.layout.page_size();
    let managed = taken.monitor.is_some();
    qemu_says::listen(main.reader, says).map_err(|error| resources(&error))?;
    let (relay, clearance) = Relay::start(
        main.writer,
        page_size,
        !managed,
        taken.connector(),
        placed.clone(),
        relayed,
    )
    .map_err(|error| resources(&error))?;
    let page_bytes = page_size.bytes() as u64;
    let blocks = admission.blocks.as_slice();
    let pages: Vec<u64> = blocks
        .iter()
        .map(|block| block.length() / page_bytes)
        .collect();
    let names = blocks
        .iter()
        .map(|block| String::from_utf8_lossy(block.name()).into_owned())
        .collect();
    let story = Story {
        reporter: Arc::clone(&here.reporter),
        session: agreed.session,
        guest: admission.name.as_str().to_owned(),
        page_bytes,
        stage: Stage::Reservation,
        teller: Teller::Us,
        last: Standing::default(),
    };
    story.tell(What::Admitted(Admitted {
        guest: Guest {
            name: Some(admission.name.as_str().to_owned()),
            uuid: (admission.uuid != [0; 16]).then_some(admission.uuid),
        },
        memory_bytes: admission.memory_needed,
        lanes: agreed.choice.lanes.lanes(),
        suite: agreed.suite,
        access: Access::Relay,
        access_reason: "the only placement that this version has".to_owned(),
    }));
    let inbound = Inbound::start(
        Plan {
            layout: Arc::new(agreed.layout),
            workers: crate::workers(),
            versions: VersionMap::new(&pages),
            keys: agreed.keyed,
        },
        lanes,
        Box::new(relay),
        placed.clone(),
        events,
    )
    .map_err(|error| resources(&error))?;
    Ok(Started {
        inbound,
        placed,
        clearance,
        closer: main.closer,
        monitor: taken.monitor,
        handoff: ReceiverHandoff::new(Terms {
            managed,
            verify: agreed.offer.verify_full,
        }),
        journal: Arc::new(journal),
        story,
        blocks: names,
        digest: agreed.digest,
        turn,
        sources: (from_inbound, from_relay, from_qemu),
    })
}

fn lost(error: &Error) -> Ending {
    Ending::because(Kind::StillAtSource, error).fault(Fault::Network)
}

fn host(error: &(dyn std::error::Error + 'static)) -> Ending {
    Ending::because(Kind::Host, error).fault(Fault::ThisHost)
}
