//! What a session's exchange leaves for those after a broken connection.
//!
//! ```text
//!  first exchange    PRK ── Expand "sealift v1 resumption" ‖ session ‖ T ─▶ resumption ─┐
//!                                                                                      ▼
//!  each later one    exporter ─▶ Extract(ecdh ‖ mlkem ‖ resumption) ─▶ a PRK of its own, bound to T and to what was said anew
//! ```
//!
//! Shares are made afresh each time, so a recorded connection is as closed as the first. The resumption secret proves the rest: that both ends are
//! the two of the first exchange, and not others of the same names. It stays the first one's for the whole session: however a reconnection ends, and
//! whichever end believes that it has succeeded, both still have it.

use core::fmt;

use crate::secret::Secret;

/// What both ends keep of the first exchange for as long as the session may be taken up again.
pub struct Resumption {
    secret: Secret<32>,
    transcript: [u8; 32],
}

impl Resumption {
    pub(crate) fn new(secret: Secret<32>, transcript: [u8; 32]) -> Self {
        Self { secret, transcript }
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        self.secret.bytes()
    }

    /// The hash of what was agreed on at first.
    pub(crate) fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }
}

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resumption(..)")
    }
}
