//! The keys that a lane goes over to: `Epoch` in `flow.proto`.

use super::enumeration::enumeration;
use super::handshake::Choice;
use super::invalid::{Invalid, Why, number};
use super::wire;

/// Batches that an epoch may have: WIRE.md §1.
const BATCHES_MAX: u64 = 1 << 31;

enumeration! {
    /// Which way a lane's batches travel.
    Direction = wire::Direction {
        /// Pages, and all that the guest is.
        SourceToReceiver,
        /// What comes back.
        ReceiverToSource,
    }
}

/// An epoch of a lane, and how the one before it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epoch {
    lane: u8,
    direction: Direction,
    epoch: u32,
    sealed_before: u32,
}

impl Epoch {
    /// Epoch number `epoch` of a lane and direction, before which the source sealed so many batches in the last one.
    ///
    /// # Errors
    /// When more were sealed than an epoch may have, or any though there was no epoch before it or the receiver seals.
    pub fn new(
        lane: u8,
        direction: Direction,
        epoch: u32,
        sealed_before: u32,
    ) -> Result<Self, Invalid> {
        let most = match (direction, epoch) {
            // Numbers come from one counter, so nothing was before the first.
            (Direction::ReceiverToSource, _) | (_, 0) => 0,
            (Direction::SourceToReceiver, 1..) => BATCHES_MAX,
        };
        number("Epoch.sealed_before", sealed_before.into(), 0, most)?;
        Ok(Self {
            lane,
            direction,
            epoch,
            sealed_before,
        })
    }

    /// It is for a lane that was agreed on, and for the way that batches travel: nothing is agreed on that would come back.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_within(&self, choice: &Choice) -> Result<(), Invalid> {
        let most = u64::from(choice.lanes.lanes()) - 1;
        number("Epoch.lane", self.lane.into(), 0, most)?;
        if self.direction != Direction::SourceToReceiver {
            let found = u64::try_from(self.direction.to_wire()).unwrap_or_default();
            return Err(Why::NotOffered { found }.of("Epoch.direction"));
        }
        Ok(())
    }

    /// The lane's number.
    #[must_use]
    pub const fn lane(&self) -> u8 {
        self.lane
    }

    /// Which way its batches travel.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The epoch's number.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Batches that the source sealed for this lane and direction in the epoch before this one.
    #[must_use]
    pub const fn sealed_before(&self) -> u32 {
        self.sealed_before
    }
}

impl TryFrom<wire::Epoch> for Epoch {
    type Error = Invalid;

    fn try_from(wire: wire::Epoch) -> Result<Self, Invalid> {
        let most = u8::MAX;
        number("Epoch.lane", wire.lane.into(), 0, most.into())?;
        Self::new(
            u8::try_from(wire.lane).unwrap_or(most),
            Direction::from_wire("Epoch.direction", wire.direction)?,
            wire.epoch,
            wire.sealed_before,
        )
    }
}

impl From<Epoch> for wire::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self {
            lane: epoch.lane.into(),
            direction: epoch.direction.to_wire(),
            epoch: epoch.epoch,
            sealed_before: epoch.sealed_before,
        }
    }
}
