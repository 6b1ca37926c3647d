//! A source with a valid certificate, which says whatever a test wants.

use std::io::Write as _;
use std::net::TcpStream as Blocking;
use std::time::Duration;

use rustls::pki_types::ServerName;
use sealift_identity::peer_of;
use sealift_net::control::{Receiver, Secured, Sender};
use sealift_pages::PageSize;
use sealift_seal::{Seed, Source};
use sealift_session::control::{
    Admission, Bytes, Direction, Distinct, Epoch, Frame, LaneCount, LaneTokens, Message,
    MirrorBudget, Offer, RamBlock, RamBlocks, SessionId, Text,
};
use sealift_session::handshake::source::{Greeting, Negotiated, Request};
use sealift_session::handshake::{Agreed, Reason};
use sealift_session::lane::LaneHello;
use tokio::net::TcpSocket;

use crate::victim::{RECEIVER, Victim};

/// For what a healthy program does at once.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

/// RAM blocks of these names and sizes.
pub(crate) fn blocks(of: &[(&str, u64)]) -> RamBlocks {
    let blocks = of.iter().map(|&(name, length)| {
        let name = Bytes::new("name", name.as_bytes().to_vec()).unwrap();
        RamBlock::new(name, length, PAGE as u64).unwrap()
    });
    RamBlocks::new(blocks.collect()).unwrap()
}

pub(crate) fn admission(blocks: RamBlocks) -> Admission {
    let memory_needed = blocks.as_slice().iter().map(RamBlock::length).sum();
    Admission {
        name: Text::new("name", "web1".to_owned()).unwrap(),
        uuid: [1; 16],
        machine: Text::new("machine", "pc-q35-10.0".to_owned()).unwrap(),
        blocks,
        memory_needed,
    }
}

/// One end of a control channel.
pub(crate) struct Peer {
    sender: Sender,
    receiver: Receiver,
    seen: Option<sealift_session::handshake::Secured>,
    negotiated: Option<Negotiated>,
}

/// One whose guest was taken.
pub(crate) struct Admitted {
    pub(crate) peer: Peer,
    pub(crate) agreed: Agreed<Source>,
}

