//! What a link carries, as people and `tc` write it: `1gbit`, `200mbit`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Bits per second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

/// The units of `tc`, the greatest first; `bit` is last, because the others end with it.
const UNITS: [(&str, u64); 4] = [
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

impl BitRate {
    /// So many millions of bits a second.
    #[must_use]
    pub const fn mbit(millions: u32) -> Self {
        // A lossless cast; `u64::from` is not const.
        Self(millions as u64 * 1_000_000)
    }

    /// Bits per second.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Bytes that pass in so many milliseconds.
    #[must_use]
    pub fn bytes_in_ms(self, milliseconds: u64) -> u64 {
        (self.0 / 8_000).saturating_mul(milliseconds)
    }
}

impl FromStr for BitRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        let bits = UNITS.iter().find_map(|(unit, factor)| {
            let number: u64 = lower.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*factor).filter(|&bits| bits > 0)
        });
        bits.map(Self).ok_or_else(|| {
            Error::new(format!(
                "`{text}` is not a rate: write a whole number and gbit, mbit, kbit or bit, as in 200mbit"
            ))
        })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |&&(_, factor): &&(&str, u64)| self.0.is_multiple_of(factor);
        let &(unit, factor) = UNITS.iter().find(whole).unwrap_or(&("bit", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_survive_parsing_and_printing() {
        for text in ["1gbit", "200mbit", "1500kbit", "7bit"] {
            assert_eq!(text.parse::<BitRate>().unwrap().to_string(), text);
        }
        assert_eq!("1000Mbit".parse::<BitRate>().unwrap().to_string(), "1gbit");
        assert_eq!("200mbit".parse::<BitRate>().unwrap(), BitRate::mbit(200));
    }

    #[test]
    fn what_is_not_a_rate_is_refused() {
        for text in [
            "",
            "gbit",
            "0mbit",
            "1.5gbit",
            "-1mbit",
            "200",
            "99999999999999gbit",
        ] {
            let error = text.parse::<BitRate>().unwrap_err().to_string();
            assert!(error.contains("is not a rate"), "{text}: {error}");
        }
    }
}
