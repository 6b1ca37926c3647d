//! The body of a batch: the digest in front, the records behind it.
//!
//! ```text
//!  0           1                      33
//!  +-----------+----------------------+----------+--
//!  | algorithm | digest value         | records  | …
//!  +-----------+----------------------+----------+--
//! ```

use core::fmt;

use crate::cursor::Cursor;
use crate::digest::{Algorithm, DIGEST_LEN, Digest};
use crate::layout::Layout;
use crate::reader::Reader;
use crate::record::{Group, Record};
use crate::redacted::Redacted;
use crate::refusal::{Refusal, Refused};
use crate::window::Place;

/// The longest body: 1 MiB of guest memory, and a sixteenth for what describes it.
pub const BODY_MAX: usize = (1 << 20) + (1 << 16);
/// The most records, in bytes, that a group may hold: as much as a body, since a batch may be a single group.
pub const GROUP_MAX: usize = BODY_MAX;
/// Where the records begin.
pub(crate) const HEADER_LEN: usize = 1 + DIGEST_LEN;

/// A body that was opened and split; its records are not read yet.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Body<'a> {
    digest: Digest,
    records: &'a [u8],
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("digest", &self.digest)
            .field("records", &Redacted(self.records))
            .finish()
    }
}

impl<'a> Body<'a> {
    /// Splits an opened body.
    ///
    /// # Errors
    /// When it is longer than [`BODY_MAX`], shorter than its header, or names another digest algorithm than the agreed one.
    pub fn parse(bytes: &'a [u8], layout: &Layout) -> Result<Self, Refused> {
        if bytes.len() > BODY_MAX {
            return Err(Refusal::BodyTooLong { found: bytes.len() }.at(0));
        }
        let mut cursor = Cursor::new(bytes, 0);
        let number = cursor.byte("digest algorithm")?;
        let Some(algorithm) = Algorithm::from_wire(number) else {
            return Err(Refusal::UnknownDigest { found: number }.at(0));
        };
        let agreed = layout.agreed().check_digest(algorithm);
        agreed.map_err(|refusal| refusal.at(0))?;
        let mut value = [0; DIGEST_LEN];
        value.copy_from_slice(cursor.take(DIGEST_LEN as u64, "digest value")?);
        Ok(Self {
            digest: Digest { algorithm, value },
            records: &bytes[HEADER_LEN..],
        })
    }

    /// What the sender says the digest over the batch's pages is.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The window that batch number `batch` goes on, and its slot there, if a group of it names one. What is refused behind that group, or before it,
    /// is for [`Self::records`] to say.
    #[must_use]
    pub fn window(&self, layout: &Layout, batch: u64) -> Option<Place> {
        if layout.agreed().windows == 0 {
            return None;
        }
        let groups = self.records(layout, batch).map_while(Result::ok);
        groups
            .filter_map(|record| match record {
                Record::Group(Group { window, slot, .. }) if window > 0 => {
                    Some(Place { window, slot })
                }
                _ => None,
            })
            .next()
    }

    /// Reads the records of batch number `batch`.
    #[must_use]
    pub const fn records<'l>(&self, layout: &'l Layout, batch: u64) -> Reader<'a, 'l> {
        Reader::new(self.records, layout, batch)
    }
}
