//! Appends records to a caller's buffer, each in its one form.
//!
//! The writer refuses what a reader would refuse, and says when a batch is full; a record that is not appended
//! leaves the buffer as it was.

use alloc::vec::Vec;
use core::fmt;

use crate::body::{BODY_MAX, HEADER_LEN};
use crate::budget::Budget;
use crate::digest::Digest;
use crate::layout::{Address, Layout};
use crate::patch::WrongLength;
use crate::reader::{check_origin, check_raw_len, check_slot, check_window, reaches};
use crate::record::{Group, Origin, Record, addressing, kind};
use crate::redacted::Redacted;
use crate::refusal::Refusal;
use crate::varint;

/// Writes the body of a batch.
#[derive(Debug)]
pub struct BodyWriter<'b, 'l> {
    records: Records<'b, 'l>,
    budget: Budget,
}

impl<'b, 'l> BodyWriter<'b, 'l> {
    /// Begins the body of batch number `batch` at the end of `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>, layout: &'l Layout, batch: u64) -> Self {
        let start = buffer.len();
        buffer.resize(start + HEADER_LEN, 0);
        Self {
            records: Records {
                buffer,
                start,
                max: BODY_MAX,
                layout,
                batch,
                last: None,
            },
            budget: Budget::WHOLE,
        }
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Unwritable::Full`] when the batch has no room left for it, [`Unwritable::Spent`] when it would be more work
    /// than a batch may be; the others are a wrong use.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), Unwritable> {
        self.records.append(record, &mut self.budget)
    }

    /// Begins a group at the end of `buffer`, to be compressed and then appended as [`Record::Group`]. What is put into
    /// it counts towards what the batch may put; [`GroupWriter::discard`] takes it back.
    pub fn group<'g>(&mut self, buffer: &'g mut Vec<u8>) -> GroupWriter<'g, '_, 'l> {
        let start = buffer.len();
        GroupWriter {
            records: Records {
                buffer,
                start,
                // At most GROUP_MAX: what the batch's groups may inflate to together.
                max: self.budget.raw_left(),
                layout: self.records.layout,
                batch: self.records.batch,
                last: None,
            },
            before: self.budget,
            budget: &mut self.budget,
        }
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// No record was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER_LEN
    }

    /// Ends the body with the digest over its pages.
    ///
    /// # Errors
    /// When it was made another way than was agreed on.
    pub fn finish(self, digest: &Digest) -> Result<(), Unwritable> {
        let Records {
            buffer,
            start,
            layout,
            ..
        } = self.records;
        layout.agreed().check_digest(digest.algorithm)?;
        buffer[start] = digest.algorithm.to_wire();
        buffer[start + 1..start + HEADER_LEN].copy_from_slice(&digest.value);
        Ok(())
    }
}

/// Writes the records of a group, to be compressed afterwards.
#[derive(Debug)]
pub struct GroupWriter<'b, 'w, 'l> {
    records: Records<'b, 'l>,
    /// The batch's.
    budget: &'w mut Budget,
    /// What it was before this group.
    before: Budget,
}

impl GroupWriter<'_, '_, '_> {
    /// Appends a record.
    ///
    /// # Errors
    /// [`Unwritable::Full`] when the group has no room left for it, [`Unwritable::Spent`] when it would be more work
    /// than a batch may be; the others are a wrong use.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), Unwritable> {
        if matches!(record, Record::Group(_)) {
            return Err(Refusal::NestedGroup.into());
        }
        self.records.append(record, self.budget)
    }

    /// The group will not be sent: the buffer is what it was, and so is what the batch may still put.
    pub fn discard(self) {
        let Records { buffer, start, .. } = self.records;
        buffer.truncate(start);
        *self.budget = self.before;
    }

    /// The group so far.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.records.buffer[self.records.start..]
    }

    /// Bytes of the group so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// No record was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What both have in common.
struct Records<'b, 'l> {
    buffer: &'b mut Vec<u8>,
    /// Where in the buffer the body or group begins.
    start: usize,
    /// How long it may become.
    max: usize,
    layout: &'l Layout,
    batch: u64,
    last: Option<Address>,
}

impl fmt::Debug for Records<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("buffer", &Redacted(self.buffer))
            .field("start", &self.start)
            .field("max", &self.max)
            .field("batch", &self.batch)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Records<'_, '_> {
    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn append(&mut self, record: &Record<'_>, budget: &mut Budget) -> Result<(), Unwritable> {
        // Checked first: a payload that cannot fit must not make the buffer grow.
        let room = self.max - self.len();
        let payload = payload(record);
        if payload.len() >= room {
            return Err(Unwritable::Full { room });
        }
        let before = self.buffer.len();
        let written = self.head(record).and_then(|last| {
            let needed = self.buffer.len() - before + payload.len();
            if needed > room {
                return Err(Unwritable::Full { room });
            }
            // Last, so that only a record that is appended is paid for.
            let page_size = self.layout.page_size().bytes();
            budget
                .record(record, page_size)
                .map_err(Unwritable::Spent)?;
            Ok(last)
        });
        match written {
            Ok(last) => {
                self.buffer.extend_from_slice(payload);
                self.last = last;
                Ok(())
            }
            Err(error) => {
                self.buffer.truncate(before);
                Err(error)
            }
        }
    }

    /// Writes all of a record but its payload; returns where relative addresses start from behind it.
    fn head(&mut self, record: &Record<'_>) -> Result<Option<Address>, Unwritable> {
        match *record {
            Record::Zero { first, run } => {
                let more = run.checked_sub(1).ok_or(Unwritable::EmptyRun)?;
                let last = self.layout.check_run(first, more)?;
                self.page(kind::ZERO, first)?;
                self.varint(more);
                Ok(Some(last))
            }
            Record::Literal { page, content } => {
                self.whole_page(content.len())?;
                self.page(kind::LITERAL, page)?;
                Ok(Some(page))
            }
            Record::Planes { page, planes } => {
                self.whole_page(planes.len())?;
                self.page(kind::PLANES, page)?;
                Ok(Some(page))
            }
            Record::SameAs { page, origin } => {
                self.page(kind::SAME_AS, page)?;
                self.origin(origin, page)?;
                Ok(Some(page))
            }
            Record::Delta {
                page,
                origin,
                patch,
            } => {
                self.whole_page(patch.page_size())?;
                self.page(kind::DELTA, page)?;
                self.origin(origin, page)?;
                self.varint(patch.as_bytes().len() as u64);
                Ok(Some(page))
            }
            Record::Opaque { channel, bytes } => {
                if bytes.is_empty() {
                    return Err(Refusal::EmptyOpaque.into());
                }
                self.buffer.push(kind::OPAQUE);
                self.varint(channel.into());
                self.varint(bytes.len() as u64);
                Ok(self.last)
            }
            Record::Barrier => {
                self.buffer.push(kind::BARRIER);
                Ok(self.last)
            }
            Record::Group(group) => {
                self.group(&group)?;
                Ok(None)
            }
        }
    }

    fn group(&mut self, group: &Group<'_>) -> Result<(), Unwritable> {
        let agreed = self.layout.agreed();
        agreed.check_codec(group.codec)?;
        check_window(group.window, agreed.windows)?;
        check_slot(group.slot, group.window)?;
        check_raw_len(group.raw_len as u64)?;
        if group.bytes.is_empty() {
            return Err(Refusal::EmptyGroup.into());
        }
        self.buffer
            .extend_from_slice(&[kind::GROUP, group.codec.to_wire()]);
        self.varint(group.slot);
        self.varint(group.window);
        self.varint(group.raw_len as u64);
        self.varint(group.bytes.len() as u64);
        Ok(())
    }

    /// The tag and the shortest way to the page.
    #[inline]
    fn page(&mut self, kind: u8, page: Address) -> Result<(), Unwritable> {
        self.layout.check_page(page)?;
        match self.last {
            Some(last) if reaches(last, page) => match page.page - last.page - 1 {
                0 => self.buffer.push(kind | addressing::NEXT),
                passed => {
                    self.buffer.push(kind | addressing::FURTHER);
                    self.varint(passed);
                }
            },
            _ => {
                self.buffer.push(kind | addressing::ANYWHERE);
                self.anywhere(page);
            }
        }
        Ok(())
    }

    fn origin(&mut self, origin: Origin, page: Address) -> Result<(), Unwritable> {
        self.layout.check_page(origin.page)?;
        check_origin(origin, Some(page), self.batch)?;
        self.anywhere(origin.page);
        self.varint(origin.age);
        Ok(())
    }

    fn anywhere(&mut self, page: Address) {
        self.varint(page.block.into());
        self.varint(page.page);
    }

    fn whole_page(&self, found: usize) -> Result<(), Unwritable> {
        WrongLength::check(self.layout.page_size().bytes(), found).map_err(Unwritable::Page)
    }

    fn varint(&mut self, value: u64) {
        varint::encode(value, self.buffer);
    }
}

/// The bytes that a record ends with and that are not its own numbers.
fn payload<'a>(record: &Record<'a>) -> &'a [u8] {
    match *record {
        Record::Literal { content, .. } => content,
        Record::Planes { planes, .. } => planes,
        Record::Delta { patch, .. } => patch.as_bytes(),
        Record::Opaque { bytes, .. } => bytes,
        Record::Group(group) => group.bytes,
        Record::Zero { .. } | Record::SameAs { .. } | Record::Barrier => &[],
    }
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unwritable {
    /// The batch or group has no room for it: end this one and begin the next. In an empty one it means that the record
    /// is too long for any.
    Full {
        /// Bytes that are left.
        room: usize,
    },
    /// The record fits, but the batch may not be more work: end this one and begin the next. In an empty one it means a
    /// run of zeros that has to be several.
    Spent(Refusal),
    /// A run of no pages.
    EmptyRun,
    /// A literal, or the page that a patch is for, of another size than the layout's.
    Page(WrongLength),
    /// Something that each reader refuses.
    Refused(Refusal),
}

impl From<Refusal> for Unwritable {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { room } => {
                write!(f, "the record does not fit the {room} bytes that are left")
            }
            Self::Spent(_) => f.write_str("the batch may not put more"),
            Self::EmptyRun => f.write_str("a run of zero pages has at least one page"),
            Self::Page(_) => f.write_str("the record's content is not a page"),
            Self::Refused(_) => f.write_str("the peer would refuse the record"),
        }
    }
}

impl core::error::Error for Unwritable {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Page(wrong) => Some(wrong),
            Self::Refused(refusal) | Self::Spent(refusal) => Some(refusal),
            Self::Full { .. } | Self::EmptyRun => None,
        }
    }
}
