//! From the first message to keys: `handshake.proto`.

use core::time::Duration;

use sealift_pages::PageSize;

use super::bounded::{Bytes, Distinct, Text};
use super::enumeration::enumeration;
use super::invalid::{Invalid, Why, array, number, present};
use super::wire;

/// The id of a session, 128 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(pub [u8; 16]);

enumeration! {
    /// What an end is in a session.
    Role = wire::Role {
        /// The guest comes from here.
        Source,
        /// The guest goes here.
        Receiver,
    }
}

/// The first message of each end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Lane formats that the sender knows.
    pub wire_versions: Distinct<u32, 1>,
    /// What the sender is.
    pub role: Role,
    /// Which session.
    pub session: SessionId,
    /// The session is taken up again.
    pub resume: bool,
    /// Name and version of the program, for logs.
    pub software: Option<Text<255>>,
    /// The name or address by which the source checked the receiver's certificate. The source's hello has it, the
    /// receiver's has none; in any other a peer finds a fault.
    pub peer_name: Option<Text<255>>,
}

impl Hello {
    /// The wire version that both ends take: the highest that both know.
    #[must_use]
    pub fn common_version(&self, peer: &Self) -> Option<u32> {
        let theirs = peer.wire_versions.as_slice();
        self.wire_versions
            .as_slice()
            .iter()
            .copied()
            .filter(|ours| theirs.contains(ours))
            .max()
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = Invalid;

    fn try_from(wire: wire::Hello) -> Result<Self, Invalid> {
        const PEER_NAME: &str = "Hello.peer_name";
        let role = Role::from_wire("Hello.role", wire.role)?;
        Ok(Self {
            wire_versions: Distinct::from_wire("Hello.wire_versions", &wire.wire_versions)?,
            role,
            session: SessionId(array("Hello.session", &wire.session)?),
            resume: wire.resume,
            software: match wire.software {
                none if none.is_empty() => None,
                some => Some(Text::new("Hello.software", some)?),
            },
            peer_name: match (role, wire.peer_name) {
                (Role::Source, name) => Some(Text::new(PEER_NAME, name)?),
                (Role::Receiver, none) if none.is_empty() => None,
                (Role::Receiver, name) => {
                    let (least, most, found) = (0, 0, name.len());
                    return Err(Why::Length { least, most, found }.of(PEER_NAME));
                }
            },
        })
    }
}

impl From<Hello> for wire::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            wire_versions: hello.wire_versions.to_wire(),
            role: hello.role.to_wire(),
            session: hello.session.0.to_vec(),
            resume: hello.resume,
            software: hello.software.map(Text::into_string).unwrap_or_default(),
            peer_name: hello.peer_name.map(Text::into_string).unwrap_or_default(),
        }
    }
}

/// How many lanes: 1 to 256, because their numbers go from 0 to 255.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LaneCount(u16);

impl LaneCount {
    const MAX: u16 = 256;

    /// # Errors
    /// When there are none or more than 256; `field` is named in the error.
    pub fn new(field: &'static str, lanes: u32) -> Result<Self, Invalid> {
        match u16::try_from(lanes) {
            Ok(lanes @ 1..=Self::MAX) => Ok(Self(lanes)),
            _ => {
                let (most, found) = (Self::MAX.into(), lanes.into());
                Err(Why::Number {
                    least: 1,
                    most,
                    found,
                }
                .of(field))
            }
        }
    }

    /// The number of lanes.
    #[must_use]
    pub const fn lanes(self) -> u16 {
        self.0
    }
}

/// Bounds on the state that both ends mirror, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MirrorBudget {
    slots: u64,
    bases: u64,
    windows: u64,
}

impl MirrorBudget {
    /// 1 TiB: beyond what a host gives to a migration, and small enough that sums of three stay exact.
    const MAX: u64 = 1 << 40;

    /// Budgets for content slots, delta bases and compression windows.
    ///
    /// # Errors
    /// When one is above 1 TiB.
    pub fn new(slots: u64, bases: u64, windows: u64) -> Result<Self, Invalid> {
        Ok(Self {
            slots: number("MirrorBudget.slots", slots, 0, Self::MAX)?,
            bases: number("MirrorBudget.bases", bases, 0, Self::MAX)?,
            windows: number("MirrorBudget.windows", windows, 0, Self::MAX)?,
        })
    }

