//! What the receiver keeps of the batches before, so that later ones can name it; and a batch once nothing in it is missing.
//!
//! ```text
//!   kept     batch 7   8   9  10  11     the contents of the last `oldest` ones, each at most CONTENT_MAX
//!                          ▲       ▲
//!   batch 12: same-as (page, 3)  (page, 1)  delta (page, 9) ─▶ copied in, patched ─▶ Resolved
//!                                                     │
//!   guest's memory, once pages are placed there ◀─────┘  External: the newest content of a page, however old
//! ```
//!
//! Serial, in the order of batch numbers: it does nothing but look up, copy and patch.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::convert::Infallible;
use core::fmt;

use crate::contents::{Contents, WHOLE_BATCH};
use crate::decoder::Decoded;
use crate::digest::Digest;
use crate::layout::{Address, PageSize};
use crate::listing::{Entry, Listing};
use crate::record::Origin;

/// What earlier batches hold.
#[derive(Debug)]
pub struct Mirror {
    oldest: u64,
    kept: VecDeque<(u64, Arc<Contents>)>,
    /// The lowest number that may come.
    next: u64,
}

impl Mirror {
    /// Has nothing yet. `oldest` is how many batches back both ends agreed to look.
    #[must_use]
    pub const fn new(oldest: u64) -> Self {
        Self {
            oldest,
            kept: VecDeque::new(),
            next: 0,
        }
    }

    /// Copies in what the batch names of others, and keeps what it has for those to come. What is not kept is asked of `external`.
    ///
    /// # Errors
    /// When it comes out of turn, or names what is not there: never sent, or too long ago; and when `external` fails.
    pub fn resolve<X: External>(
        &mut self,
        mut decoded: Decoded,
        external: &mut X,
    ) -> Result<Arc<Resolved>, Unresolved<X::Lost>> {
        let number = decoded.number();
        let next = self.next;
        if number < next {
            return Err(Unresolvable::OutOfTurn { number, next }.into());
        }
        let (kept, oldest) = (&self.kept, self.oldest);
        decoded.settle(|origin, into| {
            // The reader let no age pass that is greater than the number.
            let named = number.saturating_sub(origin.age);
            // When numbers were left out, older batches can still be there.
            if origin.age <= oldest
                && let Some(content) = kept_content(kept, named, origin.page)
            {
                into.copy_from_slice(content);
                return Ok(true);
            }
            external
                .content(origin.page, named, into)
                .map_err(Unresolved::Lost)
        })?;
        self.next = number.saturating_add(1);
        let resolved = decoded.into_resolved();
        if self.oldest > 0 && !resolved.contents.places().is_empty() {
            self.kept
                .push_back((number, Arc::clone(&resolved.contents)));
        }
        // What the next batch cannot name any more.
        while let Some(&(batch, _)) = self.kept.front()
            && self.next - batch > self.oldest
        {
            self.kept.pop_front();
        }
        Ok(Arc::new(resolved))
    }
}

/// What a page got from a batch that is kept.
fn kept_content(kept: &VecDeque<(u64, Arc<Contents>)>, batch: u64, page: Address) -> Option<&[u8]> {
    let at = kept.binary_search_by_key(&batch, |&(number, _)| number);
    let (_, contents) = kept.get(at.ok()?)?;
    let slot = contents.last_before(page, WHOLE_BATCH)?;
    Some(contents.page(slot))
}

/// Where else contents are that a batch may name: in the guest's memory, once pages are placed there.
///
/// It is asked in the order of batches, for one after the other: everything of the batches before the one at hand, and nothing of that one or
/// those behind it, is what it answers from. The mirror keeps what was agreed on all the same: placing may come to its end.
pub trait External {
    /// Why a content cannot be read that is there.
    type Lost;

    /// Writes the content that a page got from a batch, if that is the page's newest and it is here.
    ///
    /// # Errors
    /// When it is here and cannot be read.
    fn content(&mut self, page: Address, batch: u64, into: &mut [u8]) -> Result<bool, Self::Lost>;
}

/// Nothing is anywhere else: all pages travel on in QEMU's stream.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl External for Nowhere {
    type Lost = Infallible;

    fn content(&mut self, _: Address, _: u64, _: &mut [u8]) -> Result<bool, Infallible> {
        Ok(false)
    }
}

