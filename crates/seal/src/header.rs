//! The header of a sealed batch, in the clear and under the tag.
//!
//! ```text
//!  0        1        2                 4                                   8
//!  +--------+--------+-----------------+-----------------------------------+
//!  | version| zero   | lane            | epoch                             |
//!  +--------+--------+-----------------+-----------------------------------+
//!  | sequence                                                              |  16
//!  +-----------------------------------------------------------------------+
//!  | batch                                                                 |  24
//!  +-----------------------------------+-----------------------------------+
//!  | length                            |  28
//!  +-----------------------------------+
//! ```

use crate::error::Error;

/// A header that is well formed. Nothing in it is proven before its batch is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(crate) lane: u16,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) batch: u64,
    pub(crate) length: u32,
}

/// The longest body: 1 MiB of guest memory and a sixteenth for what describes it.
pub const MAX_BODY: u32 = (1 << 20) + (1 << 16);

/// The tag of AES-256-GCM, behind the body.
pub const TAG_LENGTH: usize = 16;

impl Header {
    /// Bytes of a header.
    pub const LENGTH: usize = 28;

    /// Takes a header apart and checks what needs no state: version, zero and length.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Zero`], [`Error::Length`].
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, Error> {
        let [version, zero] = field(bytes, 0);
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        if zero != 0 {
            return Err(Error::Zero { found: zero });
        }
        let length = u32::from_be_bytes(field(bytes, 24));
        if length > MAX_BODY {
            return Err(Error::Length {
                limit: MAX_BODY,
                found: length,
            });
        }
        Ok(Self {
            lane: u16::from_be_bytes(field(bytes, 2)),
            epoch: u32::from_be_bytes(field(bytes, 4)),
            sequence: u64::from_be_bytes(field(bytes, 8)),
            batch: u64::from_be_bytes(field(bytes, 16)),
            length,
        })
    }

    /// The lane that it names.
    #[must_use]
    pub fn lane(&self) -> u16 {
        self.lane
    }

    /// The epoch that it names.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The bytes of the body, without the tag.
    #[must_use]
    pub fn body_length(&self) -> u32 {
        self.length
    }

    pub(crate) fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = VERSION;
        bytes[2..4].copy_from_slice(&self.lane.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.batch.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// The wire's version; another layout is another version.
const VERSION: u8 = 1;

fn field<const N: usize>(bytes: &[u8; Header::LENGTH], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
