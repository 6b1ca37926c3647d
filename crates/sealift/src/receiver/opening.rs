//! From an admitted guest to one on its way: the lanes come, QEMU is connected, the threads start.

use std::sync::Arc;

use sealift::event::{Admitted, Guest, Peer, Stage, What};
use sealift::outcome::{Ending, Teller};
use sealift_identity::Side;
use sealift_identity::journal::About;
use sealift_net::Error;
use sealift_net::control::{Receiver as Incoming, Sender};
use sealift_net::inbound::{Inbound, Lane, Placed, Placement, Plan, Standing};
use sealift_precopy::VersionMap;
use sealift_seal::Receiver;
use sealift_session::control::{
    ErrorKind, Failure, Fault, Frame, LaneTokens, Message, Received, Role, SessionId,
};
use sealift_session::handoff::ReceiverHandoff;
use sealift_session::handoff::receiver::Terms;
use sealift_session::handshake::Agreed;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::comeback::{Comeback, Kept};
use super::line::Line;
use super::placer::{self, Beside, Placer, Pongs};
use super::reached::Reached;
use super::reins::Reins;
use super::relay::Relay;
use super::session::{Session, Sources};
use super::story::Story;
use super::target::Taken;
use super::{Here, Visitor, lanes, qemu_says};
use crate::ending::{failure, failure_of};
use crate::journals::Journals;
use crate::memory::Memory;
use crate::tie::{FAREWELL, Tie};

/// A guest that was admitted.
pub(super) struct Arriving {
    pub(super) here: Arc<Here>,
    pub(super) sender: Sender,
    pub(super) receiver: Incoming,
    pub(super) taken: Taken,
    /// Kept until the guest is here, or is not.
    pub(super) turn: OwnedMutexGuard<()>,
    pub(super) visitors: mpsc::Receiver<Visitor>,
    pub(super) peer: Peer,
    /// What was given to the source for its lanes.
    pub(super) tokens: LaneTokens,
}

impl Arriving {
    /// Opens the lanes and receives the guest.
    pub(super) async fn carry(
        mut self,
        mut agreed: Agreed<Receiver>,
        mut cancel: mpsc::Receiver<()>,
    ) -> Ending {
        let session = agreed.session;
        let opened = tokio::select! {
            opened = self.lanes(&mut agreed) => opened,
            Some(()) = cancel.recv() => Err(cancelled()),
        };
        let here = Arc::clone(&self.here);
        let begun = match opened {
            Ok((lanes, early)) => self.begin(agreed, lanes, early, cancel).await,
            Err(failed) => {
                self.put_back(session).await;
                Err((failed, self.sender, vec![]))
            }
        };
        let ending = match begun {
            Ok((session, sources)) => session.run(sources).await,
            Err((told, sender, lanes)) => {
                let ending = Ending::failed(Role::Receiver, &told, Teller::Us);
                let _ = sender.send(Frame::of(Message::Failure(told)));
                sender.close(FAREWELL).await;
                // Not before: a lane that breaks would be all that the source has heard of.
                drop(lanes);
                ending
            }
        };
        here.rooms.leave(session);
        ending
    }

    /// QEMU was not connected, and waits on.
    async fn put_back(&mut self, session: SessionId) {
        self.taken.put_back(&self.here.voice.of(session)).await;
    }

    /// Waits until each lane has come.
    async fn lanes(
        &mut self,
        agreed: &mut Agreed<Receiver>,
    ) -> Result<(Vec<Lane>, Vec<Received>), Failure> {
        let key = agreed
            .keyed
            .lane_hello_key()
            .map_err(|error| failure_of(ErrorKind::Internal, Fault::Receiver, &error))?;
        let (receiver, visitors) = (&mut self.receiver, &mut self.visitors);
        let gathered = lanes::gather(receiver, visitors, &self.tokens, &agreed.choice, &key);
        gathered.await?.open(&mut agreed.keyed)
    }

