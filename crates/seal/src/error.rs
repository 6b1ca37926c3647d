//! Every refusal of this crate, one variant each, with whose fault it is.
//!
//! No variant holds a secret or a byte of a body: what is in here may be logged.

use core::fmt;

use crate::role::Role;
use crate::suite::Suite;

/// A refusal. After one that came from an opener the lane is finished; after one that came from the exchange the
/// session is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// None of the suites that the source offered is allowed here.
    NoCommonSuite,
    /// The number is not a suite of this version of the wire. Unknown numbers in an offer are passed over, so this is the
    /// receiver's choice, come over the control channel.
    UnknownSuite {
        /// The number.
        found: u16,
    },
    /// The suite in use, which is the receiver's choice, is not among those that the source offered.
    SuiteNotOffered {
        /// The suite in use.
        chosen: Suite,
        /// The end that refused it: the source was told it by the peer, the receiver chose it itself.
        refusing: Role,
    },
    /// Neither candidate in the seed is a P-256 scalar, which happens once in 2^64: the seed was not random.
    Seed,
    /// A private key that was handed in is no P-256 scalar: zero, or not below the group's order.
    Scalar,
    /// A part of the peer's share has another length than the suite's.
    ShareLength {
        /// The part.
        part: SharePart,
        /// The suite's length.
        expected: usize,
        /// The length that came.
        found: usize,
    },
    /// The peer's X25519 share is a point of low order: the shared secret would be zero whatever this end does.
    LowOrderShare,
    /// The peer's P-256 share does not begin as an uncompressed point does.
    PointForm {
        /// Its first byte; 4 was expected.
        found: u8,
    },
    /// The peer's P-256 share is not a point on the curve.
    PointOffCurve,
    /// The peer's ML-KEM encapsulation key has a coefficient that is not reduced.
    UnreducedKey,
    /// A field of the transcript does not fit its 32-bit length.
    FieldTooLong {
        /// The field.
        field: &'static str,
    },
    /// The peer's confirmation is not the expected one: the ends do not agree on the transcript.
    Confirmation,
    /// All 2^32 epochs of this exchange are allotted.
    EpochsExhausted,
    /// The source named an epoch that is not higher than the last one of this lane and direction.
    EpochNotHigher {
        /// The lane.
        lane: u8,
        /// The highest epoch taken so far.
        last: u32,
        /// The epoch that the source named.
        found: u32,
    },
    /// The lane's epoch has not ended, so that its next one cannot begin.
    EpochLive {
        /// The lane.
        lane: u8,
        /// The epoch that has not ended.
        epoch: u32,
    },
    /// What ended is not the live epoch of its lane under these keys.
    EpochNotLive {
        /// The lane.
        lane: u8,
        /// The epoch that ended.
        epoch: u32,
    },
    /// The epoch is to end, and its last batches did not arrive, or there were more than the peer says.
    EpochCut {
        /// The lane.
        lane: u8,
        /// The epoch.
        epoch: u32,
        /// The batches that the peer says it sealed.
        expected: u64,
        /// The batches that were opened.
        found: u64,
    },
    /// The buffer to seal in has no room for header and tag.
    BufferTooShort {
        /// The least that a sealed batch takes.
        needed: usize,
        /// The buffer's length.
        found: usize,
    },
    /// The body to seal is longer than a batch's may be.
    BodyTooLong {
        /// The bound.
        limit: u32,
        /// The body's length.
        found: usize,
    },
    /// The batch to seal would have the number 2^64 - 1, which is never used.
    BatchesExhausted,
    /// The batch to seal would take its epoch beyond the limits of AES-GCM: it needs the next epoch.
    EpochSpent {
        /// The lane.
        lane: u8,
        /// The epoch that is at its end.
        epoch: u32,
    },
    /// The header announces a batch beyond the limits of its epoch.
    EpochOverrun {
        /// The lane.
        lane: u8,
        /// The epoch that is at its end.
        epoch: u32,
    },
    /// The header is of a version that is not known.
    Version {
        /// The version; 1 was expected.
        found: u8,
    },
    /// The header's second byte is not zero.
    Zero {
        /// The byte.
        found: u8,
    },
    /// The header names another lane than the one it came by.
    Lane {
        /// The lane that the connection was admitted as.
        expected: u8,
        /// The lane in the header.
        found: u16,
    },
    /// The header names another epoch than the one in force.
    Epoch {
        /// The lane.
        lane: u8,
        /// The epoch in force.
        expected: u32,
        /// The epoch in the header.
        found: u32,
    },
    /// The header's sequence number was used before in this lane and epoch.
    Replay {
        /// The lane.
        lane: u8,
        /// The next sequence number.
        expected: u64,
        /// The one in the header.
        found: u64,
    },
    /// The header's sequence number is beyond the next one: batches are missing or out of order.
    Gap {
        /// The lane.
        lane: u8,
        /// The next sequence number.
        expected: u64,
        /// The one in the header.
        found: u64,
    },
    /// The header's length is beyond the bound.
    Length {
        /// The bound.
        limit: u32,
        /// The length in the header.
        found: u32,
    },
    /// There are fewer bytes of body and tag than the header announced.
    Truncated {
        /// What the header announced, with the tag.
        expected: usize,
        /// The bytes handed in.
        found: usize,
    },
    /// There are more bytes of body and tag than the header announced.
    Surplus {
        /// What the header announced, with the tag.
        expected: usize,
        /// The bytes handed in.
        found: usize,
    },
    /// The tag does not prove header and body with this epoch's key.
    Tag {
        /// The lane.
        lane: u8,
        /// The epoch.
        epoch: u32,
        /// The sequence number.
        sequence: u64,
    },
    /// The batch number was seen before in this session.
    BatchSeen {
        /// The batch number.
        batch: u64,
    },
    /// The batch number is beyond the window. Its sender is bound by the window as well (WIRE.md, section 1): it has sealed
    /// on without waiting for this end's acknowledgement, however slow a lane or the link was.
    BatchAhead {
        /// The batch number.
        batch: u64,
        /// The lowest number not seen yet, where the window starts.
        floor: u64,
    },
    /// The opener refused a batch earlier, or was left with one that was not accepted.
    Finished {
        /// The lane.
        lane: u8,
        /// The epoch.
        epoch: u32,
    },
    /// A cryptographic library refused sizes that are right: a fault of the program.
    Library {
        /// What was asked of it.
        operation: &'static str,
    },
}

