//! What a batch says, in order, beside the contents of its pages.
//!
//! ```text
//!   items    Zero 7..9 · Page · Page · Opaque 1: 3 bytes · Page · Barrier
//!   contents           slot 0  slot 1                      slot 2
//!   opaque                               0..3
//!   channel  0 ───────────────────────▶ 1 ─────────────────────────────▶
//! ```
//!
//! Slots and opaque bytes follow each other, so an item need not say where its own begin.

use alloc::vec::Vec;
use core::fmt;

use crate::contents::Contents;
use crate::digest::{Algorithm, Digest, PageDigest};
use crate::layout::Address;
use crate::redacted::Redacted;

/// Bytes that each page with content takes beside it, and each run of zeros, piece of opaque bytes and barrier: both ends count a batch so, whatever
/// it takes in their memory.
pub const ITEM_LEN: u64 = 16;
const _: () = assert!(size_of::<Item>() as u64 == ITEM_LEN);

/// One item: a batch may have [`RECORDS_MAX`](crate::RECORDS_MAX).
#[derive(Clone, Copy, Debug)]
enum Item {
    Zero { block: u16, run: u32, page: u64 },
    Page,
    Opaque { channel: u16, len: u32 },
    Barrier,
}

#[derive(Default)]
pub(crate) struct Listing {
    items: Vec<Item>,
    opaque: Vec<u8>,
}

impl Listing {
    /// A run of zeros; longer ones than 32 bits count are not there, `ZEROS_MAX` is lower.
    pub(crate) fn zero(&mut self, first: Address, run: u32) {
        self.items.push(Item::Zero {
            block: first.block,
            page: first.page,
            run,
        });
    }

    /// Makes the last item longer when that is a run of zeros that ends where `page` is.
    pub(crate) fn one_more_zero(&mut self, page: Address) -> bool {
        if let Some(Item::Zero {
            block,
            run,
            page: first,
        }) = self.items.last_mut()
            && *block == page.block
            && first.checked_add((*run).into()) == Some(page.page)
        {
            *run += 1;
            return true;
        }
        false
    }

    /// How many pages with content follow each other before something comes that is not a page, and so on. None where something is of another channel
    /// than the main one: its pages belong to what stands in front of them.
    pub(crate) fn stretches(&self) -> Option<Vec<usize>> {
        let mut stretches = Vec::from([0]);
        for item in &self.items {
            match item {
                Item::Zero { .. } => {}
                Item::Page => {
                    if let Some(last) = stretches.last_mut() {
                        *last += 1;
                    }
                }
                Item::Opaque { channel: 0, .. } | Item::Barrier => stretches.push(0),
                Item::Opaque { .. } => return None,
            }
        }
        Some(stretches)
    }

    /// The next slot of the contents.
    pub(crate) fn page(&mut self) {
        self.items.push(Item::Page);
    }

    pub(crate) fn opaque(&mut self, channel: u16, bytes: &[u8]) {
        // A body holds all of it: far below 32 bits.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.items.push(Item::Opaque { channel, len });
        self.opaque.extend_from_slice(bytes);
    }

    /// Makes the last item longer when that is opaque and of this channel.
    pub(crate) fn more_opaque(&mut self, channel: u16, bytes: &[u8]) -> bool {
        if self.ends_in_opaque(channel)
            && let Some(Item::Opaque { len, .. }) = self.items.last_mut()
        {
            *len = len.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            self.opaque.extend_from_slice(bytes);
            return true;
        }
        false
    }

    pub(crate) fn ends_in_opaque(&self, channel: u16) -> bool {
        matches!(self.items.last(), Some(Item::Opaque { channel: last, .. }) if *last == channel)
    }

    pub(crate) fn barrier(&mut self) {
        self.items.push(Item::Barrier);
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn opaque_len(&self) -> usize {
        self.opaque.len()
    }

    /// Bytes that it takes: many runs of zeros are many items, in a few bytes of a body.
    pub(crate) fn memory(&self) -> usize {
        self.items.len() * size_of::<Item>() + self.opaque.len()
    }

    /// Gives back what was taken for more.
    pub(crate) fn shrink(&mut self) {
        self.items.shrink_to_fit();
        self.opaque.shrink_to_fit();
    }

    /// Forgets all, and gives back what opaque bytes took beyond `keep`.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.items.clear();
        self.opaque.clear();
        self.opaque.shrink_to(keep);
    }

