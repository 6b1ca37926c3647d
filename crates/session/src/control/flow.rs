//! While pages flow: `flow.proto`.

use alloc::vec::Vec;
use core::fmt;

use sealift_pages::BLOCKS_MAX;
use sealift_seal::Ledger;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::bounded::Bytes;
use super::handshake::Choice;
use super::invalid::{Invalid, Why, array, count, number};
use super::wire;

/// Ranges in one message: a round trip's worth of gaps on several lanes, 20 KiB of them.
const RANGES_MAX: usize = 1024;
/// Lanes have numbers below this.
const LANES_MAX: usize = 256;

/// Batch numbers from one to another, both included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchRange {
    first: u64,
    last: u64,
}

impl BatchRange {
    /// # Errors
    /// When the range is empty, or has no number behind it.
    pub fn new(first: u64, last: u64) -> Result<Self, Invalid> {
        number("BatchRange.last", last, first, u64::MAX - 1)?;
        Ok(Self { first, last })
    }

    /// The first number.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The last number.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }
}

/// 1 to 1,024 ranges that ascend, with a gap between each two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BatchRanges(Vec<BatchRange>);

impl BatchRanges {
    /// # Errors
    /// When there are too few or too many, or they are out of order; `field` is named in the error.
    pub fn new(field: &'static str, ranges: Vec<BatchRange>) -> Result<Self, Invalid> {
        count(field, ranges.len(), 1, RANGES_MAX)?;
        for (index, pair) in ranges.windows(2).enumerate() {
            // A range's last number has one behind it.
            if pair[1].first <= pair[0].last + 1 {
                return Err(Why::Disorder { index: index + 1 }.of(field));
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[BatchRange] {
        &self.0
    }

    fn from_wire(field: &'static str, ranges: &[wire::BatchRange]) -> Result<Self, Invalid> {
        let range = |range: &wire::BatchRange| BatchRange::new(range.first, range.last);
        Self::new(field, ranges.iter().map(range).collect::<Result<_, _>>()?)
    }

    fn to_wire(&self) -> Vec<wire::BatchRange> {
        let range = |range: &BatchRange| wire::BatchRange {
            first: range.first,
            last: range.last,
        };
        self.0.iter().map(range).collect()
    }
}

impl TryFrom<wire::Acknowledgement> for BatchRanges {
    type Error = Invalid;

    fn try_from(wire: wire::Acknowledgement) -> Result<Self, Invalid> {
        Self::from_wire("Acknowledgement.ranges", &wire.ranges)
    }
}

impl From<BatchRanges> for wire::Acknowledgement {
    fn from(ranges: BatchRanges) -> Self {
        Self {
            ranges: ranges.to_wire(),
        }
    }
}

/// What an end has of a session that is taken up again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resume {
    /// How many messages that must be heard it has heard.
    pub heard: u64,
    /// From the source: the lowest batch that is not acknowledged. From the receiver: the lowest that it has not seen.
    pub lowest: u64,
    /// From the receiver: what it has seen from there on, a bit each. The source's is empty.
    pub seen: Bytes<0, SEEN_MAX>,
}

/// A bit for each number of the window.
const SEEN_MAX: usize = (Ledger::WINDOW / 8) as usize;

impl Resume {
    /// Of the receiver's: whether it has seen a batch.
    #[must_use]
    pub fn has_seen(&self, number: u64) -> bool {
        let Some(above) = number.checked_sub(self.lowest) else {
            return true;
        };
        let byte = usize::try_from(above / 8).ok();
        let byte = byte.and_then(|byte| self.seen.as_slice().get(byte));
        byte.is_some_and(|byte| byte >> (above % 8) & 1 == 1)
    }
}

impl TryFrom<wire::Resume> for Resume {
    type Error = Invalid;

    fn try_from(wire: wire::Resume) -> Result<Self, Invalid> {
        Ok(Self {
            heard: wire.heard,
            lowest: wire.lowest,
            seen: Bytes::new("Resume.seen", wire.seen)?,
        })
    }
}

impl From<Resume> for wire::Resume {
    fn from(resume: Resume) -> Self {
        Self {
            heard: resume.heard,
            lowest: resume.lowest,
            seen: resume.seen.into_vec(),
        }
    }
}

/// Blocks whose newest contents can be named from here on, however old.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placing(Vec<u16>);

impl Placing {
    /// # Errors
    /// When there is no block or one that no guest has, or they do not ascend.
    pub fn new(blocks: Vec<u16>) -> Result<Self, Invalid> {
        count(Self::FIELD, blocks.len(), 1, BLOCKS_MAX)?;
        for (index, pair) in blocks.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                return Err(Why::Disorder { index: index + 1 }.of(Self::FIELD));
            }
        }
        if let Some(&last) = blocks.last() {
            number(Self::FIELD, last.into(), 0, BLOCKS_MAX as u64 - 1)?;
        }
        Ok(Self(blocks))
    }

    const FIELD: &str = "Placing.blocks";

    /// Their places in the admission's list.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }
}

impl TryFrom<wire::Placing> for Placing {
    type Error = Invalid;

