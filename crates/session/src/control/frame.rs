//! Cuts messages out of the channel's bytes, and puts them in.
//!
//! ```text
//!  0            4                      4 + length
//!  +------------+----------------------+------------+--
//!  | length     | Envelope             | length     | …
//!  +------------+----------------------+------------+--
//! ```

use alloc::vec::Vec;
use core::fmt;

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::invalid::Invalid;
use super::message::Message;
use super::outline::{FIELDS_MAX, Outline};
use super::redacted::Redacted;
use super::wire;

/// The longest envelope before the peer's hello has been accepted: a hello takes 400 bytes, an error 1,100, and this
/// leaves a later version room.
pub const LEN_MAX_BEFORE_HELLO: usize = 4 << 10;
/// The longest envelope afterwards. The largest admission, 1,024 RAM blocks with names of 255 bytes, takes 300 KiB.
pub const LEN_MAX: usize = 512 << 10;

/// Unknown envelopes that are passed over before the hello: a stranger shall not keep the channel busy without saying
/// who it is. No version has a reason to send even one there.
const SKIPPED_MAX: usize = 16;

const PREFIX_LEN: usize = 4;

/// Takes the channel's bytes in any chunks and yields messages.
///
/// It holds one message at most, and of that only what has arrived: a length alone makes it allocate nothing.
pub struct Decoder {
    prefix: [u8; PREFIX_LEN],
    prefix_filled: usize,
    /// What has come of the envelope so far.
    envelope: Vec<u8>,
    hello_accepted: bool,
    /// Envelopes passed over before the hello was accepted.
    skipped: usize,
    failed: bool,
}

/// A message and the bytes that it came in.
#[derive(Clone, Eq, PartialEq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its envelope as sent; of a hello, a field of the transcript.
    pub envelope: Vec<u8>,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("message", &self.message)
            .field("envelope", &Redacted(&self.envelope))
            .finish()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("prefix_filled", &self.prefix_filled)
            .field("envelope", &Redacted(&self.envelope))
            .field("hello_accepted", &self.hello_accepted)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// For a connection whose peer has not said anything yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            prefix: [0; PREFIX_LEN],
            prefix_filled: 0,
            envelope: Vec::new(),
            hello_accepted: false,
            skipped: 0,
            failed: false,
        }
    }

    /// The peer's hello was found good: from the next message on, all kinds and lengths are allowed.
    pub const fn accept_hello(&mut self) {
        self.hello_accepted = true;
    }

    /// Takes bytes off the front of `input` up to the end of the next message, and returns it; `None` when the input is
    /// used up before. To be called until then: a message is judged by what [`Self::accept_hello`] says at that moment.
    ///
    /// # Errors
    /// When the peer misbehaves. The channel is finished then.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Received>, FrameError> {
        if self.failed {
            return Err(FrameError::Finished);
        }
        let result = self.advance(input);
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Received>, FrameError> {
        while let Some(envelope) = self.envelope(input)? {
            let outline = Outline::of(&envelope)?;
            if !outline.is_known() {
                if outline.is_critical() {
                    return Err(FrameError::UnknownKind {
                        kind: outline.kind(),
                    });
                }
                if !self.hello_accepted {
                    self.skipped += 1;
                    if self.skipped > SKIPPED_MAX {
                        return Err(FrameError::TooManySkipped);
                    }
                }
                continue;
            }
            if !self.hello_accepted && !outline.may_be_first() {
                return Err(FrameError::BeforeHello {
                    kind: outline.kind(),
                });
            }
            let wire =
                wire::Envelope::decode(envelope.as_slice()).map_err(FrameError::Undecodable)?;
            let kind = wire.kind.ok_or(FrameError::NoKind)?;
            let message = kind.try_into().map_err(FrameError::Invalid)?;
            return Ok(Some(Received { message, envelope }));
        }
        Ok(None)
    }

    /// The next envelope, once it is whole.
    fn envelope(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let taken = take(input, PREFIX_LEN - self.prefix_filled);
        self.prefix[self.prefix_filled..self.prefix_filled + taken.len()].copy_from_slice(taken);
        self.prefix_filled += taken.len();
        if self.prefix_filled < PREFIX_LEN {
            return Ok(None);
        }
        let len = self.expected_len()?;
        self.envelope
            .extend_from_slice(take(input, len - self.envelope.len()));
        if self.envelope.len() < len {
            return Ok(None);
        }
        self.prefix_filled = 0;
        Ok(Some(core::mem::take(&mut self.envelope)))
    }

    fn expected_len(&self) -> Result<usize, FrameError> {
        let limit = if self.hello_accepted {
            LEN_MAX
        } else {
            LEN_MAX_BEFORE_HELLO
        };
        let found = u32::from_be_bytes(self.prefix);
        match usize::try_from(found) {
            Ok(0) => Err(FrameError::Empty),
            Ok(len) if len <= limit => Ok(len),
            _ => Err(FrameError::TooLong { found, limit }),
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes up to `most` bytes off the front.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// A message as it goes into the channel. Erased when dropped, for it may hold a lane's token.
#[derive(Clone, Eq, PartialEq)]
pub struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// All bounds lie in the message's types: whatever can be made, fits.
    #[must_use]
    pub fn of(message: Message) -> Self {
        let mut envelope = wire::Envelope::from(message);
        let len = envelope.encoded_len();
        debug_assert!(len <= LEN_MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(PREFIX_LEN + len));
        // The low half of a be64 is the be32.
        bytes.extend_from_slice(&(len as u64).to_be_bytes()[PREFIX_LEN..]);
        envelope.encode_raw(&mut *bytes);
        if let Some(wire::envelope::Kind::LaneTokens(list)) = &mut envelope.kind {
            list.tokens
                .iter_mut()
                .for_each(|token| token.token.zeroize());
        }
        Self(bytes)
    }

    /// Length and envelope, as they are sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The envelope alone; of a hello, a field of the transcript.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.0[PREFIX_LEN..]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold a lane's token.
        write!(f, "Frame of {} bytes", self.0.len())
    }
}

