//! The first 92 bytes of a lane's connection, by which the source shows which lane it is and that it is the source:
//! `proto/WIRE.md` §5.
//!
//! ```text
//!  0           8         9           10     12        28      60    92
//!  +-----------+---------+-----------+------+---------+-------+-----+
//!  | "sealiftL"| version | direction | lane | session | token | MAC |
//!  +-----------+---------+-----------+------+---------+-------+-----+
//!
//!  bytes ── LaneHello::parse ─▶ Unproven ── prove(key, the token of that lane) ─▶ LaneHello
//!                               which session to ask for the two
//! ```
//!
//! Whoever connects is a stranger until [`Unproven::prove`]: nothing is answered, and no earlier connection of the lane is
//! touched.

use core::fmt;

use sealift_seal::LaneHelloKey;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::control::{Direction, LaneToken, SessionId};

/// How a lane's connection begins: whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneHello {
    direction: Direction,
    session: SessionId,
    /// The lane's number and what it proves itself with.
    token: LaneToken,
}

impl LaneHello {
    /// The length of a hello: all that may be read of a connection before it has proven itself.
    pub const LENGTH: usize = MAC_AT + MAC_LENGTH;

    /// The hello of the lane that `token` is for.
    #[must_use]
    pub const fn new(direction: Direction, session: SessionId, token: LaneToken) -> Self {
        Self {
            direction,
            session,
            token,
        }
    }

    /// Which way the lane's batches travel.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The lane's number.
    #[must_use]
    pub const fn lane(&self) -> u8 {
        self.token.lane()
    }

    /// The session that it belongs to.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// As it is sent. It holds the token, so it is erased when dropped.
    #[must_use]
    pub fn encode(&self, key: &LaneHelloKey) -> Zeroizing<[u8; Self::LENGTH]> {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        let (head, mac) = bytes.split_at_mut(MAC_AT);
        head[..VERSION_AT].copy_from_slice(&MAGIC);
        head[VERSION_AT] = VERSION;
        head[DIRECTION_AT] = number(self.direction);
        head[LANE_AT..SESSION_AT].copy_from_slice(&u16::from(self.lane()).to_be_bytes());
        head[SESSION_AT..TOKEN_AT].copy_from_slice(&self.session.0);
        head[TOKEN_AT..].copy_from_slice(self.token.token());
        mac.copy_from_slice(&key.mac(head));
        bytes
    }

    /// Reads what a stranger sent.
    ///
    /// # Errors
    /// When it cannot be a hello of this version, whoever it is from.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Unproven, NoHello> {
        if bytes[..VERSION_AT] != MAGIC {
            return Err(NoHello::Magic);
        }
        if bytes[VERSION_AT] != VERSION {
            let found = bytes[VERSION_AT];
            return Err(NoHello::Version { found });
        }
        let direction = match bytes[DIRECTION_AT] {
            0 => Direction::SourceToReceiver,
            1 => Direction::ReceiverToSource,
            found => return Err(NoHello::Direction { found }),
        };
        let lane = u16::from_be_bytes([bytes[LANE_AT], bytes[LANE_AT + 1]]);
        let lane = u8::try_from(lane).map_err(|_| NoHello::Lane { found: lane })?;
        let mut session = SessionId([0; 16]);
        session.0.copy_from_slice(&bytes[SESSION_AT..TOKEN_AT]);
        Ok(Unproven {
            direction,
            lane,
            session,
            bytes: Zeroizing::new(*bytes),
        })
    }
}

/// A hello that anyone may have sent.
pub struct Unproven {
    direction: Direction,
    lane: u8,
    session: SessionId,
    bytes: Zeroizing<[u8; LaneHello::LENGTH]>,
}

impl Unproven {
    /// The session that it claims to belong to: whose key and token [`Self::prove`] needs.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The lane that it claims to be. One that was not agreed on has no token, and so cannot be proven.
    #[must_use]
    pub const fn lane(&self) -> u8 {
        self.lane
    }

    /// The connection is the source's, and this lane's next one: its MAC is by the session's key, and its token the last
    /// one that was sent for the lane and that was not used. The caller takes the token out of use, and closes the
    /// connection when the direction is not that of the lane's epoch.
    ///
    /// # Errors
    /// [`NoHello::Unproven`]. MAC and token are both compared in any case, in constant time.
    pub fn prove(self, key: &LaneHelloKey, expected: &LaneToken) -> Result<LaneHello, NoHello> {
        let (head, mac) = self.bytes.split_at(MAC_AT);
        let made = key.verify(head, mac);
        let token = head[TOKEN_AT..].ct_eq(expected.token());
        if !(made & bool::from(token) & (self.lane == expected.lane())) {
            return Err(NoHello::Unproven {
                lane: self.lane,
                made_with_the_key: made,
            });
        }
        Ok(LaneHello {
            direction: self.direction,
            session: self.session,
            token: expected.clone(),
        })
    }
}

impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its token may be a true one.
        f.debug_struct("Unproven")
            .field("direction", &self.direction)
            .field("lane", &self.lane)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Why a connection is not a lane. For this host's log alone: whoever connected is told nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoHello {
    /// It begins with something else.
    Magic,
    /// A version that is not known.
    Version {
        /// The version; 1 was expected.
        found: u8,
    },
    /// A direction that there is not.
    Direction {
        /// The number; 0 or 1 was expected.
        found: u8,
    },
    /// A lane that no session can have.
    Lane {
        /// The number; at most 255 was expected.
        found: u16,
    },
    /// Its MAC or its token is another one.
    Unproven {
        /// The lane that it claims to be.
        lane: u8,
        /// The MAC is good: the source's, but by a token that is not the lane's last or was used. Otherwise anyone's.
        made_with_the_key: bool,
    },
}

impl fmt::Display for NoHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str(
                "a connection from the network begins with something else than a lane's hello",
            ),
            Self::Version { found } => {
                write!(f, "lane's hello is of version {found}, expected {VERSION}")
            }
            Self::Direction { found } => {
                write!(f, "lane's hello has direction {found}, expected 0 or 1")
            }
            Self::Lane { found } => {
                write!(f, "lane's hello is for lane {found}, expected at most 255")
            }
            Self::Unproven {
                lane,
                made_with_the_key: true,
            } => write!(
                f,
                "the peer's hello for lane {lane} has a token that was used or replaced: a copy of an earlier one"
            ),
            Self::Unproven { lane, .. } => write!(
                f,
                "hello for lane {lane} has another MAC than the session's key makes: it is not from the source"
            ),
        }
    }
}

impl core::error::Error for NoHello {}

const fn number(direction: Direction) -> u8 {
    match direction {
        Direction::SourceToReceiver => 0,
        Direction::ReceiverToSource => 1,
    }
}

const MAGIC: [u8; VERSION_AT] = *b"sealiftL";
/// The version of the hello; its own, so that a later one can lead to other lane formats.
const VERSION: u8 = 1;

// Where each field begins: the picture above.
const VERSION_AT: usize = 8;
const DIRECTION_AT: usize = 9;
const LANE_AT: usize = 10;
const SESSION_AT: usize = 12;
const TOKEN_AT: usize = 28;
const MAC_AT: usize = 60;
/// HMAC-SHA-256's.
const MAC_LENGTH: usize = 32;
