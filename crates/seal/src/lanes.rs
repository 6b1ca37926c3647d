//! Which epoch of each lane is live, in one direction.
//!
//! ```text
//!         begin(lane, epoch), higher than the last
//!   idle ─────────────────────────────────────────▶ live
//!     ▲                                              │  Sealer::end, Opener::end(count) ─▶ Ended
//!     └────────────────── end(Ended) ────────────────┘
//! ```
//!
//! One epoch at a time: the next one begins when the one before is proven to have come through whole. A lane whose
//! epoch failed never comes back to idle.

use alloc::boxed::Box;

use crate::error::Error;

/// Proof that an epoch has ended whole: there is no sealer or opener for it any more, and no batch of it is missing.
///
/// The next epoch of its lane begins after [`Keyed::retire`](crate::Keyed::retire) took it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub(crate) half: Half,
    pub(crate) lane: u8,
    pub(crate) epoch: u32,
    pub(crate) batches: u64,
}

/// What this end did in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Sealed,
    Opened,
}

/// The lanes of one direction, in 3 KiB.
pub(crate) struct Lanes(Box<[Epochs; LANES]>);

#[derive(Clone, Copy, Default)]
struct Epochs {
    /// The highest so far.
    last: Option<u32>,
    /// Whether that one is in use.
    live: bool,
}

/// Lanes are numbered by a byte.
const LANES: usize = 256;

impl Ended {
    /// The lane.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane
    }

    /// The epoch that ended.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The batches that were sealed in it: what the peer needs to end it too.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self(Box::new([Epochs::default(); LANES]))
    }

    /// Refuses a lane whose epoch has not ended.
    pub(crate) fn idle(&self, lane: u8) -> Result<(), Error> {
        match self.0[usize::from(lane)] {
            Epochs {
                last: Some(epoch),
                live: true,
            } => Err(Error::EpochLive { lane, epoch }),
            _ => Ok(()),
        }
    }

    pub(crate) fn begin(&mut self, lane: u8, found: u32) -> Result<(), Error> {
        self.idle(lane)?;
        let epochs = &mut self.0[usize::from(lane)];
        if let Some(last) = epochs.last.filter(|&last| found <= last) {
            return Err(Error::EpochNotHigher { lane, last, found });
        }
        *epochs = Epochs {
            last: Some(found),
            live: true,
        };
        Ok(())
    }

    pub(crate) fn end(&mut self, lane: u8, epoch: u32) -> Result<(), Error> {
        let epochs = &mut self.0[usize::from(lane)];
        if !epochs.live || epochs.last != Some(epoch) {
            return Err(Error::EpochNotLive { lane, epoch });
        }
        epochs.live = false;
        Ok(())
    }
}
