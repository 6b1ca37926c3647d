//! Moments as certificates and people write them: whole seconds, UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

/// Seconds since 1970. Shown as `2031-05-01 09:30 UTC`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(i64);

/// For validity periods, which people give in days.
pub(crate) const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

impl Moment {
    /// What the system's clock says.
    #[must_use]
    pub fn now() -> Self {
        // A clock before 1970 is not set; certificates then read as not yet valid, which says so.
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// From seconds since 1970.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// Whole days from `earlier` to this; negative when this lies before it.
    #[must_use]
    pub const fn days_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(SECONDS_PER_DAY)
    }

    pub(crate) const fn plus_days(self, days: u32) -> Self {
        // u32 into i64 loses nothing, and `From` is not const.
        #[allow(clippy::cast_lossless)]
        Self(self.0.saturating_add(SECONDS_PER_DAY * days as i64))
    }

    pub(crate) fn from_unix(time: UnixTime) -> Self {
        Self(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    }

    pub(crate) fn to_unix(self) -> UnixTime {
        let seconds = u64::try_from(self.0).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    /// `None` beyond the year 9999, which no certificate can name.
    pub(crate) fn to_date(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.0).ok()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_date() {
            Some(date) => write!(
                f,
                "{:04}-{:02}-{:02} {:02}:{:02} UTC",
                date.year(),
                u8::from(date.month()),
                date.day(),
                date.hour(),
                date.minute()
            ),
            None => write!(f, "second {} since 1970", self.0),
        }
    }
}
