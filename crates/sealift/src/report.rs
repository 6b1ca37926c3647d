//! The report at the end of a session that did what it was to do.
//!
//! ```text
//! report   web1, 3f2e0b7c-…
//!   time       12.4 s, 5 rounds
//!   memory     1.03 GiB became 171 MiB on 4 lanes (6.1 to 1)
//!     zero           131,072 pages      512 MiB   48.2 %
//!     …
//!   blackout   23.4 ms ± 0.31 ms; QEMU counts 5.00 ms
//!   …
//! ```

use std::fmt;
use std::time::Duration;

use sealift_seal::Suite;
use serde::Serialize;

use crate::event::{Access, Blackout, Full, Guest, Peer, Traffic, Verification, algorithm_name};
use crate::figures::{Shown, grouped, ratio, share, size, span, uuid};

/// What a session came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The guest.
    pub guest: Guest,
    /// The other end; none for a file.
    pub peer: Option<Peer>,
    /// From the order to the guest's going live.
    #[serde(rename = "time_ms", serialize_with = "crate::event::millis")]
    pub time: Duration,
    /// Walks through memory.
    pub rounds: u64,
    /// Guest memory against bytes on the wire.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// By kind of record.
    pub records: Records,
    /// Lanes that were used.
    pub lanes: u16,
    /// Channels that the source's QEMU opened, the main one among them.
    pub channels: u64,
    /// How long the guest stood still; none if it did not run.
    pub blackout: Option<Blackout>,
    /// The key exchange.
    #[serde(serialize_with = "crate::event::suite")]
    pub suite: Suite,
    /// The version of TLS, as `TLS 1.3`; none for a file.
    pub tls: Option<String>,
    /// What was compared.
    pub verification: Verification,
    /// Who decided that the guest runs there.
    #[serde(flatten)]
    pub hand_off: HandOff,
    /// How this end reached guest memory.
    pub access: Access,
    /// Why so.
    pub access_reason: String,
}

/// What was sent, by kind of record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Records {
    /// Pages of zeros.
    pub zero: Pages,
    /// Pages as they are, compressed with others.
    pub literal: Pages,
    /// Pages whose content had been sent.
    pub same_as: Pages,
    /// Pages that travelled as what changed in them.
    pub delta: Pages,
    /// Device state and whatever else is not pages.
    pub opaque: Opaque,
}

/// Pages of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Pages {
    /// How many.
    pub pages: u64,
    /// Guest memory that they stand for.
    pub raw_bytes: u64,
}

/// What is not pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Opaque {
    /// How much.
    pub raw_bytes: u64,
}

/// Who decided that the guest runs at the destination.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "hand_off", rename_all = "snake_case")]
pub enum HandOff {
    /// Both ends, over QMP: there never were two running copies, nor can a failure make two.
    Managed,
    /// QEMU by itself, once sealift had let it have the last byte.
    Unmanaged {
        /// Why.
        hand_off_reason: String,
    },
    /// Nobody: the guest went into a file or came from one.
    None,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_guest(f)?;
        let rounds = counted(self.rounds, "round");
        write!(f, "\n  time       {}, {rounds}", span(self.time))?;
        self.write_memory(f)?;
        if let Some(blackout) = &self.blackout {
            write!(f, "\n  blackout   {blackout}")?;
        }
        write!(f, "\n  sealed     AES-256-GCM, keys by {}", self.suite)?;
        if let Some(tls) = &self.tls {
            write!(f, "; {tls}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, "\n  peer       {peer}")?;
            write!(f, "\n             SHA-256 {}", Shown(&peer.fingerprint))?;
        }
        write!(f, "\n  verified   {}", self.verification)?;
        match &self.hand_off {
            HandOff::Managed => f.write_str("\n  hand-off   managed: QMP at both ends")?,
            HandOff::Unmanaged { hand_off_reason } => {
                write!(f, "\n  hand-off   unmanaged: {}", Shown(hand_off_reason))?;
            }
            HandOff::None => {}
        }
        let (access, reason) = (self.access.name(), Shown(&self.access_reason));
        write!(f, "\n  access     {access}: {reason}")
    }
}

impl Report {
    fn write_guest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "report   {}", self.guest)
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic {
            raw_bytes,
            wire_bytes,
        } = self.traffic;
        let lanes = counted(self.lanes.into(), "lane");
        let (raw, wire) = (size(raw_bytes), size(wire_bytes));
        write!(f, "\n  memory     {raw} became {wire} on {lanes}")?;
        if let Some(ratio) = ratio(raw_bytes, wire_bytes) {
            write!(f, " ({ratio})")?;
        }
        let Records {
            zero,
            literal,
            same_as,
            delta,
            opaque,
        } = self.records;
        let all = [zero, literal, same_as, delta].map(|pages| pages.raw_bytes);
        let all = all.into_iter().fold(opaque.raw_bytes, u64::saturating_add);
        let mut line = |name: &str, pages: Option<u64>, bytes: u64| {
            let pages = pages.map_or_else(String::new, |pages| format!("{} pages", grouped(pages)));
            let (bytes, share) = (size(bytes), share(bytes, all));
            write!(f, "\n    {name:<8} {pages:>22} {bytes:>12} {share:>8}")
        };
        line("zero", Some(zero.pages), zero.raw_bytes)?;
        line("literal", Some(literal.pages), literal.raw_bytes)?;
        line("same-as", Some(same_as.pages), same_as.raw_bytes)?;
        line("delta", Some(delta.pages), delta.raw_bytes)?;
        line("opaque", None, opaque.raw_bytes)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}", Shown(name))?,
            None => f.write_str("a guest without a name")?,
        }
        match &self.uuid {
            Some(bytes) => write!(f, ", {}", uuid(bytes)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", Shown(&self.name), Shown(&self.address))
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.true_length {
            Some(length) => f.write_str(&span(length))?,
            None => f.write_str("not known")?,
        }
        match self.uncertainty {
            Some(uncertainty) if !uncertainty.is_zero() => write!(f, " ± {}", span(uncertainty))?,
            _ => {}
        }
        match self.qemu_downtime {
            Some(downtime) => write!(f, "; QEMU counts {}", span(downtime)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = algorithm_name(self.algorithm);
        let maps = if self.version_maps_equal {
            "equal"
        } else {
            "different"
        };
        write!(f, "{algorithm} of every batch; version maps {maps}")?;
        match self.full {
            Full::NotAsked => Ok(()),
            Full::Equal { full_bytes } => {
                write!(f, "; both memories read again, {}: equal", size(full_bytes))
            }
            Full::Different => f.write_str("; both memories read again: different"),
        }
    }
}

/// A number of things.
fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}