/// A batch with all that it puts into the guest.
#[derive(Debug)]
pub struct Resolved {
    number: u64,
    digest: Digest,
    verified: bool,
    listing: Listing,
    /// Shared with the mirror.
    contents: Arc<Contents>,
}

impl Resolved {
    pub(crate) fn new(
        number: u64,
        digest: Digest,
        verified: bool,
        listing: Listing,
        contents: Contents,
    ) -> Self {
        Self {
            number,
            digest,
            verified,
            listing,
            contents: Arc::new(contents),
        }
    }

    /// The batch's number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The digest was compared when the batch was decoded: [`Resolved::verify`] costs nothing.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.verified
    }

    /// Compares the digest over its pages with what the source says. Nothing of the batch may be used before.
    ///
    /// # Errors
    /// When they differ.
    pub fn verify(&self) -> Result<(), Altered> {
        if self.verified {
            return Ok(());
        }
        let found = self.listing.digest(&self.contents, self.digest.algorithm);
        Altered::check(self.number, &self.digest, &found)
    }

    /// What it says, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.listing.entries(&self.contents)
    }

    /// The pages in it and how many follow each, in order.
    pub fn addresses(&self) -> impl Iterator<Item = (Address, u64)> {
        self.listing.addresses(&self.contents)
    }

    /// The guest's page size.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.contents.page_size()
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.content_len() + self.listing.memory()
    }

    /// Bytes of its pages that are not zero.
    #[must_use]
    pub fn content_len(&self) -> usize {
        self.contents.bytes().len()
    }

    /// What its pages hold that are not zero, back to back in their order: to be written many at a time.
    #[must_use]
    pub fn contents(&self) -> &[u8] {
        self.contents.bytes()
    }

    /// Its opaque bytes.
    #[must_use]
    pub fn opaque_len(&self) -> usize {
        self.listing.opaque_len()
    }
}

/// Why a batch was not resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unresolved<L> {
    /// It cannot be.
    Unresolvable(Unresolvable),
    /// What it names is not in the mirror, and cannot be read from where it is.
    Lost(L),
}

impl<L> From<Unresolvable> for Unresolved<L> {
    fn from(unresolvable: Unresolvable) -> Self {
        Self::Unresolvable(unresolvable)
    }
}

impl From<Unresolved<Infallible>> for Unresolvable {
    fn from(unresolved: Unresolved<Infallible>) -> Self {
        match unresolved {
            Unresolved::Unresolvable(unresolvable) => unresolvable,
            Unresolved::Lost(never) => match never {},
        }
    }
}

impl<L> fmt::Display for Unresolved<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolvable(_) => "the peer sent a batch that cannot be resolved",
            Self::Lost(_) => "what a batch names cannot be read back from the guest's memory",
        })
    }
}

impl<L: core::error::Error + 'static> core::error::Error for Unresolved<L> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unresolvable(unresolvable) => Some(unresolvable),
            Self::Lost(lost) => Some(lost),
        }
    }
}

/// Why a batch cannot be resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unresolvable {
    /// It names a content that is not there: the peer's fault.
    Unknown {
        /// The batch that names it.
        batch: u64,
        /// What it names.
        origin: Origin,
    },
    /// Batches are resolved in the order of their numbers: this host's fault.
    OutOfTurn {
        /// The batch that came.
        number: u64,
        /// The lowest that could have.
        next: u64,
    },
}

impl fmt::Display for Unresolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { batch, origin } => write!(
                f,
                "batch {batch} names page {} of block {}, {} batches back: the peer has not sent that content, or it is no longer kept",
                origin.page.page, origin.page.block, origin.age
            ),
            Self::OutOfTurn { number, next } => write!(
                f,
                "this host resolved batch {number} out of turn: expected {next} or later"
            ),
        }
    }
}

impl core::error::Error for Unresolvable {}

/// The pages of a batch are not those that the source read: the peer's fault, or that of a fault in memory at either end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Altered {
    /// The batch.
    pub number: u64,
}

impl Altered {
    pub(crate) fn check(number: u64, expected: &Digest, found: &Digest) -> Result<(), Self> {
        if expected == found {
            Ok(())
        } else {
            Err(Self { number })
        }
    }
}

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pages of batch {} are not what the source read: their digest differs",
            self.number
        )
    }
}

impl core::error::Error for Altered {}