    /// Content slots.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots
    }

    /// Bases of deltas.
    #[must_use]
    pub const fn bases(&self) -> u64 {
        self.bases
    }

    /// Compression windows.
    #[must_use]
    pub const fn windows(&self) -> u64 {
        self.windows
    }

    /// The lesser of two, in each part.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            slots: self.slots.min(other.slots),
            bases: self.bases.min(other.bases),
            windows: self.windows.min(other.windows),
        }
    }

    fn check_within(&self, offered: &Self) -> Result<(), Invalid> {
        number("MirrorBudget.slots", self.slots, 0, offered.slots)?;
        number("MirrorBudget.bases", self.bases, 0, offered.bases)?;
        number("MirrorBudget.windows", self.windows, 0, offered.windows)?;
        Ok(())
    }
}

impl TryFrom<wire::MirrorBudget> for MirrorBudget {
    type Error = Invalid;

    fn try_from(wire: wire::MirrorBudget) -> Result<Self, Invalid> {
        Self::new(wire.slots, wire.bases, wire.windows)
    }
}

impl From<MirrorBudget> for wire::MirrorBudget {
    fn from(budget: MirrorBudget) -> Self {
        Self {
            slots: budget.slots,
            bases: budget.bases,
            windows: budget.windows,
        }
    }
}

/// What the source can do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Key exchange suites.
    pub suites: Distinct<u16, 1>,
    /// Digest algorithms.
    pub digests: Distinct<u8, 1>,
    /// Codecs of groups.
    pub codecs: Distinct<u8, 0>,
    /// The most lanes.
    pub lanes: LaneCount,
    /// The guest's page size.
    pub page_size: PageSize,
    /// The most memory for mirrored state.
    pub mirror: MirrorBudget,
    /// Both memories are to be read again while the guest is stopped.
    pub verify_full: bool,
    /// For how long the source tries to come back when connections break; zero when it does not.
    pub resume_for: Duration,
}

/// The longest that a source may want to come back for: nobody waits for longer with a guest half moved.
pub const RESUME_FOR_MAX: Duration = Duration::from_secs(86_400);

impl TryFrom<wire::Offer> for Offer {
    type Error = Invalid;

    fn try_from(wire: wire::Offer) -> Result<Self, Invalid> {
        let digests = Distinct::from_wire("Offer.digests", &wire.digests)?;
        if !digests.as_slice().contains(&SHA256) {
            return Err(Why::Missing.of("Offer.digests: SHA-256"));
        }
        Ok(Self {
            suites: Distinct::from_wire("Offer.suites", &wire.suites)?,
            digests,
            codecs: Distinct::from_wire("Offer.codecs", &wire.codecs)?,
            lanes: LaneCount::new("Offer.lanes", wire.lanes)?,
            page_size: usize::try_from(wire.page_size)
                .ok()
                .and_then(|bytes| PageSize::new(bytes).ok())
                .ok_or_else(|| {
                    Why::Alignment {
                        found: wire.page_size.into(),
                    }
                    .of("Offer.page_size")
                })?,
            mirror: present("Offer.mirror", wire.mirror)?.try_into()?,
            verify_full: wire.verify_full,
            resume_for: {
                let most = u64::try_from(RESUME_FOR_MAX.as_millis()).unwrap_or(u64::MAX);
                number("Offer.resume_for_ms", wire.resume_for_ms.into(), 0, most)?;
                Duration::from_millis(wire.resume_for_ms.into())
            },
        })
    }
}

/// The digest algorithm that is always there, as WIRE.md §3 numbers it.
const SHA256: u8 = 1;

