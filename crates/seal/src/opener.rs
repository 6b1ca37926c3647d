//! Opening: one epoch of one lane, the receiving end.
//!
//! ```text
//!             check(header)            open(checked, body ‖ tag)         accept(ledger)
//!  28 bytes ───────────────▶ Checked ───────────────────────────▶ Opened ──────────────▶ the body
//!             version, zero, lane,      AES-256-GCM over              batch number
//!             epoch, sequence, length   header and body               not seen before
//!                    │                         │                            │
//!                    └─────────────────────────┴── any refusal, or ─────────┘
//!                                              │   an Opened dropped
//!                                              ▼
//!                                          finished
//! ```
//!
//! What is cheap to refuse is refused before a byte of the body is read. The plaintext is handed out when the ledger has
//! taken the batch number too, and wiped when an [`Opened`] is dropped without. It is in the caller's buffer all the while: an
//! `Opened` that is leaked, with `mem::forget` say, leaves it there to be read, and its opener finished. The ledger is not
//! taken by `open`, so that lanes decrypt side by side and share it for a moment only.

use core::fmt;
use core::mem;

use ring::aead::Aad;
use zeroize::Zeroize;

use crate::epoch::Epoch;
use crate::error::Error;
use crate::header::{Header, TAG_LENGTH};
use crate::lanes::{Ended, Half};
use crate::ledger::Ledger;

/// Opens the batches of one epoch of one lane, in place and in order. The first refusal finishes it.
pub struct Opener {
    epoch: Epoch,
    finished: bool,
}

/// A header that fits its opener; its body can be read now.
#[derive(Debug)]
pub struct Checked {
    header: Header,
    bytes: [u8; Header::LENGTH],
}

/// A batch that its tag has proven, but whose number has not been looked up yet.
///
/// Dropped without being accepted, it wipes the body and leaves its opener finished. Leaked, it does only the latter.
#[must_use = "a batch that is not accepted finishes its lane"]
pub struct Opened<'o, 'b> {
    opener: &'o mut Opener,
    batch: u64,
    body: &'b mut [u8],
}

impl Opener {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            finished: false,
        }
    }

    /// Checks the header of the next batch, before its body is read.
    ///
    /// # Errors
    /// [`Error::Finished`], [`Error::Version`], [`Error::Zero`], [`Error::Length`], [`Error::Lane`], [`Error::Epoch`],
    /// [`Error::Replay`], [`Error::Gap`], [`Error::EpochOverrun`]. The opener is then finished.
    pub fn check(&mut self, header: &[u8; Header::LENGTH]) -> Result<Checked, Error> {
        self.go_on()?;
        let checked = Header::parse(header).and_then(|parsed| {
            self.expect(&parsed)?;
            Ok(Checked {
                header: parsed,
                bytes: *header,
            })
        });
        self.finished = checked.is_err();
        checked
    }

    /// Opens a batch in place. `sealed` is body and tag, [`Checked::sealed_length`] bytes.
    ///
    /// # Errors
    /// [`Error::Finished`], [`Error::Truncated`], [`Error::Surplus`], [`Error::Tag`], and those of
    /// [`check`](Self::check) if `checked` is not from its last call. The opener is then finished, and nothing of
    /// `sealed` may be used.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a header is good for one batch"
    )]
    pub fn open<'o, 'b>(
        &'o mut self,
        checked: Checked,
        sealed: &'b mut [u8],
    ) -> Result<Opened<'o, 'b>, Error> {
        self.go_on()?;
        // Until the batch is accepted.
        self.finished = true;
        self.expect(&checked.header)?;
        let expected = checked.sealed_length();
        let found = sealed.len();
        if found < expected {
            return Err(Error::Truncated { expected, found });
        }
        if found > expected {
            return Err(Error::Surplus { expected, found });
        }
        let body = self
            .epoch
            .key()
            .open_in_place(self.epoch.nonce(), Aad::from(&checked.bytes), sealed)
            .map_err(|_| Error::Tag {
                lane: self.epoch.lane(),
                epoch: self.epoch.epoch(),
                sequence: self.epoch.sequence(),
            })?;
        self.epoch.advance(checked.header.length);
        Ok(Opened {
            opener: self,
            batch: checked.header.batch,
            body,
        })
    }

    /// The batches opened so far in this epoch.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.epoch.sequence()
    }

    /// Ends the epoch, when it has opened as many batches as the peer says, over the control channel, that it sealed. No
    /// sequence number can tell that the last batches of all were withheld; this does.
    ///
    /// # Errors
    /// [`Error::Finished`], [`Error::EpochCut`]. The epoch has not ended then, and its lane gets no other from these keys.
    pub fn end(self, sealed: u64) -> Result<Ended, Error> {
        self.go_on()?;
        if self.opened() != sealed {
            return Err(Error::EpochCut {
                lane: self.lane(),
                epoch: self.epoch(),
                expected: sealed,
                found: self.opened(),
            });
        }
        Ok(Ended {
            half: Half::Opened,
            lane: self.lane(),
            epoch: self.epoch(),
            batches: sealed,
        })
    }

    /// Whether a body of this length still fits this epoch.
    pub(crate) fn has_room_for(&self, length: u32) -> bool {
        self.epoch.has_room_for(length)
    }

    /// The lane that this opens.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.epoch.lane()
    }

    /// The epoch in force.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.epoch()
    }

    #[cfg(test)]
    pub(crate) fn epoch_mut(&mut self) -> &mut Epoch {
        &mut self.epoch
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.finished {
            return Err(Error::Finished {
                lane: self.lane(),
                epoch: self.epoch(),
            });
        }
        Ok(())
    }

    fn expect(&self, header: &Header) -> Result<(), Error> {
        let lane = self.epoch.lane();
        if header.lane != u16::from(lane) {
            return Err(Error::Lane {
                expected: lane,
                found: header.lane,
            });
        }
        if header.epoch != self.epoch.epoch() {
            return Err(Error::Epoch {
                lane,
                expected: self.epoch.epoch(),
                found: header.epoch,
            });
        }
        let expected = self.epoch.sequence();
        let found = header.sequence;
        if found < expected {
            return Err(Error::Replay {
                lane,
                expected,
                found,
            });
        }
        if found > expected {
            return Err(Error::Gap {
                lane,
                expected,
                found,
            });
        }
        if !self.epoch.has_room_for(header.length) {
            return Err(Error::EpochOverrun {
                lane,
                epoch: self.epoch.epoch(),
            });
        }
        Ok(())
    }
}

impl Checked {
    /// The bytes of body and tag that follow.
    #[must_use]
    pub fn sealed_length(&self) -> usize {
        // Bounded by the header's check, far below any usize.
        self.header.length as usize + TAG_LENGTH
    }
}

impl<'b> Opened<'_, 'b> {
    /// The batch's number, proven to be what the peer sealed.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Enters the batch number in the session's ledger and hands out the body.
    ///
    /// # Errors
    /// [`Error::BatchSeen`], [`Error::BatchAhead`]. The opener is then finished.
    pub fn accept(mut self, ledger: &mut Ledger) -> Result<&'b mut [u8], Error> {
        ledger.enter(self.batch)?;
        self.opener.finished = false;
        Ok(mem::take(&mut self.body))
    }
}

impl Drop for Opened<'_, '_> {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("lane", &self.lane())
            .field("epoch", &self.epoch())
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Opened<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
