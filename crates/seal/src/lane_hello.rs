//! The key with which the source proves that a lane's connection is its own: WIRE.md §5.
//!
//! ```text
//!  Keyed ── lane_hello_key() ─▶ LaneHelloKey ── mac(hello without its MAC) ─▶ 32 bytes
//!                                            ── verify(hello without its MAC, MAC) ─▶ whether
//! ```
//!
//! Both ends have the same key, and it is one for all lanes: which lane a hello is for stands under the MAC.

use core::fmt;

use ring::hmac;

use crate::secret::{Secret, scrubbed};

/// A session's key for the hellos of its lanes. Erased when dropped.
pub struct LaneHelloKey(Secret<{ Self::LENGTH }>);

impl LaneHelloKey {
    /// 32 bytes, the output of the HMAC's SHA-256: a longer key would prove no more.
    const LENGTH: usize = 32;

    pub(crate) const fn new(key: Secret<{ Self::LENGTH }>) -> Self {
        Self(key)
    }

    /// The MAC over a hello.
    #[must_use]
    pub fn mac(&self, hello: &[u8]) -> [u8; 32] {
        scrubbed(|| {
            let tag = hmac::sign(&self.hmac(), hello);
            let mut mac = [0; 32];
            // Both are SHA-256's length.
            mac.copy_from_slice(tag.as_ref());
            mac
        })
    }

    /// Whether `mac` is the MAC over this hello; takes the same time whatever the difference.
    #[must_use]
    pub fn verify(&self, hello: &[u8], mac: &[u8]) -> bool {
        scrubbed(|| hmac::verify(&self.hmac(), hello, mac).is_ok())
    }

    /// Made for each use: ring does not erase what it makes of a key, so nothing keeps it.
    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.bytes())
    }
}

impl fmt::Debug for LaneHelloKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaneHelloKey(..)")
    }
}
