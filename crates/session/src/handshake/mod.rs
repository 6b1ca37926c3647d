//! From a TLS connection to keys that both ends have confirmed: one type per stage, one message from the peer per step.
//!
//! ```text
//!  source                                                       receiver
//!  Greeting::new ──────────────── Hello, Offer ───────────────▶ Expecting::receive
//!  Greeting::receive ◀─────────── Hello ─────────────────────── Greeted::receive
//!  Offering::receive ◀─────────── Choice ────────────────────── Chosen
//!  Negotiated::admit ──────────── Admission, Shares ──────────▶ Chosen::receive
//!  │                                                            Considering: accept or refuse
//!  Admitting::receive ◀────────── Verdict ───────────────────── Admitted::receive
//!  Exchanging::receive ◀───────── Shares, Confirmation ──────── Confirming
//!  Confirming ─────────────────── Confirmation ───────────────▶ Confirming::receive
//!  Confirming::receive                                          │
//!  ▼                                                            ▼
//!  Agreed<Source>                                               Agreed<Receiver>
//! ```
//!
//! A stage consumes the one before it, so nothing is said twice or too early. A message that the stage does not wait for ends
//! the session; an `Error` of the peer's and a refusal of its verdict come out as such, because a person has to read them
//! ([`Reason::Told`], [`Reason::Refused`]). What this end finds wrong becomes the peer's to read by [`Failed::to_tell`].
//!
//! Whoever drives this tells the [`Decoder`](crate::control::Decoder) that the hello was accepted as soon as the stage that
//! received it has returned without an error, and not earlier.

pub mod again;
mod failed;
pub mod receiver;
pub(crate) mod said;
pub mod source;

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use sealift_pages::{Algorithm, Layout};
use sealift_seal::{Exporter, Keyed, Side, Suite};

use crate::control::{Admission, Choice, Offer, SessionId, Text};

pub use failed::{Failed, Reason};

/// The version of lanes that this crate speaks, `proto/WIRE.md`'s: 1, the least number there is.
pub const WIRE_VERSION: NonZeroU32 = NonZeroU32::MIN;

/// What TLS gives to the session.
pub struct Secured {
    /// The exporter value of the connection.
    pub exporter: Exporter,
    /// This host's leaf certificate, DER.
    pub own_certificate: Vec<u8>,
    /// The peer's leaf certificate, DER, as TLS verified it.
    pub peer_certificate: Vec<u8>,
}

/// What both ends agreed on, and the keys that nobody else has.
pub struct Agreed<S: Side> {
    /// The keys of the lanes.
    pub keyed: Keyed<S>,
    /// The session's id.
    pub session: SessionId,
    /// The key exchange suite.
    pub suite: Suite,
    /// The digest algorithm of batches, version maps and what is read again.
    pub digest: Algorithm,
    /// What records are checked against.
    pub layout: Layout,
    /// What the source offered.
    pub offer: Offer,
    /// What the receiver took of it.
    pub choice: Choice,
    /// The guest.
    pub admission: Admission,
    /// Memory that was free on the receiver's host when it admitted the guest.
    pub memory_free: u64,
    /// The name or address by which the source checked the receiver's certificate.
    pub peer_name: Text<255>,
    /// The peer's leaf certificate, DER.
    pub peer_certificate: Vec<u8>,
    /// Name and version of the peer's program, for logs.
    pub peer_software: Option<Text<255>>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured(..)")
    }
}

impl<S: Side> fmt::Debug for Agreed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreed")
            .field("session", &self.session)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
