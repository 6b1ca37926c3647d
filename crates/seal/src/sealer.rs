//! Sealing: one epoch of one lane, the sending end. And opening again, at the same end: a batch whose connection broke is sealed anew for
//! another one, and until then it lies here sealed.

use core::fmt;

use ring::aead::Aad;

use crate::epoch::Epoch;
use crate::error::Error;
use crate::header::{Header, MAX_BODY, TAG_LENGTH};
use crate::lanes::{Ended, Half};

/// Seals the batches of one epoch of one lane, in place.
pub struct Sealer {
    epoch: Epoch,
}

impl Sealer {
    /// What a sealed batch takes besides its body.
    pub const OVERHEAD: usize = Header::LENGTH + TAG_LENGTH;

    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch }
    }

    /// Seals the next batch of this lane in place. `buffer` is exactly one sealed batch, its body filled in:
    ///
    /// ```text
    ///  +-------------+------------------- … ---+--------------+
    ///  | header (28) | body                    | tag (16)     |
    ///  +-------------+------------------- … ---+--------------+
    ///    written       encrypted                 written
    /// ```
    ///
    /// `batch` is the batch's number in the session and direction. The caller must not use one twice, and none that is
    /// [`Ledger::WINDOW`](crate::Ledger::WINDOW) or more above the lowest that the peer has not acknowledged: the peer would
    /// refuse it.
    ///
    /// # Errors
    /// [`Error::BufferTooShort`], [`Error::BodyTooLong`], [`Error::BatchesExhausted`], [`Error::EpochSpent`]. The buffer is
    /// then as it was, and the sealer can go on. [`Error::Library`]: the buffer may not be sent, and nothing else under this
    /// epoch either.
    pub fn seal(&mut self, batch: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let found = buffer.len();
        let too_short = Error::BufferTooShort {
            needed: Self::OVERHEAD,
            found,
        };
        let Some((header, rest)) = buffer.split_first_chunk_mut::<{ Header::LENGTH }>() else {
            return Err(too_short);
        };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG_LENGTH>() else {
            return Err(too_short);
        };
        let length = u32::try_from(body.len())
            .ok()
            .filter(|&length| length <= MAX_BODY)
            .ok_or(Error::BodyTooLong {
                limit: MAX_BODY,
                found: body.len(),
            })?;
        if batch == u64::MAX {
            return Err(Error::BatchesExhausted);
        }
        if !self.epoch.has_room_for(length) {
            return Err(Error::EpochSpent {
                lane: self.epoch.lane(),
                epoch: self.epoch.epoch(),
            });
        }

        *header = Header {
            lane: u16::from(self.epoch.lane()),
            epoch: self.epoch.epoch(),
            sequence: self.epoch.sequence(),
            batch,
            length,
        }
        .encode();
        let nonce = self.epoch.nonce();
        // The nonce counts as used from here on, whatever comes.
        self.epoch.advance(length);
        let sealed = self
            .epoch
            .key()
            .seal_in_place_separate_tag(nonce, Aad::from(&*header), body)
            .map_err(|_| Error::Library {
                operation: "to seal a batch",
            })?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    /// Whether a body of this length still fits this epoch. When not, the next epoch is due.
    #[must_use]
    pub fn has_room_for(&self, length: u32) -> bool {
        self.epoch.has_room_for(length)
    }

    /// The batches sealed so far in this epoch.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.epoch.sequence()
    }

    /// Ends the epoch. The peer needs to know [how many batches](Ended::batches) it has to have opened.
    #[must_use = "the next epoch of this lane begins with it"]
    pub fn end(self) -> Ended {
        self.end_and_keep().0
    }

    /// Ends the epoch, and keeps its key for batches that may have to be [opened again](Unsealer::unseal).
    #[must_use = "the next epoch of this lane begins with it"]
    pub fn end_and_keep(self) -> (Ended, Unsealer) {
        let ended = Ended {
            half: Half::Sealed,
            lane: self.lane(),
            epoch: self.epoch(),
            batches: self.sealed(),
        };
        (ended, Unsealer { epoch: self.epoch })
    }

    /// The lane that this seals for.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.epoch.lane()
    }

    /// The epoch, which the peer needs to know.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.epoch()
    }

    #[cfg(test)]
    pub(crate) fn epoch_mut(&mut self) -> &mut Epoch {
        &mut self.epoch
    }
}

/// Opens again, at the end that sealed them, the batches of an epoch that has ended.
pub struct Unsealer {
    epoch: Epoch,
}

impl Unsealer {
    /// The lane that this has sealed for.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.epoch.lane()
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.epoch()
    }

    /// Opens a sealed batch in place: afterwards its body is in `buffer` as before [`Sealer::seal`], with room for a header before it
    /// and for a tag behind it.
    ///
    /// # Errors
    /// [`Error::BufferTooShort`], those of a header, [`Error::Lane`], [`Error::Epoch`], [`Error::Tag`]: it is not what this epoch has sealed.
    /// What is in `buffer` may then not be used.
    pub fn unseal(&self, buffer: &mut [u8]) -> Result<(), Error> {
        let found = buffer.len();
        let Some((header, sealed)) = buffer.split_first_chunk_mut::<{ Header::LENGTH }>() else {
            return Err(Error::BufferTooShort {
                needed: Sealer::OVERHEAD,
                found,
            });
        };
        let parsed = Header::parse(header)?;
        if parsed.lane != u16::from(self.lane()) {
            return Err(Error::Lane {
                expected: self.lane(),
                found: parsed.lane,
            });
        }
        if parsed.epoch != self.epoch() {
            return Err(Error::Epoch {
                lane: self.lane(),
                expected: self.epoch(),
                found: parsed.epoch,
            });
        }
        let nonce = self.epoch.nonce_of(parsed.sequence);
        self.epoch
            .key()
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .map(drop)
            .map_err(|_| Error::Tag {
                lane: self.lane(),
                epoch: self.epoch(),
                sequence: parsed.sequence,
            })
    }
}

impl fmt::Debug for Unsealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealer")
            .field("lane", &self.lane())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("lane", &self.lane())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
