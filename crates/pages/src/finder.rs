//! Finds what of a batch was sent before. Each worker has its own; what they share is the [`Store`], behind a lock of the caller's.
//!
//! ```text
//!   no lock      prints of all pages' parts
//!   the lock     each page: unchanged? elsewhere? its prints before, copied out; kept for those that come       Store
//!   no lock      which parts differ from what was before: where they are few they become patches
//! ```
//!
//! Batches may come in any order, and several at once in each part but the middle one: what a batch may name is decided by numbers alone.

use alloc::vec::Vec;
use core::fmt;
use core::ops::DerefMut;

use crate::contents::Contents;
use crate::draft::Draft;
use crate::fingerprint::{Fingerprint, PART};
use crate::listing::Listing;
use crate::record::Origin;
use crate::store::{Found, Page, Sent, Store};

/// A patch is worth it up to this part of a page. It is compressed with the rest as the page would be, but for words, whose bytes are not taken apart in it.
const WORTH: usize = 2;

/// Finds what was sent before.
pub struct Finder {
    /// There is a store to find something in.
    kept: bool,
    fingerprint: Fingerprint,
    /// By slot.
    fingerprints: Vec<u64>,
    /// Of the parts of all pages, by slot, back to back.
    prints: Vec<u64>,
    /// Slots whose page comes again in the batch, in order.
    again: Vec<usize>,
    /// By slot, what was found; nothing for most.
    found: Vec<(usize, Found)>,
    /// Prints of what was before, back to back, of those that have that.
    bases: Vec<u64>,
    /// Entries of which what was before was of no use, and the batch that replaced it: to be told when the store is at hand again.
    useless: Vec<(usize, u64)>,
}

impl Finder {
    /// `key` is the store's, and `kept` whether it keeps anything.
    pub(crate) fn new(key: u64, kept: bool) -> Self {
        Self {
            kept,
            fingerprint: Fingerprint::new(key),
            fingerprints: Vec::new(),
            prints: Vec::new(),
            again: Vec::new(),
            found: Vec::new(),
            bases: Vec::new(),
            useless: Vec::new(),
        }
    }

    /// Marks the pages of batch `number` that can be named, and has the store keep what it puts. `store` takes the lock, which is held while pages
    /// are looked up, compared and copied, and for nothing else.
    pub fn find<S: DerefMut<Target = Store>>(
        &mut self,
        number: u64,
        draft: &mut Draft,
        sent: &mut impl Sent,
        store: impl FnOnce() -> S,
    ) {
        if !self.kept {
            return;
        }
        draft.sort();
        let contents = draft.contents();
        let slots = 0..contents.places().len();
        self.prints.clear();
        let fingerprints =
            slots.map(|slot| self.fingerprint.of(contents.page(slot), &mut self.prints));
        self.fingerprints.clear();
        self.fingerprints.extend(fingerprints);
        self.look_twice(contents, draft.listing());
        self.look_up(number, contents, sent, store());
        self.mark(number, draft);
    }

    /// Finds the slots whose page comes again in the batch, with content or as zeros: only a page's last content can be named, and one that may be
    /// zero in the end not at all.
    fn look_twice(&mut self, contents: &Contents, listing: &Listing) {
        self.again.clear();
        let zeros = listing.zeros();
        let zeros = zeros.flat_map(|(first, run)| contents.slots_within(first, run));
        self.again.extend(contents.slots_before_last().chain(zeros));
        self.again.sort_unstable();
    }

    fn look_up(
        &mut self,
        number: u64,
        contents: &Contents,
        sent: &mut impl Sent,
        mut store: impl DerefMut<Target = Store>,
    ) {
        self.found.clear();
        self.bases.clear();
        for (entry, batch) in self.useless.drain(..) {
            store.useless(entry, batch);
        }
        let mut again = self.again.iter().copied().peekable();
        let prints = self
            .prints
            .chunks_exact(contents.page_size().bytes() / PART);
        for (slot, (&at, prints)) in contents.places().iter().zip(prints).enumerate() {
            if again.next_if_eq(&slot).is_some() {
                while again.next_if_eq(&slot).is_some() {}
                continue;
            }
            let page = Page {
                at,
                prints,
                fingerprint: self.fingerprints.get(slot).copied().unwrap_or_default(),
            };
            let found = store.find(number, page, sent, &mut self.bases);
            if found != Found::Nothing {
                self.found.push((slot, found));
            }
        }
    }

    fn mark(&mut self, number: u64, draft: &mut Draft) {
        let page_size = draft.contents().page_size().bytes();
        let parts = page_size / PART;
        let mut bases = self.bases.chunks_exact(parts);
        for &(slot, found) in &self.found {
            match found {
                Found::Same { page, batch } => {
                    let age = number.saturating_sub(batch);
                    draft.same_as(slot, Origin { page, age });
                }
                Found::Base { entry, batch } => {
                    let prints = self.prints.get(slot * parts..(slot + 1) * parts);
                    let (Some(base), Some(prints), Some(&page)) =
                        (bases.next(), prints, draft.contents().places().get(slot))
                    else {
                        continue;
                    };
                    let age = number.saturating_sub(batch);
                    let changed = base.iter().zip(prints).map(|(old, new)| old != new);
                    if !draft.changed(slot, Origin { page, age }, changed, page_size / WORTH) {
                        self.useless.push((entry, number));
                    }
                }
                Found::Nothing => {}
            }
        }
    }
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Prints are made from guest memory.
        f.debug_struct("Finder").finish_non_exhaustive()
    }
}
