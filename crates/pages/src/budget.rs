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
/// [`CONTENT_MAX`] as a length of what is in memory.
pub(crate) const CONTENT_BYTES: usize = 1 << 20;
const _: () = assert!(CONTENT_BYTES as u64 == CONTENT_MAX);
/// Records that a batch may have, its groups and those in them included: what is kept of each costs 16 bytes, and a barrier takes one on
/// the wire. A batch of nothing but the smallest pages has 256 with content, so this leaves 63 runs of zeros for each of them.
pub const RECORDS_MAX: usize = 1 << 14;
/// Bytes that the groups of a batch may inflate to, all together: what one group may, since a batch may be one group.
pub const RAW_MAX: usize = BODY_MAX;

/// What is left of the five.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Budget {
    content: u64,
    zeros: u64,
    raw: usize,
    records: usize,
    /// Groups that may name a window.
    windowed: u8,
}

impl Budget {
    /// A batch's, before its first record.
    pub(crate) const WHOLE: Self = Self {
        content: CONTENT_MAX,
        zeros: ZEROS_MAX,
        raw: RAW_MAX,
        records: RECORDS_MAX,
        windowed: 1,
    };

    /// Pays for a record, whichever it is.
    #[inline]
    pub(crate) fn another(&mut self) -> Result<(), Refusal> {
        self.records = self.records.checked_sub(1).ok_or(Refusal::TooManyRecords)?;
        Ok(())
    }

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

    /// Pays for a group's window. With two in one batch, batches could wait for each other in a circle.
    pub(crate) fn window(&mut self, window: u64) -> Result<(), Refusal> {
        if window > 0 {
            let left = self.windowed.checked_sub(1);
            self.windowed = left.ok_or(Refusal::SecondWindow)?;
        }
        Ok(())
    }

    /// What is left for groups.
    pub(crate) const fn raw_left(&self) -> usize {
        self.raw
    }

    /// Pays for a record, or for nothing.
    pub(crate) fn record(&mut self, record: &Record<'_>, page_size: usize) -> Result<(), Refusal> {
        let mut after = *self;
        after.another()?;
        match record {
            Record::Zero { run, .. } => after.zeros(*run)?,
            Record::Literal { .. }
            | Record::Planes { .. }
            | Record::SameAs { .. }
            | Record::Delta { .. } => {
                after.content(page_size)?;
            }
            Record::Group(group) => {
                after.window(group.window)?;
                after.raw(group.raw_len)?;
            }
            Record::Opaque { .. } | Record::Barrier => {}
        }
        *self = after;
        Ok(())
    }
}
