//! A place in bytes that a peer sent: takes fields off the front, and knows the offset when one is refused.

use core::fmt;

use crate::redacted::Redacted;
use crate::refusal::{Refusal, Refused};
use crate::varint::{self, VarintError};

#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("offset", &self.offset)
            .field("rest", &Redacted(self.rest))
            .finish()
    }
}

impl<'a> Cursor<'a> {
    /// `offset` is where `bytes` begins in what errors shall speak of.
    pub(crate) const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self {
            rest: bytes,
            offset,
        }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing is read after the first refusal.
    pub(crate) const fn exhaust(&mut self) {
        self.rest = &[];
    }

    #[inline]
    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, Refused> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return Err(self.truncated(field, 1));
        };
        self.rest = rest;
        self.offset += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, Refused> {
        match varint::decode(self.rest) {
            Ok((value, len)) => {
                self.rest = &self.rest[len..];
                self.offset += len;
                Ok(value)
            }
            Err(VarintError::Truncated) => Err(self.truncated(field, self.rest.len() as u64 + 1)),
            Err(VarintError::NotShortest) => Err(self.refuse(Refusal::LongVarint { field })),
            Err(VarintError::TooLarge) => Err(self.refuse(Refusal::HugeVarint { field })),
        }
    }

    /// The length comes from the peer; it is believed only as far as there are bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], Refused> {
        match usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
        {
            Some((taken, rest)) => {
                self.rest = rest;
                self.offset += taken.len();
                Ok(taken)
            }
            None => Err(self.truncated(field, len)),
        }
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: u64) -> Refused {
        self.refuse(Refusal::Truncated {
            field,
            needed,
            left: self.rest.len(),
        })
    }

    #[cold]
    fn refuse(&self, refusal: Refusal) -> Refused {
        refusal.at(self.offset)
    }
}
