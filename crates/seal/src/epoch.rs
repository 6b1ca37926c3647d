//! One epoch of one lane and direction: its key, its nonces, and how much it may still be used.
//!
//! ```text
//!  nonce:  IV (12 bytes)  xor  0000 0000 ‖ sequence (8 bytes)
//! ```
//!
//! The sequence number only grows, and an epoch is derived once, so no nonce is used twice with a key.
//!
//! Key and IV are boxed: an epoch is moved from the schedule to its sealer or opener and on to a lane's thread, and each
//! move of the bytes themselves would leave a copy behind.

use alloc::boxed::Box;
use core::hint::black_box;

use ring::aead;

use crate::secret::Secret;

/// Batches of an epoch: half of the 2^32 that the design allows a key.
pub(crate) const EPOCH_BATCHES: u64 = 1 << 31;

/// Bytes of bodies of an epoch: half of the 64 GiB that the design allows a key.
pub(crate) const EPOCH_BYTES: u64 = 32 << 30;

pub(crate) struct Epoch {
    lane: u8,
    epoch: u32,
    key: Box<aead::LessSafeKey>,
    iv: Secret<{ aead::NONCE_LEN }>,
    /// The next sequence number, and so the batches so far.
    sequence: u64,
    /// The bytes of bodies so far.
    bytes: u64,
}

impl Epoch {
    pub(crate) fn new(lane: u8, epoch: u32, key: Box<aead::LessSafeKey>) -> Self {
        Self {
            lane,
            epoch,
            key,
            iv: Secret::zero(),
            sequence: 0,
            bytes: 0,
        }
    }

    pub(crate) fn iv_mut(&mut self) -> &mut [u8; aead::NONCE_LEN] {
        self.iv.bytes_mut()
    }

    pub(crate) fn lane(&self) -> u8 {
        self.lane
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn key(&self) -> &aead::LessSafeKey {
        &self.key
    }

    pub(crate) fn nonce(&self) -> aead::Nonce {
        self.nonce_of(self.sequence)
    }

    /// To open again what was sealed: nothing is sealed under a number but the next.
    pub(crate) fn nonce_of(&self, sequence: u64) -> aead::Nonce {
        let mut nonce = *self.iv.bytes();
        let (_, low) = nonce.split_at_mut(aead::NONCE_LEN - 8);
        for (byte, sequence) in low.iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }

    pub(crate) fn has_room_for(&self, length: u32) -> bool {
        self.sequence < EPOCH_BATCHES && u64::from(length) <= EPOCH_BYTES - self.bytes
    }

    /// To be called once for each batch that `has_room_for` let through.
    pub(crate) fn advance(&mut self, length: u32) {
        self.sequence += 1;
        self.bytes += u64::from(length);
    }

    /// Skips ahead, to test what happens at the limits without sealing 32 GiB.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, sequence: u64, bytes: u64) {
        self.sequence = sequence;
        self.bytes = bytes;
    }
}

/// `ring` does not zeroize its keys, so a key of zeros is put over this one, in the same box.
impl Drop for Epoch {
    fn drop(&mut self) {
        // ring takes 32 bytes for this algorithm; `Schedule::epoch` has come this way before.
        if let Ok(zeros) = aead::UnboundKey::new(&aead::AES_256_GCM, &[0; 32]) {
            *self.key = aead::LessSafeKey::new(zeros);
            // Somebody might look at it: without this the compiler may leave out what goes into a box about to be freed.
            black_box(&self.key);
        }
    }
}
