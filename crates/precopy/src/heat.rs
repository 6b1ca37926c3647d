//! How likely a page is to be rewritten before the guest stops, from the rounds in which it was.
//!
//! ```text
//!   history   0 0 1 0 1 1 1 ?      a bit for each of the last eight rounds, this one at the right: set when QEMU handed the page over
//!                     └─┬─┘
//!                       └─ twice in a row, up to now: hot
//! ```
//!
//! A page that was rewritten in both of the last two rounds will most probably be rewritten in the last one too, and whatever is sent of it
//! before that is for nothing. Rounds become shorter towards the end, and so this asks ever more of a page: what is rewritten every ten seconds
//! is hot while rounds take ten seconds, and is not when they take a tenth of one.
//!
//! A page that comes and goes is hot as well when it came in one of the last two and in most of all. How many they were is its heat.

/// Rounds that a history holds.
pub(crate) const ROUNDS: u32 = u8::BITS;
/// The most heat.
pub(crate) const HEAT_MAX: u8 = 8;
/// Rounds of eight that make a page hot although it was left alone in one of the last two: five, since with half of them it is as likely
/// as not that what is sent stays.
const MOST: u32 = 5;

/// 0 of a page that is not hot, otherwise in how many rounds it was rewritten.
pub(crate) const fn heat(history: u8) -> u8 {
    // In this round QEMU may not have come to the page yet.
    let known = if history & 1 == 1 {
        history
    } else {
        history >> 1
    };
    let rounds = known.count_ones();
    if known & 0b11 == 0b11 || (known & 0b11 != 0 && rounds >= MOST) {
        // At most eight.
        rounds.to_le_bytes()[0]
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_hot_when_it_was_rewritten_twice_in_a_row_up_to_now() {
        for (history, expected) in [
            (0, 0),
            (0b1, 0),
            (0b10, 0),
            (0b11, 2),
            (0b110, 2),
            (0b1100, 0),
            (0b101, 0),
            (0b1_0111, 4),
            (0b1010_1010, 0),
            (0b1111_1000, 0),
            (0b1111_1010, 6),
            (0b1101_1101, 6),
            (0xfe, 7),
            (0xff, HEAT_MAX),
        ] {
            assert_eq!(heat(history), expected, "{history:b}");
        }
    }
}
