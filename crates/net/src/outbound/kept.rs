//! What was sent and is not acknowledged: it may have to be sent again.
//!
//! ```text
//!  body ─▶ seal ─▶ lane's socket ─▶ kept, sealed ─┬─ acknowledged ─▶ its buffer is used again
//!   ▲                                             └─ the connection is gone:
//!   └──────────────────── opened again ◀──────────────── the receiver has not seen it
//! ```
//!
//! A batch goes again under its own number and as the same bytes: whatever names it, or goes on from it on a window, stays as it was. So nothing of the way
//! out, and nothing at the receiver, needs to be taken back when a connection breaks. What is kept is bounded by the window, as what is on its way is. It is
//! kept sealed, since that is what there is; only when connections break a batch is opened, and sealed anew under the next connection's keys.

use std::collections::BTreeMap;

use sealift_seal::{Error, Unsealer};

use super::shared::Body;

/// Batches by their numbers.
#[derive(Debug, Default)]
pub(super) struct Kept {
    batches: BTreeMap<u64, Vec<u8>>,
    /// Of epochs that have ended.
    keys: Vec<Unsealer>,
}

impl Kept {
    /// Keeps a sealed batch.
    pub(super) fn keep(&mut self, number: u64, sealed: Vec<u8>) {
        self.batches.insert(number, sealed);
    }

    /// It was acknowledged.
    pub(super) fn let_go(&mut self, number: u64) -> Option<Vec<u8>> {
        self.batches.remove(&number)
    }

    /// An epoch has ended.
    pub(super) fn ended(&mut self, keys: Unsealer) {
        // What an epoch sealed is acknowledged long before it and the next have both been used up.
        let of_lane = |other: &&Unsealer| other.lane() == keys.lane();
        if self.keys.iter().filter(of_lane).count() == 2
            && let Some(oldest) = self
                .keys
                .iter()
                .position(|other| other.lane() == keys.lane())
        {
            self.keys.remove(oldest);
        }
        self.keys.push(keys);
    }

    /// Takes out what the receiver has not seen, as it was before it was sealed; the rest is its own by now, and so are the keys of the past.
    pub(super) fn take_unseen(
        &mut self,
        has_seen: impl Fn(u64) -> bool,
    ) -> Result<Vec<Body>, Error> {
        let keys = std::mem::take(&mut self.keys);
        let unseen = std::mem::take(&mut self.batches)
            .into_iter()
            .filter(|(number, _)| !has_seen(*number));
        unseen
            .map(|(number, mut buffer)| {
                unseal(&keys, &mut buffer)?;
                Ok(Body { number, buffer })
            })
            .collect()
    }
}

/// With the keys that fit.
fn unseal(keys: &[Unsealer], buffer: &mut [u8]) -> Result<(), Error> {
    let mut refused = Error::Library {
        operation: "to open a batch again without the keys of its epoch",
    };
    for keys in keys {
        match keys.unseal(buffer) {
            Ok(()) => return Ok(()),
            // Told by its header: nothing was changed.
            Err(error @ (Error::Lane { .. } | Error::Epoch { .. })) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}
