//! One kind of guest on one kind of link, and what is wanted there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sealift_lab::Error;
use sealift_lab::mix::{Load, Mix};
use sealift_lab::rate::BitRate;

/// The link, what the guest does meanwhile, and what sealift is to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What `--row` takes.
    pub name: &'static str,
    /// The guest that is moved.
    pub work: Work,
    /// Over what.
    pub link: Link,
    /// What sealift is held against.
    pub against: Against,
    /// With direct access; by stream it may take [`Wanted::by_stream`].
    pub wanted: Wanted,
}

/// What the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One program that checks and rewrites its memory, or mostly sleeps.
    Mix(Mix),
    /// A database and a web server under load.
    Debian,
}

/// What lies between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it carries, either way; none: what the machine can.
    pub rate: Option<BitRate>,
    /// How long everything is on its way.
    pub delay: Duration,
}

/// What sealift is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The best of QEMU's own ways that are encrypted.
    Encrypted,
    /// QEMU's own in the clear.
    Plain,
    /// Sealift itself with a calmer guest: QEMU's own ways do not end there.
    Calmer(Work),
}

/// What is wanted of the figures, most of them as a ratio to the other's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Of the times, at most.
    pub time: Option<f64>,
    /// Of the bytes on the wire, at most.
    pub bytes: Option<f64>,
    /// Of the blackouts.
    pub blackout: Option<Blackout>,
    /// Of the processor times, at most.
    pub cpu: Option<f64>,
}

/// What a blackout may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blackout {
    /// So many times the other's.
    Ratio(f64),
    /// So long.
    AtMost(Duration),
}

/// How fast a guest rewrites how much of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// Pages a second.
    pub rate: u32,
    /// Chosen among so many MiB.
    pub mib: u32,
}

const fn mix(load: Load, rate: u32, mib: u32) -> Work {
    Work::Mix(Mix::rewriting(load, rate, mib))
}

const fn mbit(millions: u32) -> Link {
    Link {
        rate: Some(BitRate::mbit(millions)),
        delay: Duration::ZERO,
    }
}

const UNSHAPED: Link = Link {
    rate: None,
    delay: Duration::ZERO,
};

/// Each way, of the long line.
const FAR: Duration = Duration::from_millis(80);

/// A calm guest, a busier one, and one that no peer can move over the slower link.
const CALM: Work = mix(Load::Mix, 2000, 64);
const BUSY: Work = mix(Load::Mix, 5000, 128);
const WILD: Work = mix(Load::Mix, 20_000, 256);

/// What a blackout may be on a long line: three times its length, as the last pages, the word that they are there and the order to go on
/// have to cross it, and what the ends take for themselves.
const FAR_BLACKOUT: Duration = Duration::from_millis(3 * 80 + 60);

const fn ratios(time: f64, bytes: Option<f64>, blackout: f64, cpu: Option<f64>) -> Wanted {
    Wanted {
        time: Some(time),
        bytes,
        blackout: Some(Blackout::Ratio(blackout)),
        cpu,
    }
}

const fn row(name: &'static str, work: Work, link: Link, wanted: Wanted) -> Row {
    Row {
        name,
        work,
        link,
        against: Against::Encrypted,
        wanted,
    }
}

impl Row {
    /// Those that say whether sealift is worth using.
    pub const NAMED: [Self; 9] = [
        row(
            "mix-2k-1g",
            CALM,
            mbit(1000),
            ratios(0.80, Some(0.96), 0.5, Some(0.85)),
        ),
        row(
            "mix-5k-200m",
            BUSY,
            mbit(200),
            ratios(0.79, Some(0.79), 0.2, Some(1.0)),
        ),
        row(
            "mix-5k-100m",
            BUSY,
            mbit(100),
            ratios(0.70, Some(0.70), 0.2, None),
        ),
        Self {
            against: Against::Calmer(CALM),
            ..row(
                "mix-20k-200m",
                WILD,
                mbit(200),
                ratios(1.5, None, 2.0, None),
            )
        },
        row(
            "churn-2k-200m",
            mix(Load::Churn, 2000, 64),
            mbit(200),
            ratios(0.85, Some(0.85), 0.3, None),
        ),
        row(
            "debian-200m",
            Work::Debian,
            mbit(200),
            ratios(0.74, Some(0.74), 0.2, None),
        ),
        row(
            "random-1g",
            mix(Load::Random, 2000, 64),
            mbit(1000),
            ratios(1.0, Some(1.0), 0.5, Some(1.0)),
        ),
        Self {
            against: Against::Plain,
            ..row(
                "mix-2k-unshaped",
                CALM,
                UNSHAPED,
                ratios(1.0, None, 0.5, Some(1.1)),
            )
        },
        row(
            "mix-5k-200m-80ms",
            BUSY,
            Link {
                delay: FAR,
                ..mbit(200)
            },
            Wanted {
                blackout: Some(Blackout::AtMost(FAR_BLACKOUT)),
                ..ratios(0.79, Some(0.79), 0.0, None)
            },
        ),
    ];

