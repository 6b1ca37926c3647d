//! The messages, one variant for each kind of envelope.

use core::fmt;

use super::admission::{Admission, Verdict};
use super::bounded::Bytes;
use super::epoch::Epoch;
use super::failure::Failure;
use super::flow::{BatchRanges, LaneTokens, Placing, Pong, Resume};
use super::handshake::{Choice, Hello, Offer, Shares};
use super::invalid::{Invalid, array};
use super::redacted::Redacted;
use super::stage::{StageChange, Verification};
use super::wire;
use super::wire::envelope::Kind;

/// A message that was checked, or is about to be sent.
#[derive(Clone, Eq, PartialEq)]
pub enum Message {
    /// The first one.
    Hello(Hello),
    /// What the source can do.
    Offer(Offer),
    /// What the receiver takes of that.
    Choice(Choice),
    /// The guest.
    Admission(Admission),
    /// Whether it may come.
    Verdict(Verdict),
    /// Public shares.
    Shares(Shares),
    /// Proof of the same keys.
    Confirmation([u8; 32]),
    /// Tokens for lanes.
    LaneTokens(LaneTokens),
    /// Batches that are placed.
    Acknowledgement(BatchRanges),
    /// What this end has of a session that is taken up again.
    Resume(Resume),
    /// A step of the session.
    StageChange(StageChange),
    /// Bytes of QEMU's return path.
    ReturnPath(Bytes<1, { 64 << 10 }>),
    /// How far the receiver is; any numbers are allowed.
    Progress(wire::Progress),
    /// Blocks whose newest contents can be named, however old.
    Placing(Placing),
    /// For the round trip and the clocks; any numbers are allowed.
    Ping(wire::Ping),
    /// The answer.
    Pong(Pong),
    /// The keys that a lane goes over to.
    Epoch(Epoch),
    /// What was read again.
    Verification(Verification),
    /// The end.
    Failure(Failure),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content: &dyn fmt::Debug = match self {
            Self::Hello(hello) => hello,
            Self::Offer(offer) => offer,
            Self::Choice(choice) => choice,
            Self::Admission(admission) => admission,
            Self::Verdict(verdict) => verdict,
            Self::Shares(shares) => shares,
            Self::Confirmation(value) => &Redacted(value),
            Self::LaneTokens(tokens) => tokens,
            Self::Acknowledgement(ranges) => ranges,
            Self::Resume(resume) => resume,
            Self::StageChange(change) => change,
            Self::ReturnPath(data) => data,
            Self::Progress(progress) => progress,
            Self::Placing(placing) => placing,
            Self::Ping(ping) => ping,
            Self::Pong(pong) => pong,
            Self::Epoch(epoch) => epoch,
            Self::Verification(verification) => verification,
            Self::Failure(failure) => failure,
        };
        f.debug_tuple(self.kind()).field(content).finish()
    }
}

impl Message {
    /// The kind's name, as `.proto` has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Offer(_) => "Offer",
            Self::Choice(_) => "Choice",
            Self::Admission(_) => "Admission",
            Self::Verdict(_) => "Verdict",
            Self::Shares(_) => "Shares",
            Self::Confirmation(_) => "Confirmation",
            Self::LaneTokens(_) => "LaneTokens",
            Self::Acknowledgement(_) => "Acknowledgement",
            Self::Resume(_) => "Resume",
            Self::StageChange(_) => "StageChange",
            Self::ReturnPath(_) => "ReturnPath",
            Self::Progress(_) => "Progress",
            Self::Placing(_) => "Placing",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Epoch(_) => "Epoch",
            Self::Verification(_) => "Verification",
            Self::Failure(_) => "Error",
        }
    }

    /// It is said once and must be heard once, however often connections break: a [`Correspondence`](crate::correspondence::Correspondence)
    /// keeps it.
    #[must_use]
    pub const fn must_be_heard(&self) -> bool {
        matches!(
            self,
            Self::StageChange(_) | Self::ReturnPath(_) | Self::Placing(_) | Self::Verification(_)
        )
    }

    /// A peer that does not know the kind must not go on without it.
    const fn is_critical(&self) -> bool {
        !matches!(
            self,
            Self::Progress(_) | Self::Ping(_) | Self::Pong(_) | Self::Placing(_)
        )
    }
}

impl TryFrom<Kind> for Message {
    type Error = Invalid;

    fn try_from(kind: Kind) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::Hello(wire) => Self::Hello(wire.try_into()?),
            Kind::Offer(wire) => Self::Offer(wire.try_into()?),
            Kind::Choice(wire) => Self::Choice(wire.try_into()?),
            Kind::Admission(wire) => Self::Admission(wire.try_into()?),
            Kind::Verdict(wire) => Self::Verdict(wire.try_into()?),
            Kind::Shares(wire) => Self::Shares(wire.try_into()?),
            Kind::Confirmation(wire) => {
                Self::Confirmation(array("Confirmation.value", &wire.value)?)
            }
            Kind::LaneTokens(wire) => Self::LaneTokens(wire.try_into()?),
            Kind::Acknowledgement(wire) => Self::Acknowledgement(wire.try_into()?),
            Kind::Resume(wire) => Self::Resume(wire.try_into()?),
            Kind::StageChange(wire) => Self::StageChange(wire.try_into()?),
            Kind::ReturnPath(wire) => Self::ReturnPath(Bytes::new("ReturnPath.data", wire.data)?),
            Kind::Progress(wire) => Self::Progress(wire),
            Kind::Placing(wire) => Self::Placing(wire.try_into()?),
            Kind::Ping(wire) => Self::Ping(wire),
            Kind::Pong(wire) => Self::Pong(wire.try_into()?),
            Kind::Epoch(wire) => Self::Epoch(wire.try_into()?),
            Kind::Verification(wire) => Self::Verification(wire.try_into()?),
            Kind::Error(wire) => Self::Failure(wire.try_into()?),
        })
    }
}

impl From<Message> for wire::Envelope {
    fn from(message: Message) -> Self {
        let critical = message.is_critical();
        let kind = match message {
            Message::Hello(hello) => Kind::Hello(hello.into()),
            Message::Offer(offer) => Kind::Offer(offer.into()),
            Message::Choice(choice) => Kind::Choice(choice.into()),
            Message::Admission(admission) => Kind::Admission(admission.into()),
            Message::Verdict(verdict) => Kind::Verdict(verdict.into()),
            Message::Shares(shares) => Kind::Shares(shares.into()),
            Message::Confirmation(value) => Kind::Confirmation(wire::Confirmation {
                value: value.to_vec(),
            }),
            Message::LaneTokens(tokens) => Kind::LaneTokens(tokens.into()),
            Message::Acknowledgement(ranges) => Kind::Acknowledgement(ranges.into()),
            Message::Resume(resume) => Kind::Resume(resume.into()),
            Message::StageChange(change) => Kind::StageChange(change.into()),
            Message::ReturnPath(data) => Kind::ReturnPath(wire::ReturnPath {
                data: data.into_vec(),
            }),
            Message::Progress(progress) => Kind::Progress(progress),
            Message::Placing(placing) => Kind::Placing(placing.into()),
            Message::Ping(ping) => Kind::Ping(ping),
            Message::Pong(pong) => Kind::Pong(pong.into()),
            Message::Epoch(epoch) => Kind::Epoch(epoch.into()),
            Message::Verification(verification) => Kind::Verification(verification.into()),
            Message::Failure(failure) => Kind::Error(failure.into()),
        };
        Self {
            critical,
            kind: Some(kind),
        }
    }
}
