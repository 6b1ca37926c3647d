//! Bytes, times, and bytes per second.

use core::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// Bytes per second; 0 in no time.
pub(crate) fn rate(bytes: u64, time: Duration) -> u64 {
    let per_second = (u128::from(bytes) * SECOND).checked_div(time.as_nanos());
    per_second.map_or(0, narrow)
}

/// Bytes in so much time.
pub(crate) fn volume(rate: u64, time: Duration) -> u64 {
    // Times are those of a session: 2^64 ns are 584 years.
    narrow(u128::from(rate) * u128::from(narrow(time.as_nanos())) / SECOND)
}

/// The time that bytes take. None when they never arrive.
pub(crate) fn time(bytes: u64, rate: u64) -> Option<Duration> {
    let nanos = if bytes == 0 {
        0
    } else {
        (u128::from(bytes) * SECOND).checked_div(rate.into())?
    };
    Some(Duration::from_nanos(narrow(nanos)))
}

/// `whole × part ÷ of`; 0 where that is 0.
pub(crate) fn portion(whole: u64, part: u64, of: u64) -> u64 {
    let portion = (u128::from(whole) * u128::from(part)).checked_div(of.into());
    portion.map_or(0, narrow)
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
