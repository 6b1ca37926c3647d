//! Reads the body of a batch, inflates its groups, and keeps what it says: pages beside each other, as at the source.
//!
//! ```text
//!   body ─▶ records ─▶ listing · contents, with holes for what other batches hold
//!             └ group ─▶ zstd, alone or behind its window ─▶ records ─▶ the same
//!           names no other batch? ─ yes ─▶ holes filled and digest compared, here
//! ```
//!
//! A patch waits in the hole that it helps to fill, being shorter: so a batch takes the same memory whether its pages travelled as they are or
//! as patches.
//!
//! What a body can ask for is bounded before it is done: the pages by `CONTENT_MAX`, the records by `RECORDS_MAX`, what groups inflate to by
//! `RAW_MAX`. Each worker has its own decoder.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use zstd_safe::DCtx;

use crate::body::{Body, GROUP_MAX};
use crate::contents::Contents;
use crate::digest::Digest;
use crate::layout::{Address, Layout};
use crate::listing::Listing;
use crate::mirror::{Altered, Resolved, Unresolvable};
use crate::patch::Patch;
use crate::record::{Codec, Group, Origin, Record};
use crate::refusal::Refused;
use crate::window::{OutOfTurn, Unpackable, Unpacking};

/// Reads bodies.
pub struct Decoder {
    zstd: DCtx<'static>,
    /// What a group inflates to: as much as it ever may.
    raw: Vec<u8>,
}