    pub(crate) fn entries<'a>(&'a self, contents: &'a Contents) -> Entries<'a> {
        Entries {
            items: self.items.iter(),
            opaque: &self.opaque,
            pages: contents.bytes(),
            places: contents.places().iter(),
            page_size: contents.page_size().bytes(),
            channel: 0,
        }
    }

    /// The runs of zeros.
    pub(crate) fn zeros(&self) -> impl Iterator<Item = (Address, u64)> {
        self.items.iter().filter_map(|item| match *item {
            Item::Zero { block, run, page } => Some((Address { block, page }, run.into())),
            Item::Page | Item::Opaque { .. } | Item::Barrier => None,
        })
    }

    /// Every page and where it goes, zeros as runs.
    pub(crate) fn addresses<'a>(
        &'a self,
        contents: &'a Contents,
    ) -> impl Iterator<Item = (Address, u64)> + 'a {
        self.entries(contents).filter_map(|entry| match entry {
            Entry::Zero { first, run, .. } => Some((first, run)),
            Entry::Page { at, .. } => Some((at, 1)),
            Entry::Opaque { .. } | Entry::Barrier => None,
        })
    }

    /// The digest over all pages.
    pub(crate) fn digest(&self, contents: &Contents, algorithm: Algorithm) -> Digest {
        let mut digest = PageDigest::new(algorithm, contents.page_size());
        let mut places = contents.places().iter();
        for item in &self.items {
            match *item {
                Item::Zero { block, run, page } => digest.zero(Address { block, page }, run.into()),
                Item::Page => {
                    if let Some(&place) = places.next() {
                        digest.address(place);
                    }
                }
                Item::Opaque { .. } | Item::Barrier => {}
            }
        }
        // All at once: BLAKE3 is at its best with long runs.
        digest.contents(contents.bytes());
        digest.finish()
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing")
            .field("items", &self.items.len())
            .field("opaque", &Redacted(&self.opaque))
            .finish()
    }
}

/// What a batch says, one after the other.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Entry<'a> {
    /// Pages of nothing but zeros.
    Zero {
        /// The channel that they belong to: 0 is the main one, n the n-th of multifd.
        channel: u16,
        /// The first of them.
        first: Address,
        /// How many; at least one.
        run: u64,
    },
    /// A page and what it holds.
    Page {
        /// The channel that it belongs to.
        channel: u16,
        /// Which page.
        at: Address,
        /// Its bytes.
        content: &'a [u8],
    },
    /// Bytes of a channel that are not pages.
    Opaque {
        /// Which channel.
        channel: u16,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// All before it is placed and verified before anything after it is used.
    Barrier,
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero {
                channel,
                first,
                run,
            } => f
                .debug_struct("Zero")
                .field("channel", channel)
                .field("first", first)
                .field("run", run)
                .finish(),
            Self::Page {
                channel,
                at,
                content,
            } => f
                .debug_struct("Page")
                .field("channel", channel)
                .field("at", at)
                .field("content", &Redacted(content))
                .finish(),
            Self::Opaque { channel, bytes } => f
                .debug_struct("Opaque")
                .field("channel", channel)
                .field("bytes", &Redacted(bytes))
                .finish(),
            Self::Barrier => f.write_str("Barrier"),
        }
    }
}

/// The entries of a batch, in order.
#[derive(Clone)]
pub(crate) struct Entries<'a> {
    items: core::slice::Iter<'a, Item>,
    opaque: &'a [u8],
    pages: &'a [u8],
    places: core::slice::Iter<'a, Address>,
    page_size: usize,
    channel: u16,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        Some(match *self.items.next()? {
            Item::Zero { block, run, page } => Entry::Zero {
                channel: self.channel,
                first: Address { block, page },
                run: run.into(),
            },
            Item::Page => {
                let (content, rest) = self.pages.split_at_checked(self.page_size)?;
                self.pages = rest;
                Entry::Page {
                    channel: self.channel,
                    at: *self.places.next()?,
                    content,
                }
            }
            Item::Opaque { channel, len } => {
                let (bytes, rest) = self.opaque.split_at_checked(usize::try_from(len).ok()?)?;
                self.opaque = rest;
                self.channel = channel;
                Entry::Opaque { channel, bytes }
            }
            Item::Barrier => Entry::Barrier,
        })
    }
}