    fn try_from(wire: wire::Placing) -> Result<Self, Invalid> {
        let block = |&block: &u32| {
            let most = BLOCKS_MAX as u64 - 1;
            number(Self::FIELD, block.into(), 0, most)?;
            // At most 1,023.
            Ok(u16::try_from(block).unwrap_or(u16::MAX))
        };
        count(Self::FIELD, wire.blocks.len(), 1, BLOCKS_MAX)?;
        Self::new(wire.blocks.iter().map(block).collect::<Result<_, _>>()?)
    }
}

impl From<Placing> for wire::Placing {
    fn from(placing: Placing) -> Self {
        Self {
            blocks: placing.0.into_iter().map(u32::from).collect(),
        }
    }
}

/// What a lane proves itself with, once. Erased when dropped, compared in constant time.
#[derive(Clone)]
pub struct LaneToken {
    lane: u8,
    token: Zeroizing<[u8; 32]>,
}

impl LaneToken {
    /// The token of a lane.
    #[must_use]
    pub const fn new(lane: u8, token: Zeroizing<[u8; 32]>) -> Self {
        Self { lane, token }
    }

    /// The lane's number.
    #[must_use]
    pub const fn lane(&self) -> u8 {
        self.lane
    }

    /// The token: a secret.
    #[must_use]
    pub fn token(&self) -> &[u8; 32] {
        &self.token
    }
}

impl PartialEq for LaneToken {
    fn eq(&self, other: &Self) -> bool {
        let same = self.lane.ct_eq(&other.lane) & self.token[..].ct_eq(&other.token[..]);
        same.into()
    }
}

impl Eq for LaneToken {}

impl fmt::Debug for LaneToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneToken")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// At least one token, each for another lane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneTokens(Vec<LaneToken>);

impl LaneTokens {
    /// # Errors
    /// When there are none, or two for one lane.
    pub fn new(tokens: Vec<LaneToken>) -> Result<Self, Invalid> {
        const FIELD: &str = "LaneTokens.tokens";
        count(FIELD, tokens.len(), 1, LANES_MAX)?;
        let mut seen = [false; LANES_MAX];
        for (index, token) in tokens.iter().enumerate() {
            if core::mem::replace(&mut seen[usize::from(token.lane)], true) {
                return Err(Why::Repeated { index }.of(FIELD));
            }
        }
        Ok(Self(tokens))
    }

    /// Each is for a lane that was agreed on.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_within(&self, choice: &Choice) -> Result<(), Invalid> {
        let most = u64::from(choice.lanes.lanes()) - 1;
        for token in &self.0 {
            number("LaneToken.lane", token.lane.into(), 0, most)?;
        }
        Ok(())
    }

    /// The tokens.
    #[must_use]
    pub fn as_slice(&self) -> &[LaneToken] {
        &self.0
    }
}

impl TryFrom<wire::LaneTokens> for LaneTokens {
    type Error = Invalid;

    fn try_from(wire: wire::LaneTokens) -> Result<Self, Invalid> {
        let token = |mut token: wire::LaneToken| {
            let secret = Zeroizing::new(core::mem::take(&mut token.token));
            let most = u64::from(u8::MAX);
            let found = token.lane.into();
            Ok(LaneToken {
                lane: u8::try_from(token.lane).map_err(|_| {
                    Why::Number {
                        least: 0,
                        most,
                        found,
                    }
                    .of("LaneToken.lane")
                })?,
                token: Zeroizing::new(array("LaneToken.token", &secret)?),
            })
        };
        Self::new(
            wire.tokens
                .into_iter()
                .map(token)
                .collect::<Result<_, _>>()?,
        )
    }
}

impl From<LaneTokens> for wire::LaneTokens {
    fn from(tokens: LaneTokens) -> Self {
        let token = |LaneToken { lane, token }: &LaneToken| wire::LaneToken {
            lane: u32::from(*lane),
            token: token.to_vec(),
        };
        Self {
            tokens: tokens.0.iter().map(token).collect(),
        }
    }
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pong {
    id: u64,
    received_ns: u64,
    sent_ns: u64,
}

impl Pong {
    /// # Errors
    /// When it was sent before the ping came in.
    pub fn new(id: u64, received_ns: u64, sent_ns: u64) -> Result<Self, Invalid> {
        number("Pong.sent_ns", sent_ns, received_ns, u64::MAX)?;
        Ok(Self {
            id,
            received_ns,
            sent_ns,
        })
    }

    /// The ping's.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// When the ping came in, on the answering end's clock.
    #[must_use]
    pub const fn received_ns(&self) -> u64 {
        self.received_ns
    }

    /// When the answer left, on the same clock.
    #[must_use]
    pub const fn sent_ns(&self) -> u64 {
        self.sent_ns
    }
}

impl TryFrom<wire::Pong> for Pong {
    type Error = Invalid;

    fn try_from(wire: wire::Pong) -> Result<Self, Invalid> {
        Self::new(wire.id, wire.received_ns, wire.sent_ns)
    }
}

impl From<Pong> for wire::Pong {
    fn from(pong: Pong) -> Self {
        Self {
            id: pong.id,
            received_ns: pong.received_ns,
            sent_ns: pong.sent_ns,
        }
    }
}
