//! Amounts as people write them: `300ms`, `500Mbit`, `62MiB/s`.
//!
//! ```text
//!   amount     = digits [ "." digits ] unit           no blank, no sign, no exponent: 1.5Gbit
//!   time       us  ms  s  min  h
//!   size       B   kB MB GB TB (of 1000)   KiB MiB GiB TiB (of 1024)
//!   bandwidth  bit kbit Mbit Gbit Tbit     or any size and /s
//! ```
//!
//! An amount is exact or refused. What could mean bits as well as bytes is refused too: a factor of eight decides whether a guest's
//! move ends.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use sealift_session::control::RESUME_FOR_MAX;

/// How much may be sent in a second.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bandwidth(NonZeroU64);

impl Bandwidth {
    /// In bits, as links have it.
    #[must_use]
    pub const fn bits_per_s(self) -> u64 {
        self.0.get()
    }

    /// In whole bytes, as QEMU's `max-bandwidth` has it; at least one.
    #[must_use]
    pub const fn bytes_per_s(self) -> u64 {
        self.0.get() / 8
    }
}

const BITS: &[(&str, u64)] = &[
    ("bit", 1),
    ("kbit", 1_000),
    ("Mbit", 1_000_000),
    ("Gbit", 1_000_000_000),
    ("Tbit", 1_000_000_000_000),
];

impl FromStr for Bandwidth {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (amount, unit) = Amount::split(text)?;
        let per_second = unit.strip_suffix("/s");
        let bits = match find(BITS, per_second.unwrap_or(unit)) {
            Some(factor) => amount.times(factor)?,
            None => {
                let size = per_second.and_then(|unit| find(SIZES, unit));
                let factor = size.ok_or(UnitError::Unit(BANDWIDTH_UNITS))?;
                let bytes = amount.times(factor)?;
                bytes.checked_mul(8).ok_or(UnitError::TooLarge)?
            }
        };
        match NonZeroU64::new(bits) {
            Some(bits) if bits.get() >= 8 => Ok(Self(bits)),
            _ => Err(UnitError::TooSmall("8bit")),
        }
    }
}

const BANDWIDTH_UNITS: &str = "bits in bit, kbit, Mbit, Gbit or Tbit, or bytes in MB/s, GB/s, MiB/s or GiB/s, as in 500Mbit or 62MiB/s";

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.get();
        let fits = |&&(_, factor): &&(&str, u64)| bits.is_multiple_of(factor);
        let (unit, factor) = BITS.iter().rev().find(fits).unwrap_or(&("bit", 1));
        write!(f, "{}{unit}", bits / factor)
    }
}

/// Powers of 1000 and of 1024. Whether `mb` means bits nobody knows, so case counts here.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The longest that the guest may stand still when it moves.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MaxDowntime(Duration);

impl MaxDowntime {
    /// What QEMU's `downtime-limit` may be at most: 2,000 s.
    const MOST: Duration = Duration::from_secs(2_000);

    /// As a length of time, in whole milliseconds.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for MaxDowntime {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let time = time(text, "us, ms, s, min or h, as in 300ms")?;
        if time < Duration::from_millis(1) {
            return Err(UnitError::TooSmall("1ms"));
        }
        if time > Self::MOST {
            return Err(UnitError::Above("2000s, QEMU's own limit"));
        }
        in_millis(time).map(Self)
    }
}

/// How long something is waited for, in whole milliseconds: up to a day, or not at all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Patience(Duration);

impl Patience {
    /// What both ends can agree on.
    const MOST: Duration = RESUME_FOR_MAX;

    /// As a length of time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Patience {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let time = time(text, "ms, s, min or h, as in 60s")?;
        if time > Self::MOST {
            return Err(UnitError::Above("24h"));
        }
        in_millis(time).map(Self)
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

/// A length of time, in a unit of which `units` names some.
fn time(text: &str, units: &'static str) -> Result<Duration, UnitError> {
    let (amount, unit) = Amount::split(text)?;
    let factor = find(TIMES, unit).ok_or(UnitError::Unit(units))?;
    amount.times(factor).map(Duration::from_micros)
}

/// One that is a whole number of milliseconds.
fn in_millis(time: Duration) -> Result<Duration, UnitError> {
    match time.subsec_micros() % 1_000 {
        0 => Ok(time),
        _ => Err(UnitError::NotWhole("of milliseconds")),
    }
}

/// In microseconds.
const TIMES: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
];

