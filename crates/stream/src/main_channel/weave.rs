//! Pages and the rest of a channel, which came apart, put together again; and sections of RAM for the pages that came where the
//! stream has none.
//!
//! ```text
//!   the stream's own                02 id ················ EOS 7e id  08 …        what stands between pages
//!   a page in its section           02 id record record    EOS 7e id
//!   a page between two sections                                       02 id record EOS 7e id  08 …
//!   a ping in the section           02 id record EOS 7e id 08 ping 02 id record EOS 7e id
//! ```
//!
//! Where the pages come from elsewhere than the stream, they come at any point of it. QEMU takes as many sections of RAM as it is
//! given, so those that come between two sections get one of their own, and a section is ended and begun again where a command has to go
//! into it. An end mark of RAM is not written before what follows it is there: until then records may go in front of it, so that no page ever
//! has to wait for a footer.
//!
//! Each section that is begun here names the block of its first record. The stream's own records do not rely on it: who takes the pages out of
//! a stream leaves no record in that could.
//!
//! Not for multifd with machine types up to pc-8.0: there each end mark waits for its own mark on every channel.

use alloc::vec::Vec;
use core::fmt;

use super::command::Command;
use super::emit::Emitter;
use super::item::{Content, Item, Page, Section};
use super::{Parser, Stand};
use crate::{BlockId, Blocks, PageSize};

/// Puts a channel together.
#[derive(Clone, Debug, Default)]
pub struct Weaver {
    parser: Parser,
    emitter: Emitter,
    /// Bytes that are not a whole item yet.
    rest: Vec<u8>,
    /// The number of RAM's sections, once the first was there.
    ram: Option<u32>,
    /// The last of them has begun.
    last: bool,
    /// Sections have footers: old machine types' have none.
    footers: bool,
    written: Written,
    /// The next record is the first of a section that was begun here.
    first: bool,
}

/// Where what was written so far has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    /// As far as what was read.
    #[default]
    AsRead,
    /// The stream's section of RAM is still open, although its end was read.
    NotEnded,
    /// A section of RAM is open that the stream does not have.
    Begun,
    /// The stream's section of RAM, which goes on, was ended.
    Ended,
}

/// Something was to be put where it cannot stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced;

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it comes in the middle of something else than RAM")
    }
}

impl core::error::Error for Misplaced {}

impl Weaver {
    /// For a channel from its start; the page size is known from elsewhere, or the stream says it.
    pub fn new(page_size: Option<PageSize>) -> Self {
        Self {
            parser: page_size.map_or_else(Parser::new, Parser::with_page_size),
            ..Self::default()
        }
    }

    /// The RAM blocks that the stream has listed.
    pub fn blocks(&self) -> &Blocks {
        self.parser.blocks()
    }

    /// Takes bytes that stand between pages, and appends to `out` what can be written.
    pub fn bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = core::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut input = rest.as_slice();
        while let Some(item) = self.parser.pull(&mut input) {
            self.item(&item, out);
        }
        let taken = rest.len() - input.len();
        rest.drain(..taken);
        self.rest = rest;
    }

    fn item(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        match item {
            // What belongs into a section that is open by now, or will be.
            Item::Page(_) | Item::MultifdFlush => self.open(out),
            Item::RamEnd => {
                self.open(out);
                self.written = Written::NotEnded;
                return;
            }
            Item::Footer(_) if self.written == Written::NotEnded => {
                self.footers = true;
                self.settle(out);
            }
            _ => self.settle(out),
        }
        if let Item::Section(section) = item {
            match section {
                Section::Start(described) if described.name.as_bytes() == b"ram" => {
                    self.ram = Some(described.id);
                }
                Section::End(id) if self.ram == Some(*id) => self.last = true,
                _ => {}
            }
            self.first = false;
        }
        self.emitter.emit(item, out);
    }

    /// Appends a page.
    ///
    /// # Errors
    /// When it comes where no section of RAM is open and none can be begun.
    #[inline]
    pub fn page(
        &mut self,
        block: BlockId,
        offset: u64,
        content: Content<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misplaced> {
        match (self.written, self.parser.stand()) {
            (Written::NotEnded | Written::Begun, _) | (Written::AsRead, Stand::Ram) => {}
            (Written::Ended, _) | (Written::AsRead, Stand::Between) => self.open(out),
            (Written::AsRead, _) => return Err(Misplaced),
        }
        let page = Page {
            block,
            offset,
            named: core::mem::take(&mut self.first),
            content,
        };
        self.emitter.emit(&Item::Page(page), out);
        Ok(())
    }

    /// Appends a ping, which QEMU answers once it has loaded all before it.
    ///
    /// # Errors
    /// When it cannot stand here: see [`Weaver::takes_ping`].
    pub fn ping(&mut self, number: u32, out: &mut Vec<u8>) -> Result<(), Misplaced> {
        if !self.takes_ping() {
            return Err(Misplaced);
        }
        match (self.written, self.parser.stand()) {
            (Written::Begun, _) => self.settle(out),
            (Written::AsRead, Stand::Ram) => {
                self.end(out);
                self.written = Written::Ended;
            }
            _ => {}
        }
        let ping = Item::Command(Command::Ping(number));
        self.emitter.emit(&ping, out);
        Ok(())
    }

    /// Whether a ping can go here: from the first section of RAM to the last, which stays whole, and not where a footer may have to come first.
    pub fn takes_ping(&self) -> bool {
        let here = match self.written {
            Written::Begun | Written::Ended => true,
            Written::NotEnded => false,
            Written::AsRead => matches!(self.parser.stand(), Stand::Ram | Stand::Between),
        };
        here && self.ram.is_some() && !self.last
    }

    /// Appends the end mark that was held back: everything that was read is written then.
    pub fn settle(&mut self, out: &mut Vec<u8>) {
        match core::mem::take(&mut self.written) {
            Written::AsRead => {}
            Written::NotEnded => self.emitter.emit(&Item::RamEnd, out),
            Written::Begun => self.end(out),
            // Whatever comes, it is within a section.
            Written::Ended => {
                self.written = Written::Ended;
                self.open(out);
            }
        }
    }

    /// Begins a section of RAM unless one is open.
    fn open(&mut self, out: &mut Vec<u8>) {
        let begun = match self.written {
            Written::NotEnded | Written::Begun => return,
            Written::Ended => Written::AsRead,
            Written::AsRead if self.parser.stand() == Stand::Between => Written::Begun,
            Written::AsRead => return,
        };
        if let Some(id) = self.ram {
            self.emitter.emit(&Item::Section(Section::Part(id)), out);
            self.written = begun;
            self.first = true;
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.emitter.emit(&Item::RamEnd, out);
        if let (Some(id), true) = (self.ram, self.footers) {
            self.emitter.emit(&Item::Footer(id), out);
        }
    }
}