    /// Connects QEMU and starts the threads.
    async fn begin(
        mut self,
        agreed: Agreed<Receiver>,
        lanes: Vec<Lane>,
        early: Vec<Received>,
        cancel: mpsc::Receiver<()>,
    ) -> Result<(Session, Sources), (Failure, Sender, Vec<Lane>)> {
        let about = About {
            guest_name: agreed.admission.name.as_str().to_owned(),
            guest_uuid: agreed.admission.uuid,
            peer_name: self.peer.name.clone(),
            qmp_address: self
                .taken
                .monitor
                .as_ref()
                .map(|monitor| monitor.address().to_string()),
        };
        let journals = &self.here.journals;
        let journal = Journals::create(journals, agreed.session.0, Side::Receiver, about).await;
        let journal = match journal {
            Ok(journal) => journal,
            Err(error) => {
                self.put_back(agreed.session).await;
                return Err((resources(&*error), self.sender, lanes));
            }
        };
        let main = match self.taken.connect().await {
            Ok(main) => main,
            Err(why) => {
                journal.end(true).await;
                self.put_back(agreed.session).await;
                let why = failure(ErrorKind::Qemu, Fault::Receiver, &why);
                return Err((why, self.sender, lanes));
            }
        };
        let managed = self.taken.monitor.is_some();
        let handoff = ReceiverHandoff::new(Terms {
            managed,
            verify: agreed.offer.verify_full,
        });
        let reached = self.taken.reached.take().unwrap_or_default();
        let (line, comebacks) = match self.line(&agreed) {
            Ok(line) => line,
            Err(why) => {
                journal.end(true).await;
                return Err((why, self.sender, lanes));
            }
        };
        let story = self.story(&agreed, &reached);
        let memory = Memory::of(&agreed.admission.blocks, agreed.digest);
        let choice = agreed.choice.clone();

        let (events, from_inbound) = mpsc::unbounded_channel();
        let (says, from_qemu) = mpsc::unbounded_channel();
        let (relayed, from_relay) = mpsc::unbounded_channel();
        let (placing, from_placer) = mpsc::unbounded_channel();
        let placed = Placed::new(events.clone());
        let pongs = Pongs::new(placed.clone());
        let beside = Beside::new(placed.clone());
        let page_size = agreed.layout.page_size();
        let pages = pages(&agreed);
        let started = qemu_says::listen(main.reader, Some(pongs.clone()), says)
            .and_then(|()| {
                let connector = self.taken.connector();
                let beside = beside.clone();
                Relay::start(main.writer, page_size, !managed, connector, beside, relayed)
            })
            .and_then(|(relay, clearance)| {
                let placement: Box<dyn Placement> = match reached.memory() {
                    None => Box::new(relay),
                    Some(memory) => {
                        let plan = placer::Plan {
                            memory,
                            page_size,
                            pages: pages.clone(),
                            threads: super::threads(),
                            pongs,
                        };
                        Box::new(Placer::start(plan, relay, beside, placing)?)
                    }
                };
                Ok((placement, clearance))
            })
            .map_err(Error::Thread)
            .and_then(|(placement, clearance)| {
                let plan = plan(agreed, &pages);
                let inbound = Inbound::start(plan, lanes, placement, placed.clone(), events)?;
                Ok((inbound, clearance))
            });
        let (inbound, clearance) = match started {
            Ok(started) => started,
            Err(error) => {
                journal.end(true).await;
                return Err((resources(&error), self.sender, vec![]));
            }
        };
        let (reins, looks) = Reins::take(
            self.taken.monitor,
            self.taken.before,
            main.closer,
            clearance,
            memory,
        );
        let session = Session {
            tie: Tie::new(self.sender, self.receiver, Role::Source),
            early,
            line,
            visitors: Arc::new(Mutex::new(self.visitors)),
            inbound,
            placed,
            reins,
            handoff,
            journal,
            story,
            reached,
            choice,
            _turn: self.turn,
        };
        let sources = Sources {
            inbound: from_inbound,
            relay: from_relay,
            placer: from_placer,
            qemu: from_qemu,
            looks,
            cancel,
            comebacks,
        };
        Ok((session, sources))
    }

    /// Lets the source come back, if it wants to.
    fn line(&self, agreed: &Agreed<Receiver>) -> Result<(Line, mpsc::Receiver<Comeback>), Failure> {
        let (comebacks, coming) = mpsc::channel(1);
        if !agreed.offer.resume_for.is_zero() {
            let resumption = agreed
                .keyed
                .resumption()
                .map_err(|error| failure_of(ErrorKind::Internal, Fault::Receiver, &error))?;
            let kept = Kept {
                identity: self.peer.name.clone(),
                suite: agreed.suite,
                resumption,
                comebacks,
            };
            self.here.rooms.keep(agreed.session, kept);
        }
        Ok((Line::new(agreed.offer.resume_for), coming))
    }

    fn story(&self, agreed: &Agreed<Receiver>, reached: &Reached) -> Story {
        let (access, access_reason) = reached.mostly();
        let admission = &agreed.admission;
        let story = Story {
            voice: self.here.voice.of(agreed.session),
            guest: admission.name.as_str().to_owned(),
            page_bytes: agreed.layout.page_size().bytes() as u64,
            stage: Stage::Reservation,
            teller: Teller::Us,
            source_knows: false,
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
            access,
            access_reason,
        }));
        story
    }
}

/// Pages of each block.
fn pages(agreed: &Agreed<Receiver>) -> Vec<u64> {
    let page_bytes = agreed.layout.page_size().bytes() as u64;
    let blocks = agreed.admission.blocks.as_slice().iter();
    blocks.map(|block| block.length() / page_bytes).collect()
}

/// How the way in is to be.
fn plan(agreed: Agreed<Receiver>, pages: &[u64]) -> Plan {
    Plan {
        layout: Arc::new(agreed.layout),
        workers: super::threads(),
        versions: VersionMap::new(pages),
        keys: agreed.keyed,
    }
}

fn resources(error: &(dyn std::error::Error + 'static)) -> Failure {
    failure_of(ErrorKind::Resources, Fault::Receiver, error)
}

fn cancelled() -> Failure {
    failure(
        ErrorKind::Cancelled,
        Fault::User,
        "cancelled at the destination before anything had come",
    )
}
