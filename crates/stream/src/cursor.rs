//! Reading an item off the front of the bytes at hand: all of it or nothing.

use crate::surprise::{Cause, Found, Surprise};
use crate::{Name, PageSize};

/// Why no item could be read.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The bytes at hand end within it.
    Incomplete,
    /// It is not known.
    Surprise(Surprise),
}

/// A result of reading.
pub(crate) type Read<T> = Result<T, Stop>;

/// A place in the bytes at hand. Reading moves only the cursor: who owns it decides whether the bytes are taken.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// The channel's offset at `rest`.
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes ahead.
    pub(crate) fn ahead(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Stop::Incomplete)?;
        self.rest = rest;
        self.offset += len as u64;
        Ok(taken)
    }

    /// Takes what is there of a run of `left` bytes: at least one byte.
    pub(crate) fn take_some(&mut self, left: u64) -> Read<&'a [u8]> {
        if self.rest.is_empty() {
            return Err(Stop::Incomplete);
        }
        let len = usize::try_from(left).map_or(self.rest.len(), |left| left.min(self.rest.len()));
        self.take(len)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Stop::Incomplete)?;
        self.rest = rest;
        self.offset += N as u64;
        Ok(*taken)
    }

    pub(crate) fn bytes16(&mut self) -> Read<[u8; 16]> {
        self.array()
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn be16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn be64(&mut self) -> Read<u64> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn page(&mut self, size: PageSize) -> Read<&'a [u8]> {
        self.take(size.bytes())
    }

    /// A name behind its length in one byte.
    pub(crate) fn name(&mut self) -> Read<Name<'a>> {
        let at = self.offset;
        let len = self.u8()?;
        let bytes = self.take(usize::from(len))?;
        Name::new(bytes).ok_or_else(|| malformed(at, "a name's length, at least 1", len))
    }

    /// A number that can only be one.
    pub(crate) fn exactly_u8(&mut self, value: u8, expected: &'static str) -> Read<()> {
        let at = self.offset;
        let found = self.u8()?;
        (found == value)
            .then_some(())
            .ok_or_else(|| malformed(at, expected, found))
    }

    /// A number that can only be one.
    pub(crate) fn exactly_be32(&mut self, value: u32, expected: &'static str) -> Read<()> {
        let at = self.offset;
        let found = self.be32()?;
        (found == value)
            .then_some(())
            .ok_or_else(|| malformed(at, expected, found))
    }
}

/// Something that no QEMU sends.
pub(crate) fn malformed(offset: u64, expected: &'static str, found: impl Into<u64>) -> Stop {
    Stop::Surprise(Surprise {
        offset,
        cause: Cause::Malformed,
        expected,
        found: Found::Number(found.into()),
    })
}

/// Something that a QEMU may send but that is not known here.
pub(crate) fn unknown(offset: u64, expected: &'static str, found: impl Into<Found>) -> Stop {
    Stop::Surprise(Surprise {
        offset,
        cause: Cause::Unknown,
        expected,
        found: found.into(),
    })
}

impl From<u64> for Found {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// How far a channel has been read, and whether it is still understood: what all three parsers share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    offset: u64,
    surprise: Option<Surprise>,
}

/// What reading came to.
pub(crate) enum Outcome<'a, T> {
    /// An item of the channel's format.
    Item(T),
    /// Bytes from the first unknown thing on.
    Opaque(&'a [u8]),
    /// Nothing yet.
    Incomplete,
}

impl Progress {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn surprise(&self) -> Option<&Surprise> {
        self.surprise.as_ref()
    }

    /// Reads an item off the front of `input`, and takes its bytes when it is whole.
    ///
    /// `read` must change no state before it has read the whole item.
    #[inline]
    pub(crate) fn read<'a, T>(
        &mut self,
        input: &mut &'a [u8],
        read: impl FnOnce(&mut Cursor<'a>) -> Read<T>,
    ) -> Outcome<'a, T> {
        if self.surprise.is_some() {
            return self.take_opaque(input);
        }
        let mut cursor = Cursor {
            rest: input,
            offset: self.offset,
        };
        match read(&mut cursor) {
            Ok(item) => {
                *input = cursor.rest;
                self.offset = cursor.offset;
                Outcome::Item(item)
            }
            Err(Stop::Incomplete) => Outcome::Incomplete,
            Err(Stop::Surprise(surprise)) => {
                self.surprise = Some(surprise);
                self.take_opaque(input)
            }
        }
    }

    /// Takes a run of `input`'s bytes as they are.
    fn take_opaque<'a, T>(&mut self, input: &mut &'a [u8]) -> Outcome<'a, T> {
        let bytes = core::mem::take(input);
        self.offset += bytes.len() as u64;
        if bytes.is_empty() {
            Outcome::Incomplete
        } else {
            Outcome::Opaque(bytes)
        }
    }

    /// The channel has ended, and `rest` is what no item could be read from.
    pub(crate) fn finish<'a>(&mut self, rest: &'a [u8], expected: &'static str) -> &'a [u8] {
        if self.surprise.is_none() {
            self.surprise = Some(Surprise {
                offset: self.offset,
                cause: Cause::Truncated,
                expected,
                found: Found::End(rest.len()),
            });
        }
        self.offset += rest.len() as u64;
        rest
    }
}
