//! Keys for a saved guest: nobody is there to answer, so the exchange is with a key that its owner keeps.
//!
//! ```text
//!  the host that saves                                          the host that restores
//!  Saving::for_recipient(public key, seed)                      RecipientKey: the private key
//!      │ share ─▶ the file's header ─────────────────────────────▶ │ share, salt, header
//!      ▼                                                           ▼
//!  derive(salt, id, header) ─▶ Keyed<Source> ═ sealed batches ═▶ Keyed<Receiver> ◀─ derive(share, salt, id, header)
//! ```
//!
//! `proto/WIRE.md`, section 6, is the specification. Two things differ from a session. There are no confirmations: the
//! file's first tag that opens proves that the header is the one that the keys were made with. And nobody announces an epoch:
//! the next one begins where, and only where, the one before has no room left ([`Keyed::follow`]).
//!
//! The exchange is P-256's alone: what a certificate has is a P-256 key. The recipient's private key opens all that was ever sealed for
//! it, and a later quantum computer would too; a session has neither weakness.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::ecdh::{EcdhKey, P256_SHARE};
use crate::error::Error;
use crate::header::Header;
use crate::keyed::Keyed;
use crate::opener::Opener;
use crate::role::{Receiver, Side, Source};
use crate::schedule::{Schedule, SessionId};
use crate::secret::{Exporter, Secret, Seed, scrubbed};
use crate::suite::Group;

/// An exchange with a recipient's public key, by the host that saves.
pub struct Saving {
    agreed: Secret<32>,
    share: [u8; P256_SHARE],
    recipient: [u8; P256_SHARE],
}

/// The private key of the host that restores: good for one file.
pub struct RecipientKey {
    key: EcdhKey,
    share: [u8; P256_SHARE],
}

impl Saving {
    /// Makes an ephemeral key and agrees with the recipient's, which is SEC 1's uncompressed point as its certificate has it.
    ///
    /// # Errors
    /// [`Error::Seed`], [`Error::ShareLength`], [`Error::PointForm`], [`Error::PointOffCurve`].
    #[expect(clippy::needless_pass_by_value, reason = "a seed is used once")]
    pub fn for_recipient(recipient: &[u8], seed: Seed) -> Result<Self, Error> {
        scrubbed(|| {
            let key = EcdhKey::from_seed(Group::P256, &seed)?;
            let share = key.p256_share()?;
            let mut agreed = Secret::zero();
            key.agree(recipient, agreed.bytes_mut())?;
            Ok(Self {
                agreed,
                share,
                recipient: crate::ecdh::exact(recipient, crate::error::SharePart::P256)?,
            })
        })
    }

    /// What the recipient needs, for the file's header.
    #[must_use]
    pub fn share(&self) -> &[u8; P256_SHARE] {
        &self.share
    }

    /// Derives the file's keys. `salt` is fresh for each file; `header` is the file's beginning, up to its first sealed batch.
    ///
    /// # Errors
    /// [`Error::FieldTooLong`].
    pub fn derive(
        self,
        salt: &[u8; 32],
        id: SessionId,
        header: &[u8],
    ) -> Result<Keyed<Source>, Error> {
        derive(&self.agreed, salt, id, header, &self.share, &self.recipient)
    }
}

impl RecipientKey {
    /// Takes the private scalar in place.
    ///
    /// # Errors
    /// [`Error::Scalar`], and what `fill` returns.
    pub fn fill<E: From<Error>>(
        fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let scalar = Secret::fill(fill)?;
        Ok(scrubbed(|| {
            let key = EcdhKey::p256(scalar.bytes())?;
            let share = key.p256_share()?;
            Ok(Self { key, share })
        })?)
    }

    /// The public key: what a file that this opens was sealed for.
    #[must_use]
    pub fn share(&self) -> &[u8; P256_SHARE] {
        &self.share
    }

    /// Derives the file's keys, with the saving host's share as the header has it.
    ///
    /// # Errors
    /// [`Error::ShareLength`], [`Error::PointForm`], [`Error::PointOffCurve`], [`Error::FieldTooLong`].
    pub fn derive(
        self,
        share: &[u8],
        salt: &[u8; 32],
        id: SessionId,
        header: &[u8],
    ) -> Result<Keyed<Receiver>, Error> {
        let mut agreed = Secret::zero();
        let recipient = self.share;
        scrubbed(|| self.key.agree(share, agreed.bytes_mut()))?;
        derive(&agreed, salt, id, header, share, &recipient)
    }
}

impl Keyed<Receiver> {
    /// Goes over to the next epoch of a lane that nobody announces epochs of, for a batch with this header. It is the one after
    /// `spent`, and `spent` must have no room for the batch: so none of its last batches can have been left out.
    ///
    /// # Errors
    /// [`Error::Epoch`] when another epoch is due, [`Error::Finished`].
    pub fn follow(&mut self, spent: Opener, next: &Header) -> Result<Opener, Error> {
        let lane = spent.lane();
        let due = match spent.epoch().checked_add(1) {
            Some(due) if !spent.has_room_for(next.body_length()) => due,
            _ => spent.epoch(),
        };
        if next.epoch() != due || due == spent.epoch() {
            return Err(Error::Epoch {
                lane,
                expected: due,
                found: next.epoch(),
            });
        }
        let opened = spent.opened();
        self.retire(spent.end(opened)?)?;
        self.opener(lane, due)
    }
}

fn derive<S: Side>(
    agreed: &Secret<32>,
    salt: &[u8; 32],
    id: SessionId,
    header: &[u8],
    share: &[u8],
    recipient: &[u8],
) -> Result<Keyed<S>, Error> {
    let salt = Exporter::fill(|bytes| {
        bytes.copy_from_slice(salt);
        Ok::<_, Error>(())
    })?;
    let transcript = transcript(header, share, recipient)?;
    Ok(Keyed::new(Schedule::extract(
        &salt,
        agreed.bytes(),
        id,
        transcript,
    )))
}

/// The file's header and both public keys, each with its length, under a label of its own.
fn transcript(header: &[u8], share: &[u8], recipient: &[u8]) -> Result<[u8; 32], Error> {
    let mut hash = Sha256::new();
    hash.update(LABEL);
    for (field, bytes) in [
        ("saved header", header),
        ("saver's share", share),
        ("recipient's key", recipient),
    ] {
        let length = u32::try_from(bytes.len()).map_err(|_| Error::FieldTooLong { field })?;
        hash.update(length.to_be_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().into())
}

/// The label as the file's keys have it: the length in one byte, then ASCII.
const LABEL: &[u8] = b"\x10sealift v1 saved";

impl fmt::Debug for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Saving(..)")
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientKey(..)")
    }
}
