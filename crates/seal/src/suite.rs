//! The suites: which key agreement a session runs, and how one is chosen.
//!
//! ```text
//!  0x0001 X25519                  0x0101 X25519 + ML-KEM-768 (default)
//!  0x0002 P-256                   0x0102 P-256  + ML-KEM-768
//! ```

use core::fmt;

use crate::error::Error;

/// A key agreement of version 1 of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// X25519 alone.
    X25519,
    /// P-256 alone.
    P256,
    /// X25519 together with ML-KEM-768: stays closed as long as one of them holds.
    #[default]
    X25519MlKem768,
    /// P-256 together with ML-KEM-768.
    P256MlKem768,
}

/// The elliptic-curve half of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    X25519,
    P256,
}

impl Suite {
    /// All suites, best first.
    pub const ALL: [Self; 4] = [
        Self::X25519MlKem768,
        Self::P256MlKem768,
        Self::X25519,
        Self::P256,
    ];

    /// The receiver's choice: the first suite of the source's offer that is also `allowed` here.
    ///
    /// Numbers that are not known are passed over, so that a newer source can offer more. They stay in the
    /// transcript all the same.
    ///
    /// # Errors
    /// [`Error::NoCommonSuite`].
    pub fn choose(offered: &[u16], allowed: &[Self]) -> Result<Self, Error> {
        offered
            .iter()
            .filter_map(|&number| Self::try_from(number).ok())
            .find(|suite| allowed.contains(suite))
            .ok_or(Error::NoCommonSuite)
    }

    /// The suite's number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::X25519 => 0x0001,
            Self::P256 => 0x0002,
            Self::X25519MlKem768 => 0x0101,
            Self::P256MlKem768 => 0x0102,
        }
    }

    pub(crate) const fn group(self) -> Group {
        match self {
            Self::X25519 | Self::X25519MlKem768 => Group::X25519,
            Self::P256 | Self::P256MlKem768 => Group::P256,
        }
    }

    pub(crate) const fn has_mlkem(self) -> bool {
        matches!(self, Self::X25519MlKem768 | Self::P256MlKem768)
    }
}

impl TryFrom<u16> for Suite {
    type Error = Error;

    fn try_from(found: u16) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.number() == found)
            .ok_or(Error::UnknownSuite { found })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X25519 => "X25519",
            Self::P256 => "P-256",
            Self::X25519MlKem768 => "X25519+ML-KEM-768",
            Self::P256MlKem768 => "P-256+ML-KEM-768",
        })
    }
}
