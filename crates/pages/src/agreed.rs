//! What the two ends agreed on for a session's batches. A sender that uses anything else is refused.

use crate::digest::Algorithm;
use crate::record::Codec;
use crate::refusal::Refusal;

/// What was agreed on. The default is the least: SHA-256, nothing compressed, no reference beyond a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreed {
    /// How the digest over a batch's pages is made.
    pub digest: Algorithm,
    /// How groups may be compressed.
    pub codecs: Codecs,
    /// How many windows there are: the highest that a group may name. Numbers run from 1, and 0 in a group means none.
    pub windows: u64,
    /// How many batches the receiver keeps for same-as and delta records to name. What is older has to be in the guest's memory.
    pub oldest: u64,
}

impl Agreed {
    pub(crate) fn check_digest(&self, found: Algorithm) -> Result<(), Refusal> {
        let agreed = self.digest;
        if found == agreed {
            Ok(())
        } else {
            Err(Refusal::DigestNotAgreed { found, agreed })
        }
    }

    pub(crate) const fn check_codec(&self, codec: Codec) -> Result<(), Refusal> {
        if self.codecs.has(codec) {
            Ok(())
        } else {
            Err(Refusal::CodecNotAgreed { codec })
        }
    }
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            digest: Algorithm::Sha256,
            codecs: Codecs::NONE,
            windows: 0,
            oldest: 0,
        }
    }
}

/// A set of codecs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Codecs {
    zstd: bool,
}

impl Codecs {
    /// Nothing is compressed.
    pub const NONE: Self = Self { zstd: false };
    /// All that this version knows.
    pub const ALL: Self = Self { zstd: true };

    /// This set and `codec`.
    #[must_use]
    pub const fn and(self, codec: Codec) -> Self {
        match codec {
            Codec::Zstd => Self { zstd: true },
        }
    }

    /// The codec is in it.
    #[must_use]
    pub const fn has(self, codec: Codec) -> bool {
        match codec {
            Codec::Zstd => self.zstd,
        }
    }
}
