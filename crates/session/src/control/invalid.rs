//! A message that is well-formed and still not allowed, and which field of it.

use core::fmt;

/// A field with a value that `.proto` does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// Message and field, as `.proto` names them.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields say what was expected and found; Display spells it out"
)]
pub enum Why {
    /// It is not there and has to be.
    Missing,
    /// It has too few or too many bytes.
    Length {
        least: usize,
        most: usize,
        found: usize,
    },
    /// It has too few or too many entries.
    Count {
        least: usize,
        most: usize,
        found: usize,
    },
    /// A number is too small or too large.
    Number { least: u64, most: u64, found: u64 },
    /// No enumerator that this version knows.
    Enumerator { found: i32 },
    /// An entry was there before.
    Repeated { index: usize },
    /// A range does not lie behind the one before it, with a gap between.
    Disorder { index: usize },
    /// A size is not a power of two within its bounds, or a length not a multiple of the smallest page.
    Alignment { found: u64 },
    /// Text with a character that would steer the terminal or log it is shown in.
    ControlCharacter { index: usize },
    /// It is not among what was offered.
    NotOffered { found: u64 },
}

impl Why {
    pub(crate) const fn of(self, field: &'static str) -> Invalid {
        Invalid { field, why: self }
    }
}

/// A number within its bounds.
pub(crate) fn number(
    field: &'static str,
    found: u64,
    least: u64,
    most: u64,
) -> Result<u64, Invalid> {
    if (least..=most).contains(&found) {
        Ok(found)
    } else {
        Err(Why::Number { least, most, found }.of(field))
    }
}

/// As many entries as there may be.
pub(super) fn count(
    field: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), Invalid> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(Why::Count { least, most, found }.of(field))
    }
}

/// Exactly `N` bytes.
pub(crate) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], Invalid> {
    bytes.try_into().map_err(|_| {
        Why::Length {
            least: N,
            most: N,
            found: bytes.len(),
        }
        .of(field)
    })
}

/// A message that has to be there.
pub(crate) fn present<T>(field: &'static str, message: Option<T>) -> Result<T, Invalid> {
    message.ok_or_else(|| Why::Missing.of(field))
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        match self.why {
            Why::Missing => f.write_str("expected it, found nothing"),
            Why::Length { least, most, found } => {
                write!(f, "expected {least} to {most} bytes, found {found}")
            }
            Why::Count { least, most, found } => {
                write!(f, "expected {least} to {most} entries, found {found}")
            }
            Why::Number { least, most, found } => {
                write!(f, "expected {least} to {most}, found {found}")
            }
            Why::Enumerator { found } => write!(f, "expected a known enumerator, found {found}"),
            Why::Repeated { index } => {
                write!(f, "expected each entry once, found entry {index} again")
            }
            Why::Disorder { index } => write!(
                f,
                "expected ranges that ascend with gaps between, found entry {index} out of order"
            ),
            Why::Alignment { found } => {
                write!(
                    f,
                    "expected a power of two, or a multiple of the page size, found {found}"
                )
            }
            Why::ControlCharacter { index } => {
                write!(
                    f,
                    "expected text without control characters, found one at byte {index}"
                )
            }
            Why::NotOffered { found } => write!(f, "expected one of the offered, found {found}"),
        }
    }
}

impl core::error::Error for Invalid {}
