//! Why QEMU waits, in words for whoever waits with it.

use core::fmt;
use core::time::Duration;

use crate::forecast::DEVICE_STATE;

/// Why QEMU waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// No switch is as short as the user asks for.
    DowntimeTooShort {
        /// What the user asks for.
        max_downtime: Duration,
    },
    /// The destination's QEMU has not sent the message.
    NotOffered,
    /// Memory was not walked over once.
    FirstPass,
    /// Nothing was delivered yet.
    RateUnknown,
    /// More remains than can be delivered in the time.
    TooMuch {
        /// Bytes of guest memory, or on the wire where the source owns its pre-copy.
        remaining: u64,
        /// How long the guest would stand still.
        blackout: Duration,
        /// How long it may.
        max_downtime: Duration,
    },
    /// The same, and it does not become less: the guest writes as fast as the link delivers.
    NotConverging {
        /// Bytes of guest memory, or on the wire where the source owns its pre-copy.
        remaining: u64,
        /// How long the guest would stand still.
        blackout: Duration,
        /// How long it may.
        max_downtime: Duration,
        /// Bytes that the guest dirties in a second, or that its changes take on the wire.
        dirty_rate: u64,
        /// Bytes that are delivered in a second, counted alike.
        delivered_rate: u64,
        /// What is counted is on the wire: of a page of which little has changed that is little, so the guest may write many times as much.
        on_the_wire: bool,
    },
    /// It fits, and each round leaves a good deal less than the one before: another is worth it.
    Shrinking {
        /// How long the guest would stand still.
        blackout: Duration,
    },
    /// It fits. What waits for the guest's stop is sent once more before it.
    Refreshing,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DowntimeTooShort { max_downtime } => write!(
                f,
                "no guest stands still for less than {DEVICE_STATE:?}: allow more than {max_downtime:?}"
            ),
            Self::NotOffered => f.write_str("the destination's QEMU is not ready"),
            Self::FirstPass => f.write_str("the first pass over memory is not complete"),
            Self::RateUnknown => f.write_str("nothing was delivered yet"),
            Self::TooMuch {
                remaining,
                blackout,
                max_downtime,
            } => write!(
                f,
                "{} remain: the guest would stand still for {blackout:.0?}, and may for {max_downtime:.0?}",
                Size(*remaining)
            ),
            Self::NotConverging {
                blackout,
                max_downtime,
                dirty_rate,
                delivered_rate,
                on_the_wire,
                ..
            } => {
                let whose = match on_the_wire {
                    true => "the guest's changes take",
                    false => "the guest writes",
                };
                write!(
                    f,
                    "{whose} {}/s and the link delivers {}/s: it would stand still for {blackout:.0?}, and may for {max_downtime:.0?}",
                    Size(*dirty_rate),
                    Size(*delivered_rate)
                )
            }
            Self::Shrinking { blackout } => write!(
                f,
                "the guest would stand still for {blackout:.0?}, and after another round for less"
            ),
            Self::Refreshing => {
                f.write_str("what remains fits; what is rewritten all the time is sent once more")
            }
        }
    }
}

/// Bytes as they are told: of slow links and small rests too there is something to be seen.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self.0 {
            bytes if bytes < MIB => write!(f, "{} KiB", bytes.div_ceil(KIB)),
            bytes => write!(f, "{} MiB", bytes / MIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString as _};

    use super::*;

    fn not_converging(dirty_rate: u64, delivered_rate: u64, on_the_wire: bool) -> String {
        let why = Why::NotConverging {
            remaining: 1 << 30,
            blackout: Duration::from_secs(3),
            max_downtime: Duration::from_millis(300),
            dirty_rate,
            delivered_rate,
            on_the_wire,
        };
        why.to_string()
    }

    #[test]
    fn what_a_guest_writes_and_what_its_changes_take_are_two_things() {
        let said = not_converging(80 << 20, 50 << 20, false);
        assert_eq!(
            said,
            "the guest writes 80 MiB/s and the link delivers 50 MiB/s: it would stand still for 3s, and may for 300ms"
        );
        let said = not_converging(6 << 20, 5 << 20, true);
        assert!(
            said.starts_with("the guest's changes take 6 MiB/s and the link delivers 5 MiB/s:")
        );
    }

    #[test]
    fn less_than_a_mebibyte_is_told_in_kibibytes() {
        let said = not_converging(1_000_000, 100, true);
        assert!(
            said.contains("take 977 KiB/s and the link delivers 1 KiB/s:"),
            "{said}"
        );
        let why = Why::TooMuch {
            remaining: 300 << 10,
            blackout: Duration::from_secs(3),
            max_downtime: Duration::from_millis(300),
        };
        assert!(why.to_string().starts_with("300 KiB remain:"));
    }
}
