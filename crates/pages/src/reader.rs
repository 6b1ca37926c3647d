//! Reads records off the bytes of a body or of an inflated group.
//!
//! Nothing is copied and nothing is allocated: a literal page costs its tag, an address that is most often empty,
//! and a bounds check.

use core::iter::FusedIterator;

use crate::body::{GROUP_MAX, HEADER_LEN};
use crate::budget::Budget;
use crate::cursor::Cursor;
use crate::layout::{Address, Layout};
use crate::patch::Patch;
use crate::record::{Codec, Group, Origin, Record, addressing, kind};
use crate::refusal::{Refusal, Refused};

/// The records of a batch, in order. Ends with the first one that is refused.
#[derive(Clone, Debug)]
pub struct Reader<'a, 'l> {
    records: Records<'a, 'l>,
    budget: Budget,
}

impl<'a, 'l> Reader<'a, 'l> {
    pub(crate) const fn new(records: &'a [u8], layout: &'l Layout, batch: u64) -> Self {
        Self {
            records: Records {
                cursor: Cursor::new(records, HEADER_LEN),
                layout,
                batch,
                scope: Scope::Body,
                last: None,
            },
            budget: Budget::WHOLE,
        }
    }

    /// Reads the records that `group`, which this reader has just returned, inflated to. They count towards what the
    /// batch may put, so the batch goes on behind them. Offsets in errors count from the group's own beginning.
    ///
    /// # Errors
    /// When the length is another than the group named.
    pub fn group<'g>(
        &mut self,
        group: &Group<'_>,
        inflated: &'g [u8],
    ) -> Result<GroupReader<'g, '_, 'l>, Refused> {
        let (expected, found) = (group.raw_len, inflated.len());
        if expected != found {
            return Err(Refusal::OtherRawLength { expected, found }.at(0));
        }
        check_raw_len(found as u64).map_err(|refusal| refusal.at(0))?;
        Ok(GroupReader {
            records: Records {
                cursor: Cursor::new(inflated, 0),
                layout: self.records.layout,
                batch: self.records.batch,
                scope: Scope::Group,
                last: None,
            },
            budget: &mut self.budget,
        })
    }
}

impl<'a> Iterator for Reader<'a, '_> {
    type Item = Result<Record<'a>, Refused>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next(&mut self.budget)
    }
}

impl FusedIterator for Reader<'_, '_> {}

/// The records of a group, in order. Ends with the first one that is refused.
#[derive(Debug)]
pub struct GroupReader<'a, 'r, 'l> {
    records: Records<'a, 'l>,
    /// The batch's.
    budget: &'r mut Budget,
}

impl<'a> Iterator for GroupReader<'a, '_, '_> {
    type Item = Result<Record<'a>, Refused>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next(self.budget)
    }
}

impl FusedIterator for GroupReader<'_, '_, '_> {}

/// What both have in common.
#[derive(Clone, Debug)]
struct Records<'a, 'l> {
    cursor: Cursor<'a>,
    layout: &'l Layout,
    batch: u64,
    scope: Scope,
    /// The last page of the previous page record, which relative addresses start from.
    last: Option<Address>,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Body,
    Group,
}