impl Decoder {
    /// Takes the memory that it needs at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            zstd: DCtx::create(),
            raw: vec![0; GROUP_MAX],
        }
    }

    /// Reads the body of batch `number`. A batch that names no other one is verified as well.
    ///
    /// # Errors
    /// When the peer sent what is no body, or one that is not what was read from the guest; also when it goes on a window.
    pub fn decode(
        &mut self,
        body: &[u8],
        number: u64,
        layout: &Layout,
    ) -> Result<Decoded, DecodeError> {
        self.read(body, number, layout, None)
    }

    /// The same of a body that goes on a window: [`Body::window`] says which. After an error the window is of no use any more.
    ///
    /// # Errors
    /// Likewise, and when it is not the window's next.
    pub fn decode_within(
        &mut self,
        body: &[u8],
        number: u64,
        layout: &Layout,
        window: &mut Unpacking,
    ) -> Result<Decoded, DecodeError> {
        self.read(body, number, layout, Some(window))
    }

    fn read(
        &mut self,
        body: &[u8],
        number: u64,
        layout: &Layout,
        mut window: Option<&mut Unpacking>,
    ) -> Result<Decoded, DecodeError> {
        let body = Body::parse(body, layout)?;
        let mut decoded = Decoded {
            number,
            digest: *body.digest(),
            verified: false,
            listing: Listing::default(),
            contents: Contents::new(layout.page_size()),
            references: Vec::new(),
        };
        let mut reader = body.records(layout, number);
        while let Some(record) = reader.next() {
            match record? {
                Record::Group(group) => {
                    let raw = self.inflate(&group, window.as_deref_mut())?;
                    for record in reader.group(&group, raw)? {
                        decoded.take(&record?);
                    }
                }
                record => decoded.take(&record),
            }
        }
        decoded.contents.sort();
        decoded.contents.shrink();
        decoded.listing.shrink();
        if !decoded.needs_others() {
            decoded.settle(|_, _| Ok::<_, Unresolvable>(false))?;
            decoded.verify()?;
        }
        Ok(decoded)
    }

    fn inflate(
        &mut self,
        group: &Group<'_>,
        window: Option<&mut Unpacking>,
    ) -> Result<&[u8], DecodeError> {
        let Codec::Zstd = group.codec;
        // The reader has checked the length; were it longer, zstd would find too little room.
        let most = group.raw_len.min(self.raw.len());
        let room = self.raw.get_mut(..most).unwrap_or_default();
        let len = if group.window == 0 {
            self.zstd
                .decompress(room, group.bytes)
                .map_err(|code| DecodeError::Zstd {
                    reason: zstd_safe::get_error_name(code),
                })?
        } else {
            let window = window.ok_or(DecodeError::NoWindow)?;
            window.unpack(group, room).map_err(|why| match why {
                Unpackable::OutOfTurn(turn) => DecodeError::OutOfTurn(turn),
                Unpackable::Zstd(reason) => DecodeError::Zstd { reason },
            })?
        };
        Ok(self.raw.get(..len).unwrap_or_default())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffer holds guest memory.
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// A batch that was read; pages whose content is in other batches are still holes.
#[derive(Debug)]
pub struct Decoded {
    number: u64,
    digest: Digest,
    verified: bool,
    listing: Listing,
    contents: Contents,
    /// In the order of their slots.
    references: Vec<Reference>,
}

/// A page whose content is elsewhere.
#[derive(Debug)]
struct Reference {
    slot: usize,
    origin: Origin,
    /// How long the patch is, 0 for none: no patch is empty.
    patch: usize,
}

impl Decoded {
    /// The batch's number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of memory that it takes, and will take when it is resolved.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.contents.bytes().len() + self.listing.memory()
    }

    /// It names contents of other batches: until [`Mirror::resolve`](crate::Mirror::resolve) it cannot be verified.
    #[must_use]
    pub fn needs_others(&self) -> bool {
        self.references
            .iter()
            .any(|reference| reference.origin.age > 0)
    }

    fn take(&mut self, record: &Record<'_>) {
        match *record {
            Record::Zero { first, run } => {
                // The reader let no run pass that is longer than ZEROS_MAX.
                self.listing
                    .zero(first, u32::try_from(run).unwrap_or(u32::MAX));
            }
            Record::Literal { page, content } => {
                self.contents.push(page, content);
                self.listing.page();
            }
            Record::Planes { page, planes } => {
                self.contents.push_planes(page, planes);
                self.listing.page();
            }
            Record::SameAs { page, origin } => self.refer(page, origin, &[]),
            Record::Delta {
                page,
                origin,
                patch,
            } => self.refer(page, origin, patch.as_bytes()),
            Record::Opaque { channel, bytes } => self.listing.opaque(channel, bytes),
            Record::Barrier => self.listing.barrier(),
            // A reader returns a group as itself only from the body, and there it is inflated.
            Record::Group(_) => {}
        }
    }

    fn refer(&mut self, page: Address, origin: Origin, patch: &[u8]) {
        let slot = self.contents.push_unknown(page, patch);
        self.listing.page();
        self.references.push(Reference {
            slot,
            origin,
            patch: patch.len(),
        });
    }

    /// Fills the holes. `earlier` writes what an earlier batch has for an origin, and says whether there is something.
    pub(crate) fn settle<E: From<Unresolvable>>(
        &mut self,
        mut earlier: impl FnMut(Origin, &mut [u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut patch = Vec::new();
        for reference in self.references.drain(..) {
            let Reference {
                slot,
                origin,
                patch: len,
            } = reference;
            patch.clear();
            patch.extend_from_slice(self.contents.page(slot).get(..len).unwrap_or_default());
            let known = if origin.age == 0 {
                let from = self.contents.last_before(origin.page, slot);
                if let Some(from) = from {
                    self.contents.copy(from, slot);
                }
                from.is_some()
            } else {
                earlier(origin, self.contents.page_mut(slot))?
            };
            if !known {
                let batch = self.number;
                return Err(Unresolvable::Unknown { batch, origin }.into());
            }
            if len > 0 {
                let page_size = self.contents.page_size();
                Patch::parsed(&patch, page_size).apply_over(self.contents.page_mut(slot));
            }
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), Altered> {
        let found = self.listing.digest(&self.contents, self.digest.algorithm);
        Altered::check(self.number, &self.digest, &found)?;
        self.verified = true;
        Ok(())
    }

    /// When all holes are filled.
    pub(crate) fn into_resolved(self) -> Resolved {
        Resolved::new(
            self.number,
            self.digest,
            self.verified,
            self.listing,
            self.contents,
        )
    }
}

/// Why a body was not decoded: each is the peer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// Its bytes are no body.
    Refused(Refused),
    /// A group does not inflate to what it says.
    Zstd {
        /// As zstd says.
        reason: &'static str,
    },
    /// It goes on a window, and it is not its turn there.
    OutOfTurn(OutOfTurn),
    /// It goes on a window, and whoever decodes it gave none.
    NoWindow,
    /// It names a content that it does not have.
    Unresolvable(Unresolvable),
    /// It is not what the peer read.
    Altered(Altered),
}

impl From<Refused> for DecodeError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Unresolvable> for DecodeError {
    fn from(unresolvable: Unresolvable) -> Self {
        Self::Unresolvable(unresolvable)
    }
}

impl From<Altered> for DecodeError {
    fn from(altered: Altered) -> Self {
        Self::Altered(altered)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_) => f.write_str("the peer sent a batch that is not well-formed"),
            Self::Zstd { reason } => {
                write!(
                    f,
                    "the peer sent a group that does not inflate as it says: {reason}"
                )
            }
            Self::OutOfTurn(_) => f.write_str("the peer sent a group whose turn it is not"),
            Self::NoWindow => {
                f.write_str("the peer sent a group that goes on a window where none can")
            }
            Self::Unresolvable(_) => f.write_str("the peer sent a batch that cannot be resolved"),
            Self::Altered(_) => f.write_str("the peer sent a batch that cannot be trusted"),
        }
    }
}

impl core::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Unresolvable(unresolvable) => Some(unresolvable),
            Self::Altered(altered) => Some(altered),
            Self::OutOfTurn(turn) => Some(turn),
            Self::Zstd { .. } | Self::NoWindow => None,
        }
    }
}
