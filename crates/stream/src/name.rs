//! Names as QEMU writes them: up to 255 bytes, of no promised encoding.

use alloc::boxed::Box;
use core::fmt::{self, Write as _};

/// A section's, block's or capability's name.
///
/// QEMU's names are ASCII in practice, but nothing enforces it, so they stay bytes and are escaped when shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The longest name: its length is one byte on the wire.
    pub const MAX_LEN: usize = 255;

    /// A name of these bytes, if they are few enough and at least one: an empty name never occurs, and the block list
    /// relies on that.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (1..=Self::MAX_LEN)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    /// The bytes on the wire.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The length as it stands on the wire before the name.
    pub(crate) fn wire_len(self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }
}

/// A [`Name`] that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameBuf(Box<[u8]>);

impl NameBuf {
    /// The name itself.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }
}

impl From<Name<'_>> for NameBuf {
    fn from(name: Name<'_>) -> Self {
        Self(name.0.into())
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    // Escaped in Rust's literals, harmless on a terminal.
                    '"' | '\'' | '\\' => f.write_char(c)?,
                    // What is not printable, marks that turn the direction of text among it.
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn a_name_that_is_not_text_is_shown_escaped() {
        let name = Name::new(b"pc.ram\x1b[2J\xff \"\xe2\x80\xae\"").unwrap();
        assert_eq!(name.to_string(), "pc.ram\\u{1b}[2J\\xff \"\\u{202e}\"");
    }

    #[test]
    fn a_name_has_between_1_and_255_bytes() {
        assert!(Name::new(b"").is_none());
        assert!(Name::new(&[b'a'; 255]).is_some());
        assert!(Name::new(&[b'a'; 256]).is_none());
    }
}