impl<'a> Records<'a, '_> {
    #[inline]
    fn next(&mut self, budget: &mut Budget) -> Option<Result<Record<'a>, Refused>> {
        if self.cursor.is_empty() {
            return None;
        }
        let record = self.record(budget);
        if record.is_err() {
            self.cursor.exhaust();
        }
        Some(record)
    }

    fn record(&mut self, budget: &mut Budget) -> Result<Record<'a>, Refused> {
        let at = self.cursor.offset();
        let tag = self.cursor.byte("tag")?;
        budget.another().map_err(|refusal| refusal.at(at))?;
        match tag & 0xf0 {
            kind::ZERO => self.zero(tag, at, budget),
            kind::LITERAL => {
                let page = self.filled_page(tag, at, budget)?;
                let size = self.layout.page_size().bytes() as u64;
                Ok(Record::Literal {
                    page,
                    content: self.cursor.take(size, "page")?,
                })
            }
            kind::PLANES => {
                let page = self.filled_page(tag, at, budget)?;
                let size = self.layout.page_size().bytes() as u64;
                Ok(Record::Planes {
                    page,
                    planes: self.cursor.take(size, "planes")?,
                })
            }
            kind::SAME_AS => Ok(Record::SameAs {
                page: self.filled_page(tag, at, budget)?,
                origin: self.origin()?,
            }),
            kind::DELTA => self.delta(tag, at, budget),
            kind::OPAQUE => self.opaque(tag, at),
            kind::BARRIER => {
                unaddressed(tag, at)?;
                Ok(Record::Barrier)
            }
            kind::GROUP => self.compressed(tag, at, budget),
            _ => Err(Refusal::UnknownRecord { tag }.at(at)),
        }
    }

    fn zero(&mut self, tag: u8, at: usize, budget: &mut Budget) -> Result<Record<'a>, Refused> {
        let first = self.page(tag, at)?;
        let run_at = self.cursor.offset();
        let more = self.cursor.varint("run")?;
        let last = self
            .layout
            .check_run(first, more)
            .map_err(|refusal| refusal.at(run_at))?;
        let run = last.page - first.page + 1;
        budget.zeros(run).map_err(|refusal| refusal.at(run_at))?;
        self.last = Some(last);
        Ok(Record::Zero { first, run })
    }

    fn delta(&mut self, tag: u8, at: usize, budget: &mut Budget) -> Result<Record<'a>, Refused> {
        let page = self.filled_page(tag, at, budget)?;
        let origin = self.origin()?;
        let len_at = self.cursor.offset();
        let len = self.cursor.varint("patch length")?;
        let page_size = self.layout.page_size();
        if len >= page_size.bytes() as u64 {
            return Err(Refusal::PatchTooLong {
                found: len,
                page_size: page_size.bytes(),
            }
            .at(len_at));
        }
        let patch_at = self.cursor.offset();
        let bytes = self.cursor.take(len, "patch")?;
        Ok(Record::Delta {
            page,
            origin,
            patch: Patch::parse_at(bytes, page_size, patch_at)?,
        })
    }

    fn opaque(&mut self, tag: u8, at: usize) -> Result<Record<'a>, Refused> {
        unaddressed(tag, at)?;
        let channel_at = self.cursor.offset();
        let channel = self.cursor.varint("channel")?;
        let Ok(channel) = u16::try_from(channel) else {
            return Err(Refusal::UnknownChannel { found: channel }.at(channel_at));
        };
        let len_at = self.cursor.offset();
        let len = self.cursor.varint("opaque length")?;
        if len == 0 {
            return Err(Refusal::EmptyOpaque.at(len_at));
        }
        Ok(Record::Opaque {
            channel,
            bytes: self.cursor.take(len, "opaque bytes")?,
        })
    }

    fn compressed(
        &mut self,
        tag: u8,
        at: usize,
        budget: &mut Budget,
    ) -> Result<Record<'a>, Refused> {
        unaddressed(tag, at)?;
        if self.scope == Scope::Group {
            return Err(Refusal::NestedGroup.at(at));
        }
        let codec_at = self.cursor.offset();
        let number = self.cursor.byte("codec")?;
        let codec = Codec::from_wire(number)
            .ok_or_else(|| Refusal::UnknownCodec { found: number }.at(codec_at))?;
        let agreed = self.layout.agreed();
        agreed
            .check_codec(codec)
            .map_err(|refusal| refusal.at(codec_at))?;
        let slot_at = self.cursor.offset();
        let slot = self.cursor.varint("slot")?;
        let window_at = self.cursor.offset();
        let window = self.cursor.varint("window")?;
        check_window(window, agreed.windows).map_err(|refusal| refusal.at(window_at))?;
        check_slot(slot, window).map_err(|refusal| refusal.at(slot_at))?;
        budget
            .window(window)
            .map_err(|refusal| refusal.at(window_at))?;
        let raw_at = self.cursor.offset();
        let raw_len = self.cursor.varint("raw length")?;
        let raw_len = check_raw_len(raw_len).map_err(|refusal| refusal.at(raw_at))?;
        budget.raw(raw_len).map_err(|refusal| refusal.at(raw_at))?;
        let len_at = self.cursor.offset();
        let len = self.cursor.varint("group length")?;
        if len == 0 {
            return Err(Refusal::EmptyGroup.at(len_at));
        }
        let bytes = self.cursor.take(len, "group bytes")?;
        self.last = None;
        Ok(Record::Group(Group {
            codec,
            slot,
            window,
            raw_len,
            bytes,
        }))
    }

    /// The address of a page that gets a content.
    #[inline]
    fn filled_page(&mut self, tag: u8, at: usize, budget: &mut Budget) -> Result<Address, Refused> {
        let page = self.page(tag, at)?;
        let page_size = self.layout.page_size().bytes();
        budget
            .content(page_size)
            .map_err(|refusal| refusal.at(at))?;
        Ok(page)
    }

    /// The address of the page that a record is for.
    #[inline]
    fn page(&mut self, tag: u8, at: usize) -> Result<Address, Refused> {
        let address = match (tag & 0x0f, self.last) {
            (addressing::NEXT, Some(last)) => {
                following(last, 0).map_err(|refusal| refusal.at(at))?
            }
            (addressing::FURTHER, Some(last)) => {
                let passed_at = self.cursor.offset();
                let passed = self.cursor.varint("pages passed over")?;
                if passed == 0 {
                    return Err(Refusal::NothingPassedOver.at(passed_at));
                }
                following(last, passed).map_err(|refusal| refusal.at(passed_at))?
            }
            (addressing::ANYWHERE, last) => {
                let address = self.anywhere()?;
                if last.is_some_and(|last| reaches(last, address)) {
                    return Err(Refusal::LongAddress { tag }.at(at));
                }
                address
            }
            (addressing::NEXT | addressing::FURTHER, None) => {
                return Err(Refusal::NoPageBefore { tag }.at(at));
            }
            _ => return Err(Refusal::UnknownAddressing { tag }.at(at)),
        };
        self.layout
            .check_page(address)
            .map_err(|refusal| refusal.at(at))?;
        self.last = Some(address);
        Ok(address)
    }

    /// Where the content of the last page, whose address was just read, comes from.
    fn origin(&mut self) -> Result<Origin, Refused> {
        let page = self.anywhere()?;
        let age_at = self.cursor.offset();
        let age = self.cursor.varint("age")?;
        let origin = Origin { page, age };
        check_origin(origin, self.last, self.batch).map_err(|refusal| refusal.at(age_at))?;
        Ok(origin)
    }

    /// Block and page, spelled out.
    fn anywhere(&mut self) -> Result<Address, Refused> {
        let block_at = self.cursor.offset();
        let block = self.cursor.varint("block")?;
        let block = self
            .layout
            .check_block(block)
            .map_err(|refusal| refusal.at(block_at))?;
        let page_at = self.cursor.offset();
        let address = Address {
            block,
            page: self.cursor.varint("page number")?,
        };
        self.layout
            .check_page(address)
            .map_err(|refusal| refusal.at(page_at))?;
        Ok(address)
    }
}

