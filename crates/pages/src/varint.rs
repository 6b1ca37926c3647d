//! Unsigned LEB128 in its shortest form, the only variable-length number on the wire.
//!
//! ```text
//!   300 = 0b10_0101100      +---+---------+   +---+---------+
//!                           | 1 | 0101100 |   | 0 | 0000010 |
//!                           +---+---------+   +---+---------+
//!                       more follows, low 7 bits   last, next 7 bits
//! ```

use alloc::vec::Vec;
use core::fmt;

/// The longest varint: nine bytes carry 63 bits, the tenth the last one of a `u64`.
pub const LEN_MAX: usize = 10;

/// Reads one varint from the start of `bytes`; says how long it was.
///
/// # Errors
/// When the bytes end inside the number, or it is written longer than needed, or does not fit 64 bits.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(LEN_MAX).enumerate() {
        // The tenth byte has room for bit 63 alone.
        if index == LEN_MAX - 1 && byte > 1 {
            return Err(VarintError::TooLarge);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(VarintError::NotShortest);
            }
            return Ok((value, index + 1));
        }
    }
    Err(VarintError::Truncated)
}

/// Appends `value` in its shortest form.
#[inline]
pub fn encode(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// How many bytes [`encode`] appends.
#[must_use]
#[inline]
pub const fn encoded_len(value: u64) -> usize {
    // Zero takes a byte too, hence `| 1`.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Why bytes are not a varint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VarintError {
    /// The bytes end before the number does.
    Truncated,
    /// The last byte is zero: the same number has a shorter form.
    NotShortest,
    /// The number does not fit 64 bits.
    TooLarge,
}

impl fmt::Display for VarintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the bytes end inside a varint",
            Self::NotShortest => "a varint is longer than its number needs",
            Self::TooLarge => "a varint does not fit 64 bits",
        })
    }
}

impl core::error::Error for VarintError {}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_borders_of_each_length() {
        for bits in 1..=9 {
            let first = 1u64 << (7 * bits);
            assert_eq!(encoded_len(first - 1), bits);
            assert_eq!(encoded_len(first), bits + 1);
        }
        assert_eq!(encoded_len(0), 1);
        assert_eq!(encoded_len(u64::MAX), LEN_MAX);
    }

    #[test]
    fn a_longer_form_is_refused() {
        assert_eq!(decode(&[0x80, 0x00]), Err(VarintError::NotShortest));
        assert_eq!(decode(&[0xff, 0x80, 0x00]), Err(VarintError::NotShortest));
        let mut zero = [0x80; LEN_MAX];
        zero[LEN_MAX - 1] = 0;
        assert_eq!(decode(&zero), Err(VarintError::NotShortest));
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        let mut bytes = [0xff; LEN_MAX];
        assert_eq!(decode(&bytes), Err(VarintError::TooLarge));
        bytes[LEN_MAX - 1] = 2;
        assert_eq!(decode(&bytes), Err(VarintError::TooLarge));
        bytes[LEN_MAX - 1] = 1;
        assert_eq!(decode(&bytes), Ok((u64::MAX, LEN_MAX)));
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = vec![];
            encode(value, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_len(value));
            prop_assert_eq!(decode(&bytes), Ok((value, bytes.len())));
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]), Err(VarintError::Truncated));
            }
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok((value, len)) = decode(&bytes) {
                let mut again = vec![];
                encode(value, &mut again);
                prop_assert_eq!(&again, &bytes[..len]);
            }
        }
    }
}