impl Peer {
    /// Only TLS, from this address of the loopback.
    pub(crate) async fn secured(victim: &Victim, from: u8) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        let own = std::net::Ipv4Addr::new(127, 0, 1, from);
        socket.bind((own, 0).into()).unwrap();
        let stream = socket.connect(victim.address()).await.unwrap();
        let pki = victim.source();
        let name = ServerName::try_from(RECEIVER).unwrap();
        let secured = Secured::connect(stream, name, pki.client_config().unwrap());
        let secured = secured.await.unwrap();
        let seen = sealift_session::handshake::Secured {
            exporter: secured.exporter().unwrap(),
            own_certificate: pki.own_certificate().to_vec(),
            peer_certificate: peer_of(secured.tls()).unwrap().certificate,
        };
        let (sender, receiver) = secured.split();
        Self {
            sender,
            receiver,
            seen: Some(seen),
            negotiated: None,
        }
    }

    /// And a hello.
    pub(crate) async fn hello(victim: &Victim, from: u8) -> Self {
        let mut peer = Self::secured(victim, from).await;
        let (_, [hello, _]) = Greeting::new(peer.seen.take().unwrap(), request());
        peer.sender.send(hello).unwrap();
        peer.next().await;
        peer.receiver.accept_hello();
        peer
    }

    /// And all that is agreed on before the guest.
    pub(crate) async fn greet(victim: &Victim, from: u8) -> Result<Self, String> {
        let mut peer = Self::secured(victim, from).await;
        let (greeting, frames) = Greeting::new(peer.seen.take().unwrap(), request());
        for frame in frames {
            peer.sender.send(frame).unwrap();
        }
        let said = |failed: sealift_session::handshake::Failed| failed.to_string();
        let offering = greeting.receive(peer.next().await).map_err(said)?;
        peer.receiver.accept_hello();
        let negotiated = offering.receive(peer.next().await).map_err(said)?;
        peer.negotiated = Some(negotiated);
        Ok(peer)
    }

    /// Brings a guest, and agrees on keys. The error is why it was refused.
    pub(crate) async fn admit(mut self, admission: Admission) -> Result<Admitted, String> {
        let negotiated = self.negotiated.take().unwrap();
        let seed = Seed::fill(|bytes| {
            bytes.fill(9);
            Ok::<_, std::convert::Infallible>(())
        });
        let (admitting, frames) = negotiated.admit(admission, seed.unwrap()).unwrap();
        for frame in frames {
            self.sender.send(frame).unwrap();
        }
        let verdict = admitting.receive(self.next().await);
        let exchanging = verdict.map_err(|failed| match failed.reason() {
            Reason::Refused(refused) => refused.explanation.as_str().to_owned(),
            _ => failed.to_string(),
        })?;
        let (confirming, frame) = exchanging.receive(self.next().await).unwrap();
        self.sender.send(frame).unwrap();
        let agreed = confirming.receive(self.next().await).unwrap();
        Ok(Admitted { peer: self, agreed })
    }

    pub(crate) fn say(&self, message: Message) {
        self.sender.send(Frame::of(message)).unwrap();
    }

    /// Says something when there is room for it; whether the connection stands.
    pub(crate) async fn try_say(&self, frame: Frame) -> bool {
        if self.sender.send(frame).is_err() {
            // Too much at once, or the end: which, time tells.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return false;
        }
        tokio::task::yield_now().await;
        true
    }

    async fn next(&mut self) -> sealift_session::control::Received {
        self.receiver.receive_within(PATIENCE).await.unwrap()
    }

    /// The receiver ends it, with or without a word.
    pub(crate) async fn is_ended(&mut self) {
        while let Ok(received) = self.receiver.receive_within(PATIENCE).await {
            if matches!(received.message, Message::Failure(_)) {
                return;
            }
        }
    }
}

impl Admitted {
    pub(crate) async fn tokens(&mut self) -> LaneTokens {
        match self.peer.next().await.message {
            Message::LaneTokens(tokens) => tokens,
            other => panic!("{} in place of tokens", other.kind()),
        }
    }

    /// Opens each lane as it must be.
    pub(crate) fn open_lanes(&mut self, victim: &Victim, tokens: &LaneTokens) -> Vec<Blocking> {
        let key = self.agreed.keyed.lane_hello_key().unwrap();
        let lanes = tokens.as_slice().iter().map(|token| {
            let sealer = self.agreed.keyed.sealer(token.lane()).unwrap();
            let way = Direction::SourceToReceiver;
            let epoch = Epoch::new(token.lane(), way, sealer.epoch(), 0).unwrap();
            self.peer.say(Message::Epoch(epoch));
            let hello = LaneHello::new(way, self.agreed.session, token.clone());
            let mut stream = Blocking::connect(victim.address()).unwrap();
            stream.write_all(hello.encode(&key).as_slice()).unwrap();
            stream
        });
        lanes.collect()
    }
}

fn request() -> Request {
    Request {
        session: SessionId(session()),
        peer_name: Text::new("peer", RECEIVER.to_owned()).unwrap(),
        software: None,
        offer: Offer {
            resume_for: Duration::ZERO,
            suites: Distinct::new(
                "suites",
                sealift_seal::Suite::ALL.map(|s| s.number()).to_vec(),
            )
            .unwrap(),
            digests: Distinct::new("digests", vec![2, 1]).unwrap(),
            codecs: Distinct::new("codecs", vec![1]).unwrap(),
            lanes: LaneCount::new("lanes", 2).unwrap(),
            page_size: PageSize::new(PAGE).unwrap(),
            mirror: MirrorBudget::new(64 << 20, 0, 0).unwrap(),
            verify_full: false,
        },
    }
}

/// Another one each time.
fn session() -> [u8; 16] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    id
}
