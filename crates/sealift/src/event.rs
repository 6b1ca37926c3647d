//! What happens while a guest moves, one value for each thing that is told.
//!
//! ```text
//!  {"at":"2026-11-21T15:01:11.123456789Z","session":"00…0f","event":"stage","stage":"pre_copy"}
//!    └ this host's clock                    └ null before one      └ tag     └ fields of this event
//! ```
//!
//! `docs/EVENTS.md` lists them. Names and units are an interface: fields are added, never changed. A figure that is not known is null.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealift_pages::Algorithm;
use sealift_seal::Suite;
use sealift_session::control::SessionId;
use serde::{Serialize, Serializer};

use crate::figures;
use crate::outcome::Ending;
use crate::report::Report;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, on this host's clock.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// In which session; none before it has begun.
    #[serde(serialize_with = "session")]
    pub session: Option<SessionId>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// This end waits for a peer or for QEMU.
    Listening {
        /// Where: with the port that the system chose, if it was to.
        address: String,
    },
    /// The control channel stands, and the peer has proved who it is.
    Connected {
        /// The peer.
        peer: Peer,
        /// The version of TLS, as `TLS 1.3`.
        tls: String,
    },
    /// The receiver takes the guest.
    Admitted(Admitted),
    /// It is settled how a RAM block that this end may reach by itself is reached.
    Access(BlockAccess),
    /// A stage has begun.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// QEMU has come to the end of a walk through memory.
    Round(Round),
    /// Where it stands, about five times a second.
    Progress(Progress),
    /// Something that the operator should know; it goes on.
    Warning {
        /// What, in one sentence.
        message: String,
    },
    /// Connections broke: the guest runs on, and the source comes back.
    Interrupted {
        /// What was the matter.
        message: String,
    },
    /// They are made anew, and it goes on where it was.
    Resumed(Resumed),
    /// The guest runs again: how long it stood still.
    Blackout(Blackout),
    /// What arrived was compared with what was sent.
    Verification(Verification),
    /// The figures of a session that did what it was to do.
    Report(Box<Report>),
    /// How it ended: the last event of a session.
    Outcome(Ending),
}

/// Where a session stands. The order is that of time: no session goes back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Connecting, proving who one is.
    PreMigration,
    /// Agreeing on what will be sent.
    Reservation,
    /// Sending memory while the guest runs.
    PreCopy,
    /// The guest has stopped; the rest is sent.
    StopAndCopy,
    /// All has arrived; the decision.
    Commitment,
    /// Making the guest live.
    Activation,
    /// Nothing is left to do.
    Done,
    /// No hand-off.
    Aborted,
}

impl Stage {
    /// Its name as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreMigration => "pre-migration",
            Self::Reservation => "reservation",
            Self::PreCopy => "pre-copy",
            Self::StopAndCopy => "stop-and-copy",
            Self::Commitment => "commitment",
            Self::Activation => "activation",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }

    /// What happens in it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::PreMigration => "both ends prove who they are",
            Self::Reservation => "both ends agree on what will be sent",
            Self::PreCopy => "memory is sent while the guest goes on",
            Self::StopAndCopy => "the guest stands still, what is left is sent",
            Self::Commitment => "everything has arrived, the hand-off is decided",
            Self::Activation => "the guest goes live at the destination",
            Self::Done => "nothing is left to do",
            Self::Aborted => "the guest stays at the source",
        }
    }
}

/// The other end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Peer {
    /// The name that its certificate proves.
    pub name: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// Where it is.
    pub address: String,
}

/// The guest, as its QEMU or the operator names it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Guest {
    /// Its name.
    pub name: Option<String>,
    /// Its UUID.
    #[serde(serialize_with = "uuid")]
    pub uuid: Option<[u8; 16]>,
}

/// What both ends agreed on.
#[derive(Clone, Debug, Serialize)]
pub struct Admitted {
    /// The guest.
    pub guest: Guest,
    /// Its memory.
    pub memory_bytes: u64,
    /// The most lanes.
    pub lanes: u16,
    /// The key exchange.
    #[serde(serialize_with = "suite")]
    pub suite: Suite,
    /// How this end reaches guest memory, and why so.
    pub access: Access,
    /// Why so.
    pub access_reason: String,
}

/// How a session was taken up again.
#[derive(Clone, Debug, Serialize)]
pub struct Resumed {
    /// For how long there was no connection.
    #[serde(rename = "after_ms", serialize_with = "millis")]
    pub after: Duration,
    /// Batches that are sent again; null at the receiver.
    pub batches_again: Option<u64>,
    /// Where the peer is now.
    pub address: String,
}

/// How one end reaches guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Source: through QEMU's stream.
    Stream,
    /// Receiver: the stream is put together again for QEMU.
    Relay,
    /// Directly, by the file behind it.
    Mapped,
    /// Directly, in QEMU's process.
    Process,
}

