//! RAM: the list of blocks and the page records.

use super::item::{Content, Item, ListedBlock, Page};
use super::{Kind, Place, Reader};
use crate::cursor::{Cursor, Read, Stop, malformed, unknown};
use crate::{BlockId, PageSize};

/// The only version of RAM's sections.
pub(super) const VERSION: u32 = 4;

/// A record's flags: the low bits of its first word, free because offsets are page-aligned.
pub(super) mod flag {
    pub(in super::super) const ZERO: u64 = 0x002;
    pub(in super::super) const MEM_SIZE: u64 = 0x004;
    pub(in super::super) const PAGE: u64 = 0x008;
    pub(in super::super) const EOS: u64 = 0x010;
    pub(in super::super) const CONTINUE: u64 = 0x020;
    pub(in super::super) const XBZRLE: u64 = 0x040;
    pub(in super::super) const ZLIB: u64 = 0x100;
    pub(in super::super) const MULTIFD_FLUSH: u64 = 0x200;
    pub(in super::super) const ALL: u64 = 0xfff;
}

/// The first byte of an XBZRLE record: the only encoding that there is.
pub(super) const ENCODING_XBZRLE: u8 = 1;

/// The most bytes that zlib makes of a page: its own bound, rounded up.
pub(super) const fn max_zlib(page: PageSize) -> usize {
    page.bytes() + page.bytes() / 8 + 64
}

impl Reader {
    #[inline]
    pub(super) fn ram_record<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let word = cursor.be64()?;
        let offset = word & !flag::ALL;
        let flags = word & flag::ALL;
        match (flags & !flag::CONTINUE, word) {
            (flag::PAGE | flag::ZERO | flag::XBZRLE | flag::ZLIB, _) => {
                let page = self.page(at, offset, flags, cursor)?;
                self.last_block = Some(page.block);
                Ok(Item::Page(page))
            }
            (_, flag::EOS) => {
                self.place = Place::Sections;
                Ok(Item::RamEnd)
            }
            (_, flag::MULTIFD_FLUSH) => Ok(Item::MultifdFlush),
            (flag::MEM_SIZE, _) if flags == flag::MEM_SIZE && self.blocks.is_empty() => {
                if offset > 0 {
                    self.place = Place::BlockList { left: offset };
                }
                Ok(Item::RamSize(offset))
            }
            _ => Err(unknown(at, "a RAM record", word)),
        }
    }

    #[inline]
    fn page<'a>(
        &self,
        at: u64,
        offset: u64,
        flags: u64,
        cursor: &mut Cursor<'a>,
    ) -> Read<Page<'a>> {
        let size = self.page_size.ok_or_else(|| self.no_page_size(at))?;
        let named = flags & flag::CONTINUE == 0;
        let id = if named {
            self.named_block(cursor)?
        } else {
            self.last_block
                .ok_or_else(|| malformed(at, "a record that names its block", flags))?
        };
        let block = self.blocks.block(id);
        if !block.is_some_and(|block| block.holds_page(offset, size)) {
            return Err(malformed(at, "the offset of a page in its block", offset));
        }
        let content = match flags & !flag::CONTINUE {
            flag::PAGE => Content::Whole(cursor.page(size)?),
            flag::ZERO => {
                cursor.exactly_u8(0, "the zero that a zero page is filled with")?;
                Content::Zero
            }
            flag::XBZRLE => {
                cursor.exactly_u8(ENCODING_XBZRLE, "XBZRLE's encoding, 1")?;
                let at = cursor.offset();
                let len = cursor.be16()?;
                if usize::from(len) > size.bytes() {
                    return Err(malformed(at, "an XBZRLE length within a page", len));
                }
                Content::Xbzrle(cursor.take(usize::from(len))?)
            }
            _ => {
                let at = cursor.offset();
                let len = cursor.be32()?;
                let fits = usize::try_from(len)
                    .ok()
                    .filter(|len| *len <= max_zlib(size));
                let len =
                    fits.ok_or_else(|| malformed(at, "a zlib length of about a page", len))?;
                Content::Zlib(cursor.take(len)?)
            }
        };
        Ok(Page {
            block: id,
            offset,
            named,
            content,
        })
    }

    #[cold]
    fn no_page_size(&self, at: u64) -> Stop {
        let expected = "a machine type whose page size is known";
        match &self.machine {
            Some(machine) => unknown(at, expected, machine.as_name()),
            None => unknown(at, expected, 0),
        }
    }

    fn named_block(&self, cursor: &mut Cursor<'_>) -> Read<BlockId> {
        let at = cursor.offset();
        let name = cursor.name()?;
        self.blocks
            .find(name)
            .ok_or_else(|| unknown(at, "the name of a listed RAM block", name))
    }

    /// Reads a block of the list, `left` bytes of RAM being still unlisted.
    pub(super) fn listed_block<'a>(
        &mut self,
        left: u64,
        cursor: &mut Cursor<'a>,
    ) -> Read<Item<'a>> {
        let at = cursor.offset();
        let name = cursor.name()?;
        let used_at = cursor.offset();
        let used = cursor.be64()?;
        let left = left
            .checked_sub(used)
            .ok_or_else(|| malformed(used_at, "a length within what is left of the total", used))?;
        let host_page = if self.postcopy_advised && !self.ignore_shared {
            host_page(left == 0, cursor)?
        } else {
            None
        };
        let address = if self.ignore_shared {
            Some(cursor.be64()?)
        } else {
            None
        };
        if self.blocks.push(name, used).is_none() {
            return Err(unknown(
                at,
                "one of at most 1024 blocks, each with a name of its own",
                name,
            ));
        }
        self.place = match left {
            0 => Place::Body(Kind::Ram),
            left => Place::BlockList { left },
        };
        Ok(Item::Block(ListedBlock {
            name,
            used,
            host_page,
            address,
        }))
    }
}

/// Reads a host page size if there is one: nothing on the wire says whether, but what follows tells them apart.
///
/// After a block other than the last comes the next one's name, whose length is not 0, while a page size starts with a zero byte. After the
/// last block comes a record, which has flags in its low twelve bits, where a page size has none.
fn host_page(last: bool, cursor: &mut Cursor<'_>) -> Read<Option<u64>> {
    let mut ahead = cursor.clone();
    let there = if last {
        let word = ahead.be64()?;
        word.is_power_of_two() && word & flag::ALL == 0
    } else {
        ahead.u8()? == 0
    };
    if !there {
        return Ok(None);
    }
    let at = cursor.offset();
    let size = cursor.be64()?;
    if !size.is_power_of_two() || size & flag::ALL != 0 {
        return Err(malformed(at, "a host page size", size));
    }
    Ok(Some(size))
}