    /// A row for an experiment: nothing is wanted of it.
    #[must_use]
    pub fn free(work: Work, link: Link) -> Self {
        let nothing = Wanted {
            time: None,
            bytes: None,
            blackout: None,
            cpu: None,
        };
        row("free", work, link, nothing)
    }
}

impl Wanted {
    /// What is enough where pages go through QEMU's stream at both ends.
    #[must_use]
    pub fn by_stream(self) -> Self {
        let slack = |ratio: Option<f64>| ratio.map(|ratio| ratio * 1.15);
        let blackout = self.blackout.map(|blackout| match blackout {
            Blackout::Ratio(ratio) => Blackout::Ratio(2.0 * ratio),
            Blackout::AtMost(time) => Blackout::AtMost(2 * time),
        });
        Self {
            time: slack(self.time),
            bytes: slack(self.bytes),
            blackout,
            cpu: slack(self.cpu),
        }
    }
}

impl Work {
    /// Of this kind, rewriting so much where that is for it.
    pub fn named(name: &str, dirty: Dirty) -> Result<Self, Error> {
        Ok(match name {
            "mix" => mix(Load::Mix, dirty.rate, dirty.mib),
            "churn" => mix(Load::Churn, dirty.rate, dirty.mib),
            "random" => mix(Load::Random, dirty.rate, dirty.mib),
            "idle" => Self::Mix(Mix::idle()),
            "debian" => Self::Debian,
            other => {
                return Err(Error::new(format!(
                    "there is no guest `{other}`, but mix, churn, random, idle and debian"
                )));
            }
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.work, self.link)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio =
            |ratio: Option<f64>| ratio.map_or("any".to_owned(), |ratio| format!("{ratio:.2}"));
        let blackout = match self.blackout {
            Some(Blackout::Ratio(limit)) => format!("{limit:.2}"),
            Some(Blackout::AtMost(limit)) => format!("{} ms", limit.as_millis()),
            None => "any".to_owned(),
        };
        let (time, bytes, cpu) = (ratio(self.time), ratio(self.bytes), ratio(self.cpu));
        write!(
            f,
            "time {time}, bytes {bytes}, blackout {blackout}, CPU {cpu}"
        )
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Mix(mix) = self else {
            return f.write_str("Debian with real programs");
        };
        match mix.load {
            Load::Idle => f.write_str("an idle Linux"),
            load => write!(
                f,
                "{}, {} pages/s in {} MiB",
                load.name(),
                mix.rate,
                mix.hot_mib
            ),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{rate}")?,
            None => f.write_str("unshaped")?,
        }
        match self.delay {
            Duration::ZERO => Ok(()),
            delay => write!(f, ", {} ms each way", delay.as_millis()),
        }
    }
}

impl FromStr for Link {
    type Err = Error;

    /// `1gbit`, or `unshaped`
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "unshaped" => Ok(UNSHAPED),
            rate => rate.parse().map(|rate| Self {
                rate: Some(rate),
                ..UNSHAPED
            }),
        }
    }
}

impl FromStr for Dirty {
    type Err = Error;

    /// `2000:64`
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (rate, mib) = text.split_once(':')?;
            let mib: u32 = mib.parse().ok()?;
            let within = (1..=Mix::rewriting(Load::Mix, 0, 0).mib).contains(&mib);
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
        assert_eq!(Work::named("mix", dirty).unwrap(), CALM);
        for text in ["", "2000", "2000:", ":64", "2000:0", "2000:513", "-1:64"] {
            assert!(text.parse::<Dirty>().is_err(), "{text}");
        }
        assert!(Work::named("windows", dirty).is_err());
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        for (place, row) in Row::NAMED.iter().enumerate() {
            let same = |other: &Row| other.name == row.name;
            assert_eq!(Row::NAMED.iter().position(same), Some(place));
        }
    }
}
