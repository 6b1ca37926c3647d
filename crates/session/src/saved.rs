//! The beginning and the end of a saved guest's file: `proto/WIRE.md` §6.
//!
//! ```text
//!  0           8         10     12         16
//!  +-----------+---------+------+----------+-------------------+----------------- … ----+-----------------+
//!  | magic     | version | zero | be32     | Header, protobuf  | sealed batches         | End, sealed     |
//!  | sealiftF  | 1       |      | length   |                   | lane 0                 | lane 1          |
//!  +-----------+---------+------+----------+-------------------+----------------- … ----+-----------------+
//!  └───────────── in the clear; all keys are bound to it ──────┘ 0, 1, 2 … in order       └ counts them all
//! ```
//!
//! The end is what makes a file whole: it is found from the file's last byte, and it says how many batches there are, where they end, which
//! page came last in which, and whether the guest ran. A file without it is refused before a batch is read.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use prost::Message as _;
use sealift_pages::{Agreed as Terms, Algorithm, CONTENT_MAX, Layout, LayoutError, PageSize};

use crate::control::invalid::{array, number, present};
use crate::control::{
    Admission, Distinct, Invalid, LEN_MAX, RunState, SessionId, Text, Why, outline,
};
use crate::handshake::said;

/// The lane of a file that carries the guest.
pub const GUEST_LANE: u8 = 0;
/// The lane of a file that carries its end.
pub const END_LANE: u8 = 1;
/// The only epoch of that lane; the other one's begin behind it.
pub const END_EPOCH: u32 = 0;

/// Bytes in front of the header.
pub const PREAMBLE: usize = 16;

const MAGIC: [u8; 8] = *b"sealiftF";
const VERSION: u16 = 1;
/// Bytes of the digest over a certificate, and of a salt.
const DIGEST: usize = 32;
/// SEC 1's uncompressed point of P-256.
const POINT: usize = 65;
/// A GiB of contents to refer back to: four times what is ever asked for, and what the restoring host then has to remember.
const SLOTS_MAX: u64 = 1 << 30;

/// What a file says of itself in the clear.
#[derive(Clone, Eq, PartialEq)]
pub struct Header {
    /// The file's id.
    pub id: SessionId,
    /// Whom it is sealed for.
    pub recipient: Recipient,
    /// The saving host's ephemeral public key.
    pub share: [u8; POINT],
    /// The salt of the file's keys.
    pub salt: [u8; DIGEST],
    /// How digests are made.
    pub digest: Algorithm,
    /// How groups may be compressed, by number.
    pub codecs: Distinct<u8, 0>,
    /// Bytes of contents that records may refer back to.
    pub slots: u64,
    /// The guest's page size.
    pub page_size: PageSize,
    /// The guest.
    pub guest: Admission,
    /// What saved it.
    pub software: Option<Text<255>>,
    /// When, in nanoseconds since 1970.
    pub saved_ns: u64,
}

/// Whom a file is sealed for.
#[derive(Clone, Eq, PartialEq)]
pub struct Recipient {
    /// The public key.
    pub key: [u8; POINT],
    /// SHA-256 of the certificate that it was taken from.
    pub certificate: [u8; DIGEST],
    /// A name in that certificate.
    pub name: Option<Text<255>>,
}

/// A file's last word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct End {
    /// How many batches there are.
    pub batches: u64,
    /// Bytes of the file in front of the end.
    pub at: u64,
    /// The digest over the version map.
    pub versions: [u8; DIGEST],
    /// What the guest did when it was saved.
    pub run_state: RunState,
}

/// Bytes that do not begin as a saved guest's file does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotSaved {
    /// Another kind of file.
    Magic,
    /// A later version.
    Version {
        /// Which.
        found: u16,
    },
    /// The header is longer than any, or empty.
    HeaderLength {
        /// Its length.
        found: u32,
    },
    /// The header is not what `saved.proto` says, or has more fields than one can have.
    Malformed,
    /// A field of it is not allowed.
    Invalid(Invalid),
    /// What is sealed at the end is not an end.
    End,
}