impl fmt::Display for MaxDowntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

/// Memory that a session may take on a host, beside a small part of the guest's size.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MemoryBudget(u64);

impl MemoryBudget {
    /// What batches take that are on their way, and two threads that work on them.
    const LEAST: u64 = 128 << 20;
    /// The most that both ends can agree on.
    const MOST: u64 = 1 << 40;

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for MemoryBudget {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (amount, unit) = Amount::split(text)?;
        let factor = find(SIZES, unit).ok_or(UnitError::Unit("MiB or GiB, as in 512MiB"))?;
        match amount.times(factor)? {
            ..Self::LEAST => Err(UnitError::TooSmall("128MiB")),
            bytes if bytes > Self::MOST => Err(UnitError::Above("1TiB")),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, factor): &&(&str, u64)| self.0.is_multiple_of(factor);
        let (unit, factor) = SIZES.iter().rev().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// The factor of a unit: by its exact name, or, where no unit differs from it by case alone, by any case.
fn find(units: &[(&str, u64)], name: &str) -> Option<u64> {
    let spelt_out = |unit: &str| unit.ends_with("bit") || unit.ends_with("iB");
    let is = |unit: &str| unit == name || spelt_out(unit) && unit.eq_ignore_ascii_case(name);
    let found = units.iter().find(|(unit, _)| is(unit));
    found.map(|(_, factor)| *factor)
}

/// A decimal number, exactly.
#[derive(Clone, Copy)]
struct Amount {
    digits: u64,
    /// A power of ten.
    divisor: u64,
}

impl Amount {
    /// The number that a text begins with, and what stands behind it.
    fn split(text: &str) -> Result<(Self, &str), UnitError> {
        let number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        let end = text.bytes().take_while(|&byte| number(byte)).count();
        let (number, unit) = text.split_at_checked(end).ok_or(UnitError::Number)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(UnitError::Number);
        }
        let mut amount = Self {
            digits: 0,
            divisor: 1,
        };
        for digit in whole.bytes() {
            amount.push(digit)?;
        }
        for digit in fraction.trim_end_matches('0').bytes() {
            amount.push(digit)?;
            amount.divisor = amount.divisor.checked_mul(10).ok_or(UnitError::TooLarge)?;
        }
        Ok((amount, unit))
    }

    fn push(&mut self, digit: u8) -> Result<(), UnitError> {
        let digit = u64::from(digit - b'0');
        let digits = self.digits.checked_mul(10);
        self.digits = digits
            .and_then(|digits| digits.checked_add(digit))
            .ok_or(UnitError::TooLarge)?;
        Ok(())
    }

    fn times(self, factor: u64) -> Result<u64, UnitError> {
        let product = u128::from(self.digits) * u128::from(factor);
        let divisor = u128::from(self.divisor);
        if !product.is_multiple_of(divisor) {
            return Err(UnitError::NotWhole("of the smallest unit"));
        }
        u64::try_from(product / divisor).map_err(|_| UnitError::TooLarge)
    }
}

/// Why a text is no such amount; the user's fault. The text itself is for the caller to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnitError {
    /// It does not begin with a number.
    Number,
    /// No unit, or another one; which there are.
    Unit(&'static str),
    /// More digits than anything needs.
    TooLarge,
    /// Less than this.
    TooSmall(&'static str),
    /// More than this.
    Above(&'static str),
    /// Not a whole number of these.
    NotWhole(&'static str),
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => f.write_str("it must begin with a number, such as 300 or 1.5"),
            Self::Unit(units) => write!(f, "the number's unit must be {units}"),
            Self::TooLarge => f.write_str("the number is too large"),
            Self::TooSmall(least) => write!(f, "it must be at least {least}"),
            Self::Above(most) => write!(f, "it must be at most {most}"),
            Self::NotWhole(of) => write!(f, "it must be a whole number {of}"),
        }
    }
}

impl std::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(text: &str) -> u64 {
        text.parse::<Bandwidth>().unwrap().bits_per_s()
    }

    fn micros(text: &str) -> u128 {
        let most: MaxDowntime = text.parse().unwrap();
        most.duration().as_micros()
    }

    #[test]
    fn bandwidths_are_in_bits_or_in_bytes_per_second() {
        assert_eq!(bits("500Mbit"), 500_000_000);
        assert_eq!(bits("500mbit/s"), 500_000_000);
        assert_eq!(bits("1Gbit"), 1_000_000_000);
        assert_eq!(bits("2.5Gbit"), 2_500_000_000);
        assert_eq!(bits("62MiB/s"), (62 * 8) << 20);
        assert_eq!(bits("62mib/s"), (62 * 8) << 20);
        assert_eq!(bits("100MB/s"), 800_000_000);
        let one: Bandwidth = "15bit".parse().unwrap();
        assert_eq!(one.bytes_per_s(), 1);
    }

    #[test]
    fn what_could_be_bits_or_bytes_is_refused_and_says_what_to_write() {
        for text in [
            "500", "500M", "1G", "500Mbps", "500mb/s", "62MiB", "62MB", "5Gb",
        ] {
            let error = text.parse::<Bandwidth>().unwrap_err();
            assert_eq!(error, UnitError::Unit(BANDWIDTH_UNITS), "{text}");
        }
        let says = "5M".parse::<Bandwidth>().unwrap_err().to_string();
        assert!(says.contains("500Mbit or 62MiB/s"), "{says}");
    }

    #[test]
    fn downtimes_are_whole_milliseconds_within_qemus_limit() {
        assert_eq!(micros("300ms"), 300_000);
        assert_eq!(micros("2s"), 2_000_000);
        assert_eq!(micros("0.05s"), 50_000);
        assert_eq!(micros("5000us"), 5_000);
        assert_eq!(micros("0.5min"), 30_000_000);
    }

    #[test]
    fn wrong_amounts_are_refused_with_what_is_wrong_about_them() {
        for (text, says) in [
            ("", "begin with a number"),
            ("ms", "begin with a number"),
            (".5s", "begin with a number"),
            ("1.s", "begin with a number"),
            ("1.2.3s", "begin with a number"),
            ("-1s", "begin with a number"),
            ("300", "us, ms, s, min or h"),
            ("300 ms", "us, ms, s, min or h"),
            ("3µs", "us, ms, s, min or h"),
            ("0s", "at least 1ms"),
            ("999us", "at least 1ms"),
            ("1500us", "whole number of milliseconds"),
            ("1.0000001s", "whole number"),
            ("2001s", "at most 2000s"),
            ("99999999999999999999s", "too large"),
            ("0.00000000000000000001s", "too large"),
        ] {
            let error = text.parse::<MaxDowntime>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for text in ["0Mbit", "7bit", "0.001kbit"] {
            let error = text.parse::<Bandwidth>().unwrap_err();
            assert_eq!(error, UnitError::TooSmall("8bit"), "{text}");
        }
        let error = "99999999999Tbit".parse::<Bandwidth>().unwrap_err();
        assert_eq!(error, UnitError::TooLarge);
    }

    proptest! {
        #[test]
        fn a_bandwidth_survives_printing_and_parsing(bits in 8_u64..) {
            let bandwidth: Bandwidth = format!("{bits}bit").parse().unwrap();
            prop_assert_eq!(bandwidth.bits_per_s(), bits);
            prop_assert_eq!(bandwidth.to_string().parse(), Ok(bandwidth));
        }

        #[test]
        fn a_downtime_survives_printing_and_parsing(millis in 1_u64..=2_000_000) {
            let most: MaxDowntime = format!("{millis}ms").parse().unwrap();
            prop_assert_eq!(most.duration(), Duration::from_millis(millis));
            prop_assert_eq!(most.to_string().parse(), Ok(most));
        }

        #[test]
        fn a_fraction_is_as_exact_as_a_whole_number(whole in 0_u64..1000, thousandths in 1_u64..1000) {
            let fraction: Bandwidth = format!("{whole}.{thousandths:03}Mbit").parse().unwrap();
            prop_assert_eq!(fraction.bits_per_s(), (whole * 1000 + thousandths) * 1000);
        }

        #[test]
        fn any_text_is_an_amount_or_refused(text in "\\PC*") {
            let _ = text.parse::<Bandwidth>();
            let _ = text.parse::<MaxDowntime>();
        }

        #[test]
        fn any_number_with_any_unit_is_an_amount_or_refused(text in "[0-9.]{0,25}(us|ms|s|min|h|bit|Tbit/s|TiB/s|B/s)?") {
            let _ = text.parse::<Bandwidth>();
            let _ = text.parse::<MaxDowntime>();
        }
    }
}
