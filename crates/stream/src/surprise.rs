//! Why a channel stopped being understood.

use core::fmt;

use crate::name::{Name, NameBuf};

/// The first thing in a channel that its parser does not know; all after it is opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    /// Where: bytes from the start of the channel.
    pub offset: u64,
    /// What sort of surprise.
    pub cause: Cause,
    /// What would have been understood there.
    pub expected: &'static str,
    /// What stands there.
    pub found: Found,
}

/// Sorts of surprise, by what they mean for a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Device state begins, which only QEMU can read. Every migration comes to this.
    DeviceState,
    /// Something that a QEMU may well send but that this parser does not know.
    Unknown,
    /// Something that no QEMU sends.
    Malformed,
    /// The channel ended in the middle of something.
    Truncated,
}

/// What stands where something else was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A number: a tag, a length, a flag word.
    Number(u64),
    /// A name, of a section, a block or a capability.
    Name(NameBuf),
    /// This many bytes, and then the channel's end.
    End(usize),
}

impl From<Name<'_>> for Found {
    fn from(name: Name<'_>) -> Self {
        Self::Name(name.into())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:#x}"),
            Self::Name(name) => write!(f, "\"{}\"", name.as_name()),
            Self::End(left) => write!(f, "the channel's end after {left} more bytes"),
        }
    }
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at byte {}: expected {}, found {}",
            self.offset, self.expected, self.found
        )
    }
}

impl core::error::Error for Surprise {}