impl Header {
    /// The file's beginning.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let header = wire::Header {
            id: self.id.0.to_vec(),
            recipient_key: self.recipient.key.to_vec(),
            recipient_certificate: self.recipient.certificate.to_vec(),
            recipient_name: text(self.recipient.name.as_ref()),
            share: self.share.to_vec(),
            salt: self.salt.to_vec(),
            digest: self.digest.to_wire().into(),
            codecs: self.codecs.to_wire(),
            slots: self.slots,
            page_size: u32::try_from(self.page_size.bytes()).unwrap_or(u32::MAX),
            guest: Some(self.guest.clone().into()),
            software: text(self.software.as_ref()),
            saved_ns: self.saved_ns,
        }
        .encode_to_vec();
        // 1,024 blocks with names of 255 bytes are 300 KiB.
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(PREAMBLE + header.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&header);
        bytes
    }

    /// The length of the header behind this preamble, before memory is taken for it.
    ///
    /// # Errors
    /// When it is no saved guest's file, of a later version, or its header is too long.
    pub fn length(preamble: &[u8; PREAMBLE]) -> Result<usize, NotSaved> {
        let [
            m0,
            m1,
            m2,
            m3,
            m4,
            m5,
            m6,
            m7,
            v0,
            v1,
            z0,
            z1,
            l0,
            l1,
            l2,
            l3,
        ] = *preamble;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC || [z0, z1] != [0; 2] {
            return Err(NotSaved::Magic);
        }
        let found = u16::from_be_bytes([v0, v1]);
        if found != VERSION {
            return Err(NotSaved::Version { found });
        }
        let found = u32::from_be_bytes([l0, l1, l2, l3]);
        match usize::try_from(found) {
            Ok(length @ 1..=LEN_MAX) => Ok(length),
            _ => Err(NotSaved::HeaderLength { found }),
        }
    }

    /// Takes the header behind the preamble.
    ///
    /// # Errors
    /// When it is not one, or a field is not allowed.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotSaved> {
        outline::check_message(bytes, GUEST_FIELD, BLOCKS_FIELD)
            .map_err(|_| NotSaved::Malformed)?;
        let header = wire::Header::decode(bytes).map_err(|_| NotSaved::Malformed)?;
        Self::checked(header).map_err(NotSaved::Invalid)
    }

    fn checked(header: wire::Header) -> Result<Self, Invalid> {
        let page_size = header.page_size.into();
        let page_size = usize::try_from(page_size)
            .ok()
            .and_then(|bytes| PageSize::new(bytes).ok())
            .ok_or_else(|| Why::Alignment { found: page_size }.of("Header.page_size"))?;
        let digest = u8::try_from(header.digest)
            .ok()
            .and_then(Algorithm::from_wire)
            .ok_or_else(|| {
                let found = i32::try_from(header.digest).unwrap_or(i32::MAX);
                Why::Enumerator { found }.of("Header.digest")
            })?;
        let guest = Admission::try_from(present("Header.guest", header.guest)?)?;
        guest.check_pages(page_size)?;
        Ok(Self {
            id: SessionId(array("Header.id", &header.id)?),
            recipient: Recipient {
                key: array("Header.recipient_key", &header.recipient_key)?,
                certificate: array(
                    "Header.recipient_certificate",
                    &header.recipient_certificate,
                )?,
                name: optional("Header.recipient_name", header.recipient_name)?,
            },
            share: array("Header.share", &header.share)?,
            salt: array("Header.salt", &header.salt)?,
            digest,
            codecs: Distinct::from_wire("Header.codecs", &header.codecs)?,
            slots: number("Header.slots", header.slots, 0, SLOTS_MAX)?,
            page_size,
            guest,
            software: optional("Header.software", header.software)?,
            saved_ns: header.saved_ns,
        })
    }

    /// What the file's records are checked against.
    ///
    /// # Errors
    /// When a block has more pages than records can name, which what was checked does not allow.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        let page = self.page_size.bytes() as u64;
        let blocks = self.guest.blocks.as_slice().iter();
        let layout = Layout::new(
            self.page_size,
            blocks.map(|block| block.length() / page).collect(),
        )?;
        Ok(layout.with_agreed(Terms {
            digest: self.digest,
            codecs: said::codecs(self.codecs.as_slice()),
            oldest: self.slots / CONTENT_MAX,
            ..Terms::default()
        }))
    }
}

/// `Header.guest`, and `Admission.blocks` in it.
const GUEST_FIELD: u64 = 11;
const BLOCKS_FIELD: u64 = 4;

impl End {
    /// Bytes of it before it is sealed.
    pub const LENGTH: usize = 8 + 8 + DIGEST + 1;

    /// As it is sealed.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let fields = [
            self.batches.to_be_bytes().as_slice(),
            &self.at.to_be_bytes(),
            &self.versions,
            &[self.run_state.number()],
        ]
        .concat();
        bytes.copy_from_slice(&fields);
        bytes
    }

    /// Takes it, opened.
    ///
    /// # Errors
    /// When it has another length, or names a run state that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotSaved> {
        let (batches, rest) = bytes.split_first_chunk().ok_or(NotSaved::End)?;
        let (at, rest) = rest.split_first_chunk().ok_or(NotSaved::End)?;
        let (versions, rest) = rest.split_first_chunk().ok_or(NotSaved::End)?;
        let &[run_state] = rest else {
            return Err(NotSaved::End);
        };
        Ok(Self {
            batches: u64::from_be_bytes(*batches),
            at: u64::from_be_bytes(*at),
            versions: *versions,
            run_state: RunState::from_wire("End.run_state", run_state.into())
                .map_err(NotSaved::Invalid)?,
        })
    }
}

impl RunState {
    /// As stage.proto numbers them.
    fn number(self) -> u8 {
        u8::try_from(self.to_wire()).unwrap_or_default()
    }
}

fn text(text: Option<&Text<255>>) -> String {
    text.map(|text| text.as_str().into()).unwrap_or_default()
}

fn optional(field: &'static str, text: String) -> Result<Option<Text<255>>, Invalid> {
    match text.is_empty() {
        true => Ok(None),
        false => Text::new(field, text).map(Some),
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("id", &self.id)
            .field("recipient", &self.recipient.name)
            .field("guest", &self.guest.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for NotSaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it is not a guest that sealift has saved"),
            Self::Version { found } => write!(
                f,
                "it is of version {found}, and this sealift knows version {VERSION}"
            ),
            Self::HeaderLength { found } => write!(
                f,
                "its header is said to have {found} bytes, and 1 to {LEN_MAX} are possible"
            ),
            Self::Malformed => f.write_str("its header cannot be read"),
            Self::Invalid(invalid) => write!(f, "its header is not allowed: {invalid}"),
            Self::End => f.write_str("what is sealed at its end is not a file's end"),
        }
    }
}

impl core::error::Error for NotSaved {}

/// The types that prost makes of `saved.proto`; unchecked.
mod wire {
    #![expect(
        clippy::doc_markdown,
        unreachable_pub,
        reason = "generated; documented in saved.proto"
    )]
    include!(concat!(env!("OUT_DIR"), "/sealift.saved.v1.rs"));
}

#[cfg(test)]
mod tests;
