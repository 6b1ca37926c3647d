//! The lanes of a connection: they come by themselves, and each proves that it belongs here.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use sealift_net::Error;
use sealift_net::control::Receiver as Incoming;
use sealift_net::inbound::{Lane, Way};
use sealift_net::lane;
use sealift_seal::{Keyed, LaneHelloKey, Receiver};
use sealift_session::control::{
    Choice, Direction, Epoch, ErrorKind, Failure, Fault, LaneCount, LaneToken, LaneTokens, Message,
    Received,
};
use sealift_session::lane::LaneHello;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::Visitor;
use crate::ending::{failure, failure_of};
use crate::random;

/// How long lanes may take to come.
const LANES_WITHIN: Duration = Duration::from_secs(30);
/// Messages that are for the session and are kept for it while lanes are awaited; more wait in the connection.
const EARLY_MAX: usize = 64;

/// Lanes that have come, and what the source said meanwhile.
pub(super) struct Gathered {
    lanes: Vec<(TcpStream, Epoch)>,
    pub(super) early: Vec<Received>,
}

/// What comes first while lanes are awaited.
enum Next {
    Message(Result<Received, Error>),
    Visitor(Visitor),
}

/// A token for each lane.
pub(super) fn tokens(lanes: LaneCount) -> Result<LaneTokens, Failure> {
    let internal = |error: &(dyn std::error::Error + 'static)| {
        failure_of(ErrorKind::Internal, Fault::Receiver, error)
    };
    let tokens = (0..lanes.lanes()).map(|lane| {
        let mut token = Zeroizing::new([0; 32]);
        random::fill(token.as_mut_slice()).map_err(|error| internal(&error))?;
        // At most 256 of them.
        Ok(LaneToken::new(u8::try_from(lane).unwrap_or(u8::MAX), token))
    });
    LaneTokens::new(tokens.collect::<Result<_, _>>()?).map_err(|error| internal(&error))
}

/// Waits until a lane has come for each token, and its first epoch was announced.
pub(super) async fn gather(
    receiver: &mut Incoming,
    visitors: &mut mpsc::Receiver<Visitor>,
    tokens: &LaneTokens,
    choice: &Choice,
    key: &LaneHelloKey,
) -> Result<Gathered, Failure> {
    let unused = tokens.as_slice().iter();
    let mut waiting: BTreeMap<u8, LaneToken> =
        unused.map(|token| (token.lane(), token.clone())).collect();
    let wanted = waiting.len();
    let mut epochs = BTreeMap::new();
    let mut streams = BTreeMap::new();
    let mut early = Vec::new();
    let deadline = Instant::now() + LANES_WITHIN;
    while streams.len() < wanted || epochs.len() < wanted {
        let next = async {
            tokio::select! {
                // A lane takes longer to get here than a word: what comes after the epochs is for the session.
                received = receiver.receive(), if early.len() < EARLY_MAX => Next::Message(received),
                Some(visitor) = visitors.recv() => Next::Visitor(visitor),
            }
        };
        match timeout_at(deadline, next).await {
            Ok(Next::Message(Ok(received))) => match received.message {
                Message::Epoch(epoch) => {
                    epoch
                        .check_within(choice)
                        .map_err(|error| failure_of(ErrorKind::Protocol, Fault::Source, &error))?;
                    epochs.entry(epoch.lane()).or_insert(epoch);
                }
                Message::Failure(told) => return Err(told),
                _ if epochs.len() == wanted => early.push(received),
                other => {
                    let why = format!(
                        "the source sent {} before its lanes were open",
                        other.kind()
                    );
                    return Err(failure(ErrorKind::Protocol, Fault::Source, &why));
                }
            },
            Ok(Next::Message(Err(error))) => {
                return Err(failure_of(ErrorKind::Timeout, Fault::Network, &error));
            }
            Ok(Next::Visitor((stream, hello))) => {
                // Whoever cannot prove it is closed without a word, and changes nothing.
                let proven = LaneHello::parse(&hello).ok().and_then(|hello| {
                    let token = waiting.get(&hello.lane())?;
                    hello.prove(key, token).ok()
                });
                if let Some(proven) = proven
                    && proven.direction() == Direction::SourceToReceiver
                {
                    waiting.remove(&proven.lane());
                    let stream = lane::blocking(stream).map_err(|error| {
                        failure_of(ErrorKind::Resources, Fault::Receiver, &error)
                    })?;
                    streams.insert(proven.lane(), stream);
                }
            }
            Err(_) => {
                let why = format!(
                    "{} of {wanted} lanes came within {} s: is the port open for further connections?",
                    streams.len(),
                    LANES_WITHIN.as_secs()
                );
                return Err(failure(ErrorKind::Timeout, Fault::Network, &why));
            }
        }
    }
    let lanes = streams
        .into_iter()
        .filter_map(|(number, stream)| Some((stream, *epochs.get(&number)?)))
        .collect();
    Ok(Gathered { lanes, early })
}

impl Gathered {
    /// With what opens their batches.
    pub(super) fn open(
        self,
        keys: &mut Keyed<Receiver>,
    ) -> Result<(Vec<Lane>, Vec<Received>), Failure> {
        let lanes = self.lanes.into_iter().map(|(stream, epoch)| {
            let opener = keys
                .opener(epoch.lane(), epoch.epoch())
                .map_err(|error| failure_of(ErrorKind::Protocol, Fault::Source, &error))?;
            let way = Way::Peer(stream);
            Ok(Lane { way, opener })
        });
        Ok((lanes.collect::<Result<_, _>>()?, self.early))
    }
}