/// Who has to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This host's program or randomness.
    ThisHost,
    /// The peer, proven by a tag or by the control channel that it came by.
    Peer,
    /// The link, whoever sits on it, or the peer: nothing in it is proven.
    Link,
}

/// A part of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharePart {
    /// The X25519 share.
    X25519,
    /// The P-256 share.
    P256,
    /// The ML-KEM-768 encapsulation key, of the source.
    EncapsulationKey,
    /// The ML-KEM-768 ciphertext, of the receiver.
    Ciphertext,
}

impl Error {
    /// Who has to look at it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Seed
            | Self::Scalar
            | Self::FieldTooLong { .. }
            | Self::EpochsExhausted
            | Self::EpochLive { .. }
            | Self::EpochNotLive { .. }
            | Self::BufferTooShort { .. }
            | Self::BodyTooLong { .. }
            | Self::BatchesExhausted
            | Self::EpochSpent { .. }
            | Self::Surplus { .. }
            | Self::Finished { .. }
            | Self::Library { .. }
            | Self::SuiteNotOffered {
                refusing: Role::Receiver,
                ..
            } => Fault::ThisHost,
            Self::NoCommonSuite
            | Self::UnknownSuite { .. }
            | Self::SuiteNotOffered {
                refusing: Role::Source,
                ..
            }
            | Self::ShareLength { .. }
            | Self::LowOrderShare
            | Self::PointForm { .. }
            | Self::PointOffCurve
            | Self::UnreducedKey
            | Self::Confirmation
            | Self::EpochNotHigher { .. }
            | Self::BatchSeen { .. }
            | Self::BatchAhead { .. } => Fault::Peer,
            Self::Version { .. }
            | Self::Zero { .. }
            | Self::Lane { .. }
            | Self::Epoch { .. }
            | Self::EpochOverrun { .. }
            | Self::EpochCut { .. }
            | Self::Replay { .. }
            | Self::Gap { .. }
            | Self::Length { .. }
            | Self::Truncated { .. }
            | Self::Tag { .. } => Fault::Link,
        }
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommonSuite => f.write_str("source offered no suite that this host allows"),
            Self::UnknownSuite { found } => write!(f, "peer named the unknown suite {found:#06x}"),
            Self::SuiteNotOffered { chosen, .. } => {
                write!(f, "receiver chose suite {chosen}, which the source did not offer")
            }
            Self::Seed => f.write_str("this host's seed holds no P-256 scalar: its randomness is broken"),
            Self::Scalar => f.write_str("this host's private key is no P-256 scalar"),
            Self::ShareLength { part, expected, found } => {
                write!(f, "peer's {part} has {found} bytes, expected {expected}")
            }
            Self::LowOrderShare => f.write_str("peer's X25519 share is a point of low order"),
            Self::PointForm { found } => write!(
                f,
                "peer's P-256 share begins with {found:#04x}, expected 0x04 for an uncompressed point"
            ),
            Self::PointOffCurve => f.write_str("peer's P-256 share is not a point on the curve"),
            Self::UnreducedKey => {
                f.write_str("peer's ML-KEM encapsulation key has a coefficient that is not reduced")
            }
            Self::FieldTooLong { field } => {
                write!(f, "this host's transcript field {field} does not fit a 32-bit length")
            }
            Self::Confirmation => f.write_str(
                "peer's confirmation differs from the expected one: the two ends saw different handshakes",
            ),
            Self::EpochsExhausted => {
                f.write_str("this host has allotted all epochs of this exchange: a new exchange is needed")
            }
            Self::EpochNotHigher { lane, last, found } => write!(
                f,
                "source named epoch {found} for lane {lane}, expected one above {last}"
            ),
            Self::EpochLive { lane, epoch } => write!(
                f,
                "this host has not ended epoch {epoch} of lane {lane}: no other can begin"
            ),
            Self::EpochNotLive { lane, epoch } => write!(
                f,
                "this host ended epoch {epoch} of lane {lane}, which is not the live one"
            ),
            Self::EpochCut { lane, epoch, expected, found } => write!(
                f,
                "peer says that it sealed {expected} batches in lane {lane}, epoch {epoch}, and {found} came"
            ),
            Self::BufferTooShort { needed, found } => write!(
                f,
                "this host's buffer to seal in has {found} bytes, a sealed batch takes at least {needed}"
            ),
            Self::BodyTooLong { limit, found } => {
                write!(f, "this host's batch body has {found} bytes, the bound is {limit}")
            }
            Self::BatchesExhausted => {
                f.write_str("this host has used up the batch numbers of the session")
            }
            Self::EpochSpent { lane, epoch } => {
                write!(f, "this host's epoch {epoch} of lane {lane} is at its end: the next one is due")
            }
            Self::EpochOverrun { lane, epoch } => write!(
                f,
                "sealed batch in lane {lane} is beyond the end of epoch {epoch}: the next one was due"
            ),
            Self::Version { found } => write!(f, "sealed batch is of version {found}, expected 1"),
            Self::Zero { found } => {
                write!(f, "second byte of a sealed batch is {found:#04x}, expected 0x00")
            }
            Self::Lane { expected, found } => {
                write!(f, "sealed batch of lane {found} came by lane {expected}")
            }
            Self::Epoch { lane, expected, found } => {
                write!(f, "sealed batch in lane {lane} is of epoch {found}, expected {expected}")
            }
            Self::Replay { lane, expected, found } => write!(
                f,
                "sealed batch in lane {lane} is replayed: sequence {found}, expected {expected}"
            ),
            Self::Gap { lane, expected, found } => write!(
                f,
                "sealed batches in lane {lane} are missing or out of order: sequence {found}, expected {expected}"
            ),
            Self::Length { limit, found } => {
                write!(f, "sealed batch announces a body of {found} bytes, the bound is {limit}")
            }
            Self::Truncated { expected, found } => {
                write!(f, "sealed batch is cut short: {found} bytes of body and tag, expected {expected}")
            }
            Self::Surplus { expected, found } => write!(
                f,
                "this host handed in {found} bytes of body and tag, expected {expected}"
            ),
            Self::Tag { lane, epoch, sequence } => write!(
                f,
                "sealed batch {sequence} in lane {lane}, epoch {epoch}, does not open: \
                 it was altered on the way or sealed for another session"
            ),
            Self::BatchSeen { batch } => {
                write!(f, "peer sealed batch number {batch} a second time")
            }
            Self::BatchAhead { batch, floor } => {
                write!(f, "peer's batch number {batch} is beyond the window that starts at {floor}")
            }
            Self::Finished { lane, epoch } => write!(
                f,
                "this host's opener for lane {lane}, epoch {epoch}, is finished after an earlier refusal"
            ),
            Self::Library { operation } => {
                write!(f, "this host's cryptographic library refused {operation}")
            }
        }
    }
}

impl fmt::Display for SharePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X25519 => "X25519 share",
            Self::P256 => "P-256 share",
            Self::EncapsulationKey => "ML-KEM encapsulation key",
            Self::Ciphertext => "ML-KEM ciphertext",
        })
    }
}