/// A relative address would have reached this page.
pub(crate) fn reaches(last: Address, page: Address) -> bool {
    page.block == last.block && page.page > last.page
}

/// What `page` may refer to.
pub(crate) fn check_origin(
    origin: Origin,
    page: Option<Address>,
    batch: u64,
) -> Result<(), Refusal> {
    let Origin { page: from, age } = origin;
    if age > batch {
        return Err(Refusal::BeforeFirstBatch { age, batch });
    }
    if age == 0 && page == Some(from) {
        return Err(Refusal::OwnPage);
    }
    Ok(())
}

/// Within a window slots count from 1.
pub(crate) const fn check_slot(slot: u64, window: u64) -> Result<(), Refusal> {
    if (slot == 0) == (window == 0) {
        Ok(())
    } else {
        Err(Refusal::StraySlot { slot, window })
    }
}

pub(crate) fn check_window(window: u64, agreed: u64) -> Result<(), Refusal> {
    if window > agreed {
        Err(Refusal::WindowNotAgreed { window, agreed })
    } else {
        Ok(())
    }
}

/// The lengths that a group's records may have.
pub(crate) fn check_raw_len(len: u64) -> Result<usize, Refusal> {
    match usize::try_from(len) {
        Ok(len @ 1..=GROUP_MAX) => Ok(len),
        _ => Err(Refusal::RawLength { found: len }),
    }
}

/// The page after `last`, with `passed` pages between.
fn following(last: Address, passed: u64) -> Result<Address, Refusal> {
    let page = last
        .page
        .checked_add(passed)
        .and_then(|page| page.checked_add(1));
    match page {
        Some(page) => Ok(Address {
            block: last.block,
            page,
        }),
        None => Err(Refusal::AddressOverflow { passed }),
    }
}

fn unaddressed(tag: u8, at: usize) -> Result<(), Refused> {
    if tag & 0x0f == 0 {
        Ok(())
    } else {
        Err(Refusal::StrayAddressing { tag }.at(at))
    }
}
