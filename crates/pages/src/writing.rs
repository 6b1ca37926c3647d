//! Writes the records of a draft, in order, into whatever takes records: pages as they are or named, words with their bytes taken apart.

use core::iter::Peekable;
use core::slice::Iter;

use crate::draft::{Draft, Reference};
use crate::kind::Kind;
use crate::layout::Address;
use crate::listing::{Entries, Entry};
use crate::patch::Patch;
use crate::planes;
use crate::record::Record;
use crate::tally::{Share, Tally};
use crate::writer::{BodyWriter, GroupWriter, Unwritable};

/// What records go into: a body or a group.
pub(crate) trait Records {
    fn append(&mut self, record: &Record<'_>) -> Result<(), Unwritable>;
    fn len(&self) -> usize;
}

impl Records for BodyWriter<'_, '_> {
    fn append(&mut self, record: &Record<'_>) -> Result<(), Unwritable> {
        self.append(record)
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl Records for GroupWriter<'_, '_, '_> {
    fn append(&mut self, record: &Record<'_>) -> Result<(), Unwritable> {
        self.append(record)
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// Writes the records of a draft, in order.
#[derive(Clone)]
pub(crate) struct Writing<'a> {
    draft: &'a Draft,
    entries: Peekable<Entries<'a>>,
    references: Peekable<Iter<'a, Reference>>,
    /// Of the next page.
    slot: usize,
}

impl<'a> Writing<'a> {
    pub(crate) fn of(draft: &'a Draft) -> Self {
        Self {
            draft,
            entries: draft.listing().entries(draft.contents()).peekable(),
            references: draft.references().iter().peekable(),
            slot: 0,
        }
    }

    /// Goes on up to a slot, or to the end. `planes` is a page's room.
    pub(crate) fn write(
        &mut self,
        until: usize,
        records: &mut impl Records,
        tally: &mut Tally,
        planes: &mut [u8],
    ) -> Result<(), Unwritable> {
        let page_size = planes.len() as u64;
        let slot = &mut self.slot;
        while let Some(entry) = self
            .entries
            .next_if(|entry| *slot < until || !matches!(entry, Entry::Page { .. }))
        {
            let before = records.len();
            let (share, pages) = match entry {
                Entry::Zero { first, run, .. } => {
                    records.append(&Record::Zero { first, run })?;
                    (&mut tally.zero, run)
                }
                Entry::Page { at, content, .. } => {
                    let reference = self.references.next_if(|named| named.slot == *slot);
                    let words = self.draft.kind(*slot) == Some(Kind::Words);
                    *slot += 1;
                    let share = match reference {
                        Some(reference) => name(records, at, reference, self.draft, tally)?,
                        None if words => {
                            planes::apart(content, planes);
                            records.append(&Record::Planes { page: at, planes })?;
                            &mut tally.literal
                        }
                        None => {
                            records.append(&Record::Literal { page: at, content })?;
                            &mut tally.literal
                        }
                    };
                    (share, 1)
                }
                Entry::Opaque { channel, bytes } => {
                    records.append(&Record::Opaque { channel, bytes })?;
                    tally.opaque_bytes += bytes.len() as u64;
                    continue;
                }
                Entry::Barrier => {
                    records.append(&Record::Barrier)?;
                    continue;
                }
            };
            share.pages += pages;
            share.bytes += (records.len() - before) as u64;
            tally.memory_bytes += pages * page_size;
        }
        Ok(())
    }
}

/// Names a page, and says what its record counts to.
fn name<'t>(
    records: &mut impl Records,
    page: Address,
    reference: &Reference,
    draft: &Draft,
    tally: &'t mut Tally,
) -> Result<&'t mut Share, Unwritable> {
    let Reference { origin, patch, .. } = reference;
    let origin = *origin;
    let Some(patch) = patch.clone() else {
        records.append(&Record::SameAs { page, origin })?;
        return Ok(&mut tally.same_as);
    };
    let patch = Patch::parsed(draft.patch(patch), draft.contents().page_size());
    records.append(&Record::Delta {
        page,
        origin,
        patch,
    })?;
    Ok(&mut tally.delta)
}
