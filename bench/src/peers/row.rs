//! One kind of link and one kind of guest.

use std::fmt;
use std::str::FromStr;

use sealift_lab::Error;
use sealift_lab::mix::Mix;
use sealift_lab::rate::BitRate;
use serde::Serialize;

/// The link, and what the guest does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the link carries, either way.
    pub link: BitRate,
    /// What the guest rewrites.
    pub dirty: Dirty,
}

/// How fast a guest rewrites how much of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// Pages a second.
    pub rate: u32,
    /// Chosen among so many MiB.
    pub mib: u32,
}

impl Row {
    /// A fast link and a calm guest; a slow link and a busier one.
    pub const NAMED: [Self; 2] = [
        Self {
            link: BitRate::mbit(1000),
            dirty: Dirty {
                rate: 2000,
                mib: 64,
            },
        },
        Self {
            link: BitRate::mbit(200),
            dirty: Dirty {
                rate: 5000,
                mib: 128,
            },
        },
    ];

    /// The guest of this row.
    #[must_use]
    pub fn mix(&self) -> Mix {
        Mix::rewriting(self.dirty.rate, self.dirty.mib)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dirty { rate, mib } = self.dirty;
        write!(f, "{}, {rate} pages/s in {mib} MiB", self.link)
    }
}

impl Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Dirty {
    type Err = Error;

    /// `2000:64`
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (rate, mib) = text.split_once(':')?;
            let mib: u32 = mib.parse().ok()?;
            let within = (1..=Mix::rewriting(0, 0).mib).contains(&mib);
            Some(Self {
                rate: rate.parse().ok()?,
                mib,
            })
            .filter(|_| within)
        };
        parse().ok_or_else(|| {
            Error::new(format!(
                "`{text}` is not RATE:MIB, pages a second and the MiB (up to 512) that they are in, as in 2000:64"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_rewrites_is_read_and_nonsense_is_not() {
        let dirty: Dirty = "2000:64".parse().unwrap();
        assert_eq!(dirty, Row::NAMED[0].dirty);
        for text in ["", "2000", "2000:", ":64", "2000:0", "2000:513", "-1:64"] {
            assert!(text.parse::<Dirty>().is_err(), "{text}");
        }
    }
}
