//! What QEMU's stream says that bears on placing, seen in the order of batches.
//!
//! ```text
//!   OPEN_RETURN_PATH                     QEMU can answer a ping
//!   POSTCOPY_ADVISE with page sizes      it throws its memory away when it reads this
//!   ENABLE_COLO                          it goes on loading while the guest runs
//!   a page as its change                 is applied to what QEMU itself has loaded
//! ```

use sealift_pages::PageSize;
use sealift_stream::main_channel::{Command, Content, Item, Parser, Section, Stand};

/// Reads along.
#[derive(Debug)]
pub(super) struct Watch {
    parser: Parser,
    rest: Vec<u8>,
    return_path: bool,
    ram: Option<u32>,
    /// RAM's last section has begun.
    last: bool,
    /// And is over: nothing behind it bears on memory.
    over: bool,
    refusal: Option<&'static str>,
}

impl Watch {
    pub(super) fn new(page_size: PageSize) -> Self {
        let bits = page_size.bytes().trailing_zeros();
        let parser = sealift_stream::PageSize::from_bits(bits)
            .map_or_else(Parser::new, Parser::with_page_size);
        Self {
            parser,
            rest: Vec::new(),
            return_path: false,
            ram: None,
            last: false,
            over: false,
            refusal: None,
        }
    }

    /// Bytes that stand between pages.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut input = rest.as_slice();
        while let Some(item) = self.parser.pull(&mut input) {
            match item {
                Item::Command(Command::OpenReturnPath) => self.return_path = true,
                Item::Command(Command::PostcopyAdvise(Some(_))) => {
                    self.refusal =
                        Some("post-copy may follow, for which QEMU throws its memory away first");
                }
                Item::Command(Command::EnableColo) => {
                    self.refusal = Some("x-colo loads memory while the guest runs");
                }
                Item::Page(page) if !matches!(page.content, Content::Whole(_) | Content::Zero) => {
                    self.refusal = Some(
                        "the source's QEMU encodes pages itself (xbzrle or compress), and only QEMU can undo that",
                    );
                }
                Item::Section(Section::Start(described)) if described.name.as_bytes() == b"ram" => {
                    self.ram = Some(described.id);
                }
                Item::Section(Section::End(id)) if self.ram == Some(id) => self.last = true,
                Item::RamEnd => self.over = self.last,
                Item::Opaque(_) => (self.last, self.over) = (true, true),
                _ => {}
            }
        }
        self.rest = input.to_vec();
    }

    /// Why nothing may be placed, if that is so.
    pub(super) const fn refusal(&self) -> Option<&'static str> {
        self.refusal
    }

    /// A ping can be put here, and QEMU can answer it.
    pub(super) fn takes_ping(&self) -> bool {
        let here = matches!(self.parser.stand(), Stand::Ram | Stand::Between);
        here && self.return_path && self.ram.is_some() && !self.last
    }

    /// Why no ping can be put anywhere any more, if that is so.
    pub(super) fn no_ping(&self) -> Option<&'static str> {
        match () {
            () if self.ram.is_some() && !self.return_path => {
                Some("without a return path QEMU cannot say what it has loaded")
            }
            () if self.last => Some("memory was over before it could be checked"),
            () => None,
        }
    }
}
