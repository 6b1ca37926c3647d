//! What one batch may still ask for. A few bytes can name a whole page, a run of pages or a long group; without a bound
//! on their sum a small batch would be hours of work.

use crate::body::BODY_MAX;
use crate::record::Record;
use crate::refusal::Refusal;

/// Guest memory that the literal, same-as and delta records of a batch may put, those in its groups included: what a
/// batch is sized for.
pub const CONTENT_MAX: u64 = 1 << 20;
/// Pages that the zero records of a batch may put: 1 GiB of the smallest pages, 20 ms of a core that clears them.
pub const ZEROS_MAX: u64 = 1 << 18;
/// Bytes that the groups of a batch may inflate to, all together: what one group may, since a batch may be one group.
pub const RAW_MAX: usize = BODY_MAX;

/// What is left of the three.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Budget {
    content: u64,
    zeros: u64,
    raw: usize,
}

impl Budget {
    /// A batch's, before its first record.
    pub(crate) const WHOLE: Self = Self {
        content: CONTENT_MAX,
        zeros: ZEROS_MAX,
        raw: RAW_MAX,
    };

    /// Pays for the content of a page.
    #[inline]
    pub(crate) fn content(&mut self, page_size: usize) -> Result<(), Refusal> {
        let (found, left) = (page_size as u64, self.content);
        self.content = left
            .checked_sub(found)
            .ok_or(Refusal::TooMuchContent { found, left })?;
        Ok(())
    }

    /// Pays for a run of zeros.
    pub(crate) fn zeros(&mut self, run: u64) -> Result<(), Refusal> {
        let left = self.zeros;
        self.zeros = left
            .checked_sub(run)
            .ok_or(Refusal::TooManyZeros { run, left })?;
        Ok(())
    }

    /// Pays for inflating a group.
    pub(crate) fn raw(&mut self, found: usize) -> Result<(), Refusal> {
        let left = self.raw;
        self.raw = left
            .checked_sub(found)
            .ok_or(Refusal::TooMuchRaw { found, left })?;
        Ok(())
    }

    /// What is left for groups.
    pub(crate) const fn raw_left(&self) -> usize {
        self.raw
    }

    /// Pays for a record.
    pub(crate) fn record(&mut self, record: &Record<'_>, page_size: usize) -> Result<(), Refusal> {
        match record {
            Record::Zero { run, .. } => self.zeros(*run),
            Record::Literal { .. } | Record::SameAs { .. } | Record::Delta { .. } => {
                self.content(page_size)
            }
            Record::Group(group) => self.raw(group.raw_len),
            Record::Opaque { .. } | Record::Barrier => Ok(()),
        }
    }
}
