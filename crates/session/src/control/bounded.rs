//! Strings, bytes and lists that cannot be longer than the control channel allows.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use super::invalid::{Invalid, Why, count};

/// Text of 1 to `MAX` bytes, without control characters: it is shown to people and written to logs as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// # Errors
    /// When the text is empty or too long or has a control character; `field` is named in the error.
    pub fn new(field: &'static str, text: String) -> Result<Self, Invalid> {
        let found = text.len();
        if !(1..=MAX).contains(&found) {
            return Err(Why::Length {
                least: 1,
                most: MAX,
                found,
            }
            .of(field));
        }
        match text.find(char::is_control) {
            Some(index) => Err(Why::ControlCharacter { index }.of(field)),
            None => Ok(Self(text)),
        }
    }

    /// As much of `text` as fits, with spaces for control characters: for explanations, which are better cut than lost.
    /// `None` when there is nothing.
    #[must_use]
    pub fn cut(text: &str) -> Option<Self> {
        let kept = &text[..text.floor_char_boundary(MAX)];
        // A space is as short as the shortest of them: the text does not grow.
        (!kept.is_empty()).then(|| Self(kept.replace(char::is_control, " ")))
    }

    /// The same for an explanation that has to be there: a dash where there is nothing.
    #[must_use]
    pub fn explaining(text: &str) -> Self {
        Self::cut(text).unwrap_or_else(|| Self("-".into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// `MIN` to `MAX` bytes. Their content stays out of logs.
#[derive(Clone, Eq, PartialEq)]
pub struct Bytes<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MIN: usize, const MAX: usize> Bytes<MIN, MAX> {
    /// # Errors
    /// When there are too few or too many; `field` is named in the error.
    pub fn new(field: &'static str, bytes: Vec<u8>) -> Result<Self, Invalid> {
        match bytes.len() {
            found if found < MIN || found > MAX => Err(Why::Length {
                least: MIN,
                most: MAX,
                found,
            }
            .of(field)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Bytes<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// `MIN` to 16 numbers, each once and none of them 0: what one end can do, best first. Sixteen is more than any such
/// list will hold while both ends still know its entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Distinct<T, const MIN: usize>(Vec<T>);

/// The longest [`Distinct`] list.
const DISTINCT_MAX: usize = 16;

impl<T: Copy + Into<u32> + TryFrom<u32>, const MIN: usize> Distinct<T, MIN> {
    /// # Errors
    /// When there are too few or too many, one is 0, or one comes twice; `field` is named in the error.
    pub fn new(field: &'static str, numbers: Vec<T>) -> Result<Self, Invalid> {
        count(field, numbers.len(), MIN, DISTINCT_MAX)?;
        for (index, &number) in numbers.iter().enumerate() {
            if number.into() == 0 {
                return Err(Self::number(0).of(field));
            }
            if numbers[..index]
                .iter()
                .any(|&before| before.into() == number.into())
            {
                return Err(Why::Repeated { index }.of(field));
            }
        }
        Ok(Self(numbers))
    }

    pub(crate) fn from_wire(field: &'static str, numbers: &[u32]) -> Result<Self, Invalid> {
        // Before the list is taken over, so that a long one is not copied first.
        count(field, numbers.len(), MIN, DISTINCT_MAX)?;
        let narrow =
            |&found: &u32| T::try_from(found).map_err(|_| Self::number(found.into()).of(field));
        Self::new(field, numbers.iter().map(narrow).collect::<Result<_, _>>()?)
    }

    const fn number(found: u64) -> Why {
        let most = u64::MAX >> (64 - 8 * size_of::<T>());
        Why::Number {
            least: 1,
            most,
            found,
        }
    }

    pub(crate) fn to_wire(&self) -> Vec<u32> {
        self.0.iter().map(|&number| number.into()).collect()
    }
}

/// A list of one.
impl From<NonZeroU32> for Distinct<u32, 1> {
    fn from(number: NonZeroU32) -> Self {
        Self(vec![number.get()])
    }
}

impl<T, const MIN: usize> Distinct<T, MIN> {
    /// The numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}
