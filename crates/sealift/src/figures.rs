//! Figures as people read them. What machines read has plain numbers, with their unit in the field's name.
//!
//! ```text
//!   grouped   12,345,678          size      1.50 GiB          rate   412 Mbit/s
//!   span      12.4 s, 3 min 20 s  share     12.5 %            ratio  6.2 to 1
//! ```
//!
//! All in whole numbers, so that each figure is the exact one, cut and not rounded up: 99.99 % is never shown as 100 %.

use std::fmt;
use std::time::Duration;

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A UUID as people write it.
#[must_use]
pub fn uuid(bytes: &[u8; 16]) -> String {
    let (a, b) = (&bytes[..4], &bytes[4..6]);
    let (c, d, e) = (&bytes[6..8], &bytes[8..10], &bytes[10..]);
    [a, b, c, d, e].map(hex).join("-")
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An amount of memory, in units of 1024.
#[must_use]
pub fn size(bytes: u64) -> String {
    scaled(bytes.into(), 1024, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A rate in bits, as links have it, whatever it is a rate of: what is sent, what the guest changes, and `--bandwidth` then compare.
#[must_use]
pub fn rate(bytes_per_s: u64) -> String {
    let bits = u128::from(bytes_per_s) * 8;
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    scaled(bits, 1000, &units)
}

/// Three digits and a unit.
fn scaled(amount: u128, step: u128, units: &[&str]) -> String {
    let (mut unit, mut divisor) = (0, 1);
    while amount / divisor >= step && unit + 1 < units.len() {
        unit += 1;
        divisor *= step;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    format!("{} {name}", three_digits(amount, divisor))
}

/// The quotient with three digits, or with all that stand before the point.
fn three_digits(amount: u128, divisor: u128) -> String {
    let whole = amount / divisor;
    if divisor == 1 || whole >= 100 {
        return whole.to_string();
    }
    let (tenths, places) = if whole >= 10 { (10, 1) } else { (100, 2) };
    let fraction = amount % divisor * tenths / divisor;
    format!("{whole}.{fraction:0places$}")
}

/// A length of time.
#[must_use]
pub fn span(time: Duration) -> String {
    let (seconds, micros) = (time.as_secs(), u128::from(time.subsec_micros()));
    match seconds {
        0 if micros < 1000 => format!("{micros} µs"),
        0 => format!("{} ms", three_digits(micros, 1000)),
        1..60 => format!("{} s", three_digits(time.as_micros(), 1_000_000)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A part of a whole; nothing of nothing is 0 %.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// How many bytes stand for one; `None` when none were sent.
#[must_use]
pub fn ratio(raw: u64, wire: u64) -> Option<String> {
    let tenths = (u128::from(raw) * 10).checked_div(wire.into())?;
    Some(format!("{}.{} to 1", tenths / 10, tenths % 10))
}

/// Text of whoever it may be (a certificate, a guest's name, a peer's explanation) on one line of a terminal: it can neither move
/// the cursor nor turn the direction of what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            // Unicode's controls of direction and its line separators are not among the control characters.
            let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if letter.is_control() || turns {
                write!(f, "{}", letter.escape_unicode())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn a_uuid_is_written_as_people_write_it() {
        let bytes = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 << 20, "10.0 MiB"),
            (1023 << 20, "1023 MiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn rates_are_in_bits() {
        assert_eq!(rate(0), "0 bit/s");
        assert_eq!(rate(51_500_000), "412 Mbit/s");
        assert_eq!(rate(1 << 30), "8.58 Gbit/s");
        assert_eq!(rate(u64::MAX), "147573952 Tbit/s");
    }

    #[test]
    fn spans_have_the_unit_that_fits() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1000, "1.00 ms"),
            (23_456, "23.4 ms"),
            (999_999, "999 ms"),
            (1_000_000, "1.00 s"),
            (59_990_000, "59.9 s"),
            (200_000_000, "3 min 20 s"),
            (7_260_000_000, "2 h 1 min"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn shares_and_ratios_are_exact_and_have_no_whole_to_divide_by_zero() {
        assert_eq!(share(1, 8), "12.5 %");
        assert_eq!(share(9_999, 10_000), "99.9 %");
        assert_eq!(share(0, 0), "0.0 %");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(ratio(62, 10).as_deref(), Some("6.2 to 1"));
        assert_eq!(ratio(62, 0), None);
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(Shown("host-ä").to_string(), "host-ä");
        assert_eq!(
            Shown("a\u{1b}[2J\nb\u{202e}c").to_string(),
            r"a\u{1b}[2J\u{a}b\u{202e}c"
        );
    }
}
