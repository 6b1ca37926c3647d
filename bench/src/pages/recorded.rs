//! The pages of a main channel, in the order in which they stand there.

use sealift_pages::Address;
use sealift_stream::main_channel::{Content, Item, Parser};

use crate::guest::{self, PAGE};

/// What QEMU handed over.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Contents, back to back.
    pub memory: Vec<u8>,
    /// Each page, and which of the contents is its; none for zeros.
    pub sent: Vec<(Address, Option<usize>)>,
    /// Pages of each block.
    pub blocks: Vec<u64>,
    /// Bytes that are not pages.
    pub others: u64,
}

impl Recorded {
    /// Of a captured main channel of a guest with pages of 4 KiB.
    ///
    /// # Errors
    /// When pages came in another form than as they are, or the stream is not understood up to where RAM ends.
    pub fn of_stream(mut stream: &[u8]) -> Result<Self, String> {
        let mut parser = Parser::new();
        let mut recorded = Self::default();
        loop {
            let before = stream.len();
            let Some(item) = parser.pull(&mut stream) else {
                break;
            };
            match item {
                Item::Block(block) => recorded.blocks.push(block.used / PAGE as u64),
                Item::Page(page) => {
                    let block = u16::try_from(page.block.index()).map_err(|_| "too many blocks")?;
                    let at = Address {
                        block,
                        page: page.offset / PAGE as u64,
                    };
                    match page.content {
                        Content::Zero => recorded.sent.push((at, None)),
                        Content::Whole(bytes) => recorded.push(at, bytes),
                        Content::Xbzrle(_) | Content::Zlib(_) => {
                            return Err("its pages are packed by QEMU: capture it without".into());
                        }
                    }
                }
                _ => recorded.others += (before - stream.len()) as u64,
            }
        }
        if recorded.sent.is_empty() {
            return Err("no page was found in it".into());
        }
        Ok(recorded)
    }

    /// Of a guest's memory as QEMU's `pmemsave` writes it: each page once, in order.
    #[must_use]
    pub fn of_memory(memory: &[u8]) -> Self {
        let mut recorded = Self {
            blocks: vec![(memory.len() / PAGE) as u64],
            ..Self::default()
        };
        for (number, page) in (0..).zip(memory.chunks_exact(PAGE)) {
            let at = Address {
                block: 0,
                page: number,
            };
            if page.iter().all(|&byte| byte == 0) {
                recorded.sent.push((at, None));
            } else {
                recorded.push(at, page);
            }
        }
        recorded
    }

    /// Of a guest like "mix": so many MiB, of which `hot` MiB are rewritten in each of the rounds behind the first, of each page eight words, its
    /// version and its checksum.
    #[must_use]
    pub fn mix(mib: usize, hot: usize, rounds: usize) -> Self {
        const PER_MIB: usize = (1 << 20) / PAGE;
        let mut memory = guest::memory(mib << 20);
        let mut recorded = Self {
            blocks: vec![(mib * PER_MIB) as u64],
            ..Self::default()
        };
        let at = |page: usize| Address {
            block: 0,
            page: page as u64,
        };
        for (number, page) in memory.chunks_exact(PAGE).enumerate() {
            recorded.push(at(number), page);
        }
        let mut chance = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance
        };
        for _ in 0..rounds {
            for (number, page) in memory
                .chunks_exact_mut(PAGE)
                .take(hot * PER_MIB)
                .enumerate()
            {
                let (words, _) = page.as_chunks_mut::<8>();
                let places = [1, 2].into_iter().map(Some).chain([None; 8]);
                for place in places {
                    let anywhere = usize::try_from(random() % 500).unwrap_or(0) + 3;
                    words[place.unwrap_or(anywhere)] = random().to_le_bytes();
                }
                recorded.push(at(number), page);
            }
        }
        recorded
    }

    fn push(&mut self, at: Address, content: &[u8]) {
        let place = self.memory.len() / PAGE;
        self.memory.extend_from_slice(content);
        self.sent.push((at, Some(place)));
    }

    /// A content.
    #[must_use]
    pub fn content(&self, place: usize) -> &[u8] {
        &self.memory[place * PAGE..(place + 1) * PAGE]
    }
}