/// How a peer misbehaved on the control channel.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields say what was expected and found; Display spells it out"
)]
pub enum FrameError {
    /// A length of zero.
    Empty,
    /// A length beyond the limit in force.
    TooLong { found: u32, limit: usize },
    /// Bytes that are not protobuf.
    Malformed,
    /// An envelope without a kind.
    NoKind,
    /// An envelope with two kinds.
    TwoKinds { first: u64, second: u64 },
    /// More fields than any message of this version has.
    TooManyFields { kind: u64 },
    /// A kind with lists of numbers, longer than they need.
    KindTooLong { kind: u64, found: usize },
    /// Unknown kinds without end, and no hello.
    TooManySkipped,
    /// A kind that is critical and not known.
    UnknownKind { kind: u64 },
    /// A kind that may not come before the hello has been accepted.
    BeforeHello { kind: u64 },
    /// Protobuf, but not of this message's types.
    Undecodable(prost::DecodeError),
    /// A value that `.proto` does not allow.
    Invalid(Invalid),
    /// Asked for more after an error.
    Finished,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("control message: expected a length above 0, found 0"),
            Self::TooLong { found, limit } => {
                write!(
                    f,
                    "control message: expected at most {limit} bytes, found {found}"
                )
            }
            Self::Malformed => {
                f.write_str("control message: expected protobuf, found something else")
            }
            Self::NoKind => f.write_str("control message: expected a kind, found none"),
            Self::TwoKinds { first, second } => {
                write!(
                    f,
                    "control message: expected one kind, found {first} and {second}"
                )
            }
            Self::TooManyFields { kind } => {
                write!(
                    f,
                    "control message of kind {kind}: expected at most {FIELDS_MAX} fields, found more"
                )
            }
            Self::KindTooLong { kind, found } => {
                write!(
                    f,
                    "control message of kind {kind}: expected at most {LEN_MAX_BEFORE_HELLO} bytes, found {found}"
                )
            }
            Self::TooManySkipped => write!(
                f,
                "control message: expected the peer's hello, found more than {SKIPPED_MAX} of unknown kinds"
            ),
            Self::UnknownKind { kind } => {
                write!(
                    f,
                    "control message: expected a known kind or one that may be skipped, found critical kind {kind}"
                )
            }
            Self::BeforeHello { kind } => {
                write!(
                    f,
                    "control message: expected the peer's hello first, found kind {kind}"
                )
            }
            Self::Undecodable(_) => f.write_str("control message: its fields have the wrong types"),
            Self::Invalid(_) => f.write_str("control message: a field is not allowed"),
            Self::Finished => f.write_str("the control channel had failed before"),
        }
    }
}

impl core::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Undecodable(error) => Some(error),
            Self::Invalid(invalid) => Some(invalid),
            _ => None,
        }
    }
}