impl From<Offer> for wire::Offer {
    fn from(offer: Offer) -> Self {
        Self {
            suites: offer.suites.to_wire(),
            digests: offer.digests.to_wire(),
            codecs: offer.codecs.to_wire(),
            lanes: offer.lanes.lanes().into(),
            // At most 64 KiB.
            page_size: u32::try_from(offer.page_size.bytes()).unwrap_or(u32::MAX),
            mirror: Some(offer.mirror.into()),
            verify_full: offer.verify_full,
            resume_for_ms: u32::try_from(offer.resume_for.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

/// What the receiver takes of an offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// The suite.
    pub suite: u16,
    /// The digest algorithm.
    pub digest: u8,
    /// The codecs.
    pub codecs: Distinct<u8, 0>,
    /// Lanes that will be admitted.
    pub lanes: LaneCount,
    /// Memory for mirrored state.
    pub mirror: MirrorBudget,
    /// The QEMU that the guest goes to.
    pub destination: Destination,
}

/// The destination's QEMU, as far as the source's has to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The receiver controls it by QMP.
    pub managed: bool,
    /// It can send `SWITCHOVER_ACK`.
    pub switchover_ack: bool,
    /// Its version, where it is known.
    pub qemu: Option<Text<255>>,
}

impl TryFrom<wire::Destination> for Destination {
    type Error = Invalid;

    fn try_from(wire: wire::Destination) -> Result<Self, Invalid> {
        Ok(Self {
            managed: wire.managed,
            switchover_ack: wire.switchover_ack,
            qemu: match wire.qemu {
                none if none.is_empty() => None,
                some => Some(Text::new("Destination.qemu", some)?),
            },
        })
    }
}

impl From<Destination> for wire::Destination {
    fn from(destination: Destination) -> Self {
        Self {
            managed: destination.managed,
            switchover_ack: destination.switchover_ack,
            qemu: destination.qemu.map(Text::into_string).unwrap_or_default(),
        }
    }
}

impl Choice {
    /// It takes nothing that was not offered.
    ///
    /// # Errors
    /// When it does; names the field.
    pub fn check_within(&self, offer: &Offer) -> Result<(), Invalid> {
        let not_offered = |field, found: u64| Err(Why::NotOffered { found }.of(field));
        if !offer.suites.as_slice().contains(&self.suite) {
            return not_offered("Choice.suite", self.suite.into());
        }
        if !offer.digests.as_slice().contains(&self.digest) {
            return not_offered("Choice.digest", self.digest.into());
        }
        // A subset in the offer's order: each is found behind the one before.
        let mut offered = offer.codecs.as_slice().iter();
        for &codec in self.codecs.as_slice() {
            if !offered.any(|&candidate| candidate == codec) {
                return not_offered("Choice.codecs", codec.into());
            }
        }
        number(
            "Choice.lanes",
            self.lanes.lanes().into(),
            1,
            offer.lanes.lanes().into(),
        )?;
        self.mirror.check_within(&offer.mirror)?;
        // Only by QMP can memory be read again.
        if offer.verify_full && !self.destination.managed {
            return Err(Why::Missing.of("Destination.managed"));
        }
        Ok(())
    }
}

impl TryFrom<wire::Choice> for Choice {
    type Error = Invalid;

    fn try_from(wire: wire::Choice) -> Result<Self, Invalid> {
        let not_offered = |field, found: u32| {
            Why::NotOffered {
                found: found.into(),
            }
            .of(field)
        };
        Ok(Self {
            suite: wire
                .suite
                .try_into()
                .map_err(|_| not_offered("Choice.suite", wire.suite))?,
            digest: wire
                .digest
                .try_into()
                .map_err(|_| not_offered("Choice.digest", wire.digest))?,
            codecs: Distinct::from_wire("Choice.codecs", &wire.codecs)?,
            lanes: LaneCount::new("Choice.lanes", wire.lanes)?,
            mirror: present("Choice.mirror", wire.mirror)?.try_into()?,
            destination: present("Choice.destination", wire.destination)?.try_into()?,
        })
    }
}

impl From<Choice> for wire::Choice {
    fn from(choice: Choice) -> Self {
        Self {
            suite: choice.suite.into(),
            digest: choice.digest.into(),
            codecs: choice.codecs.to_wire(),
            lanes: choice.lanes.lanes().into(),
            mirror: Some(choice.mirror.into()),
            destination: Some(choice.destination.into()),
        }
    }
}

/// One end's part of the key exchange. Only its bounds are checked here; what a share must be, the suite knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shares {
    /// X25519 or P-256.
    pub ecdh: Bytes<32, 65>,
    /// ML-KEM-768's encapsulation key or ciphertext, or nothing.
    pub mlkem: Bytes<0, 1184>,
}

impl TryFrom<wire::Shares> for Shares {
    type Error = Invalid;

    fn try_from(wire: wire::Shares) -> Result<Self, Invalid> {
        Ok(Self {
            ecdh: Bytes::new("Shares.ecdh", wire.ecdh)?,
            mlkem: Bytes::new("Shares.mlkem", wire.mlkem)?,
        })
    }
}

impl From<Shares> for wire::Shares {
    fn from(shares: Shares) -> Self {
        Self {
            ecdh: shares.ecdh.into_vec(),
            mlkem: shares.mlkem.into_vec(),
        }
    }
}
