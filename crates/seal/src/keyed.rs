//! The last two stages: keys that the peer has not confirmed, and keys in use.
//!
//! ```text
//!  Unconfirmed ── confirmation() ──▶ peer
//!       │
//!       └─ confirm(peer's) ─▶ Keyed<Source>    sealer(lane)          opener(lane)           allots epochs
//!                             Keyed<Receiver>  sealer(lane, epoch)   opener(lane, epoch)    is told epochs
//! ```
//!
//! The source allots every epoch, for both directions, from one counter; that makes "never one twice" the
//! business of one place. It tells the receiver the lane, the direction and the epoch over the control channel. The
//! receiver refuses a number that is not higher than the last one of that lane and direction, so that even a source that
//! lies cannot make it seal twice under one nonce.
//!
//! A lane has one epoch at a time in each direction. Its next one begins after `retire` was shown that this one has
//! [`Ended`] whole:
//!
//! ```text
//!  sealing end                       control channel                   opening end
//!  Sealer::end ─▶ Ended ── lane, batches, the next epoch ─▶ Opener::end(batches) ─▶ Ended
//!     retire(Ended), sealer(lane, …)                           retire(Ended), opener(lane, …)
//! ```

use core::fmt;

use crate::error::Error;
use crate::lane_hello::LaneHelloKey;
use crate::lanes::{Ended, Half, Lanes};
use crate::opener::Opener;
use crate::resumption::Resumption;
use crate::role::{Direction, Receiver, Side, Source};
use crate::schedule::{Confirmation, Schedule};
use crate::sealer::Sealer;

/// Keys are derived, but the peer has not proven yet that it derived the same.
pub struct Unconfirmed<S> {
    schedule: Schedule,
    side: core::marker::PhantomData<S>,
}

/// Both ends agree: lanes can be sealed and opened.
pub struct Keyed<S: Side> {
    schedule: Schedule,
    epochs: S::Epochs,
    sealed: Lanes,
    opened: Lanes,
}

impl<S: Side> Unconfirmed<S> {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            side: core::marker::PhantomData,
        }
    }

    /// What the peer needs to confirm.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn confirmation(&self) -> Result<Confirmation, Error> {
        self.schedule.confirmation(S::ROLE)
    }

    /// Compares the peer's confirmation with the expected one, in constant time.
    ///
    /// # Errors
    /// [`Error::Confirmation`]: the ends do not agree on the transcript, or on anything else that went into the keys.
    pub fn confirm(self, peer: &[u8]) -> Result<Keyed<S>, Error> {
        if !self.schedule.confirmation(S::ROLE.peer())?.matches(peer) {
            return Err(Error::Confirmation);
        }
        Ok(Keyed::new(self.schedule))
    }

    #[cfg(test)]
    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }
}

impl<S: Side> Keyed<S> {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            epochs: S::Epochs::default(),
            sealed: Lanes::new(),
            opened: Lanes::new(),
        }
    }

    /// The key for the hellos of this session's lanes.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn lane_hello_key(&self) -> Result<LaneHelloKey, Error> {
        self.schedule.lane_hello()
    }

    /// What later exchanges of this session begin with; of the first exchange, for both ends alike.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn resumption(&self) -> Result<Resumption, Error> {
        self.schedule.resumption()
    }

    /// Takes note that an epoch of these keys has ended, so that the next one of its lane can begin.
    ///
    /// Lane and epoch are what it goes by: an [`Ended`] of the same numbers from an exchange before a reconnect is not told
    /// apart, and is the caller's to drop with those keys.
    ///
    /// # Errors
    /// [`Error::EpochNotLive`].
    #[expect(clippy::needless_pass_by_value, reason = "an epoch ends once")]
    pub fn retire(&mut self, ended: Ended) -> Result<(), Error> {
        let lanes = match ended.half {
            Half::Sealed => &mut self.sealed,
            Half::Opened => &mut self.opened,
        };
        lanes.end(ended.lane(), ended.epoch())
    }
}

impl Keyed<Source> {
    /// Starts an epoch of a lane to the receiver.
    ///
    /// # Errors
    /// [`Error::EpochLive`], [`Error::EpochsExhausted`], [`Error::Library`].
    pub fn sealer(&mut self, lane: u8) -> Result<Sealer, Error> {
        let epoch = self.epochs.begin(&mut self.sealed, lane)?;
        self.schedule
            .epoch(lane, Direction::ToReceiver, epoch)
            .map(Sealer::new)
    }

    /// Starts an epoch of a lane from the receiver.
    ///
    /// # Errors
    /// [`Error::EpochLive`], [`Error::EpochsExhausted`], [`Error::Library`].
    pub fn opener(&mut self, lane: u8) -> Result<Opener, Error> {
        let epoch = self.epochs.begin(&mut self.opened, lane)?;
        self.schedule
            .epoch(lane, Direction::ToSource, epoch)
            .map(Opener::new)
    }
}

impl Keyed<Receiver> {
    /// Starts the epoch that the source allotted for a lane to the source.
    ///
    /// # Errors
    /// [`Error::EpochLive`], [`Error::EpochNotHigher`], [`Error::Library`].
    pub fn sealer(&mut self, lane: u8, epoch: u32) -> Result<Sealer, Error> {
        self.sealed.begin(lane, epoch)?;
        self.schedule
            .epoch(lane, Direction::ToSource, epoch)
            .map(Sealer::new)
    }

    /// Starts the epoch that the source allotted for a lane from the source.
    ///
    /// # Errors
    /// [`Error::EpochLive`], [`Error::EpochNotHigher`], [`Error::Library`].
    pub fn opener(&mut self, lane: u8, epoch: u32) -> Result<Opener, Error> {
        self.opened.begin(lane, epoch)?;
        self.schedule
            .epoch(lane, Direction::ToReceiver, epoch)
            .map(Opener::new)
    }
}

/// The source's counter of epochs: the next one, until there is none.
pub struct Allotted {
    next: Option<u32>,
}

impl Allotted {
    fn begin(&mut self, lanes: &mut Lanes, lane: u8) -> Result<u32, Error> {
        lanes.idle(lane)?;
        let epoch = self.allot()?;
        lanes.begin(lane, epoch)?;
        Ok(epoch)
    }

    fn allot(&mut self) -> Result<u32, Error> {
        let epoch = self.next.ok_or(Error::EpochsExhausted)?;
        self.next = epoch.checked_add(1);
        Ok(epoch)
    }
}

impl Default for Allotted {
    fn default() -> Self {
        Self { next: Some(0) }
    }
}

impl<S> fmt::Debug for Unconfirmed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unconfirmed(..)")
    }
}

impl<S: Side> fmt::Debug for Keyed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_and_do_not_start_again() {
        let mut epochs = Allotted {
            next: Some(u32::MAX),
        };
        assert_eq!(epochs.allot(), Ok(u32::MAX));
        assert_eq!(epochs.allot(), Err(Error::EpochsExhausted));
        assert_eq!(epochs.allot(), Err(Error::EpochsExhausted));
    }
}