impl Access {
    /// As people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Relay => "relay",
            Self::Mapped => "mapped",
            Self::Process => "process",
        }
    }
}

/// How one RAM block is reached.
#[derive(Clone, Debug, Serialize)]
pub struct BlockAccess {
    /// The block, by QEMU's name.
    pub block: String,
    /// How.
    pub access: Access,
    /// Why so.
    pub access_reason: String,
}

/// A walk through memory.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u64,
    /// Pages that were sent in it.
    pub pages: u64,
    /// Those of them that hold only zeros.
    pub zero_pages: u64,
    /// How fast the guest changed memory meanwhile.
    pub dirty_bytes_per_s: Option<u64>,
}

/// Where it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// The round, from 1.
    pub round: u64,
    /// So far.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// What the link takes now.
    pub wire_bytes_per_s: u64,
    /// What that is before compression.
    pub raw_bytes_per_s: u64,
    /// How fast the guest changes memory.
    pub dirty_bytes_per_s: Option<u64>,
    /// Sent and not yet acknowledged.
    pub in_flight_bytes: u64,
    /// Guest memory that has still to be sent, as far as is known.
    pub remaining_bytes: Option<u64>,
    /// When it will have ended, from now; null while it does not converge.
    #[serde(rename = "predicted_end_ms", serialize_with = "some_millis")]
    pub predicted_end: Option<Duration>,
    /// How long the guest would stand still.
    #[serde(rename = "predicted_blackout_ms", serialize_with = "some_millis")]
    pub predicted_blackout: Option<Duration>,
}

/// Guest memory and device state against what they took on the wire: `raw_bytes`, `wire_bytes`, and `ratio` of the two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Before compression.
    pub raw_bytes: u64,
    /// On the lanes, with all headers.
    pub wire_bytes: u64,
}

impl Serialize for Traffic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Traffic", 3)?;
        fields.serialize_field("raw_bytes", &self.raw_bytes)?;
        fields.serialize_field("wire_bytes", &self.wire_bytes)?;
        // Two places: more would claim an exactness that compression does not have.
        let hundredths = (u128::from(self.raw_bytes) * 100).checked_div(self.wire_bytes.into());
        let hundredths = hundredths.and_then(|ratio| u64::try_from(ratio).ok());
        fields.serialize_field("ratio", &hundredths.map(|ratio| ratio as f64 / 100.0))?;
        fields.end()
    }
}

/// How long the guest stood still.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Blackout {
    /// As the source's QEMU counts it: until it had sent everything.
    #[serde(rename = "qemu_downtime_ms", serialize_with = "some_millis")]
    pub qemu_downtime: Option<Duration>,
    /// From the stop at the source to the resume at the destination.
    #[serde(rename = "true_ms", serialize_with = "some_millis")]
    pub true_length: Option<Duration>,
    /// What the two hosts' clocks may differ by more than was estimated, either way.
    #[serde(rename = "uncertainty_ms", serialize_with = "some_millis")]
    pub uncertainty: Option<Duration>,
}

/// What was compared, and what came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Verification {
    /// Of the digests of batches and version maps.
    #[serde(serialize_with = "algorithm")]
    pub algorithm: Algorithm,
    /// No page is missing or stale.
    pub version_maps_equal: bool,
    /// Both memories, read again while the guest stood still.
    #[serde(flatten)]
    pub full: Full,
}

/// What `--verify full` found.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "full", rename_all = "snake_case")]
pub enum Full {
    /// Nobody asked.
    NotAsked,
    /// They are equal.
    Equal {
        /// What was read at each end.
        full_bytes: u64,
    },
    /// They differ.
    Different,
}

/// An algorithm as it is called.
pub(crate) const fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Blake3 => "BLAKE3",
    }
}

fn algorithm<S: Serializer>(algorithm: &Algorithm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(algorithm_name(*algorithm))
}

pub(crate) fn suite<S: Serializer>(suite: &Suite, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(suite)
}

fn uuid<S: Serializer>(uuid: &Option<[u8; 16]>, serializer: S) -> Result<S::Ok, S::Error> {
    uuid.as_ref().map(figures::uuid).serialize(serializer)
}

fn session<S: Serializer>(id: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    let id = id.as_ref().map(|SessionId(bytes)| figures::hex(bytes));
    id.serialize(serializer)
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    serializer.serialize_f64(micros as f64 / 1000.0)
}

fn some_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// UTC, to the nanosecond. A clock before 1970 is shown as 1970.
fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let nanos = since.subsec_nanos();
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => serializer.collect_str(&format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
        )),
        // A clock beyond the year 9999.
        Err(_) => serializer.serialize_none(),
    }
}
