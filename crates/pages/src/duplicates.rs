//! Finds pages whose content was sent lately. Serial: the source decides, the receiver's [`Mirror`](crate::Mirror) follows.
//!
//! ```text
//!   page ─▶ fingerprint ─▶ bucket of 4 ─▶ (batch, slot)? ─▶ still kept? named so? equal, byte by byte? ─▶ same-as (page, age)
//!
//!   kept    batch 7   8   9  10  11 ◀─ the last `oldest` ones, shared with whoever encodes them
//! ```

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::budget::CONTENT_BYTES;
use crate::contents::{Contents, WHOLE_BATCH};
use crate::draft::Draft;
use crate::fingerprint;
use crate::layout::PAGE_SIZE_MIN;
use crate::record::Origin;

/// Places that a fingerprint may be in: 64 bytes, what a processor fetches at once.
const WAYS: usize = 4;
/// Places per page that can be named: half of them stay empty, so that few pages push each other out.
const SPARE: usize = 2;
/// Contents of a batch.
const PAGES: usize = CONTENT_BYTES / PAGE_SIZE_MIN;
/// A batch's number that no batch has: `proto/WIRE.md` §1.
const NONE: u64 = u64::MAX;

/// Pages that were sent and can be named.
pub struct Duplicates {
    key: u64,
    oldest: u64,
    table: Vec<[Place; WAYS]>,
    kept: VecDeque<(u64, Arc<Draft>)>,
    /// The last number that was resolved, and one more.
    next: u64,
}

/// Where a content is.
#[derive(Clone, Copy)]
struct Place {
    batch: u64,
    /// The half of the fingerprint that did not choose the bucket.
    tag: u32,
    slot: u32,
}

impl Duplicates {
    /// Knows of nothing yet. `oldest` is how many batches back both ends agreed to look; `key` is random and never leaves this host.
    ///
    /// Takes memory for `oldest` batches: 8 KiB each now, and their contents as they come.
    #[must_use]
    pub fn new(oldest: u64, key: u64) -> Self {
        let batches = usize::try_from(oldest).unwrap_or(usize::MAX);
        let places = batches.saturating_add(1).saturating_mul(PAGES * SPARE);
        let buckets = (places / WAYS).next_power_of_two();
        Self {
            key,
            oldest,
            table: vec![[Place::EMPTY; WAYS]; buckets],
            kept: VecDeque::new(),
            next: 0,
        }
    }

    /// Marks the pages of batch `number` that can be named, and keeps it to be named by those that come. Numbers only grow: a batch out
    /// of turn names nothing and is not kept.
    #[must_use]
    pub fn resolve(&mut self, number: u64, mut draft: Draft) -> Arc<Draft> {
        if number < self.next {
            return Arc::new(draft);
        }
        self.next = number.saturating_add(1);
        while let Some(&(batch, _)) = self.kept.front()
            && number - batch > self.oldest
        {
            self.kept.pop_front();
        }
        draft.contents_mut().sort();
        for slot in 0..draft.contents().places().len() {
            if let Some(origin) = self.origin(number, &draft, slot) {
                draft.came_from(slot, origin);
            }
        }
        let draft = Arc::new(draft);
        if self.oldest > 0 && draft.content_len() > 0 {
            self.kept.push_back((number, Arc::clone(&draft)));
        }
        draft
    }

    /// A batch was lost: its contents cannot be named any more.
    pub fn void(&mut self, number: u64) {
        self.kept.retain(|&(batch, _)| batch != number);
    }

    /// Where the content of a page was sent before; from now on, it is here.
    fn origin(&mut self, number: u64, draft: &Draft, slot: usize) -> Option<Origin> {
        let content = draft.contents().page(slot);
        let fingerprint = fingerprint::of(self.key, content);
        let [high, low] = halves(fingerprint);
        let buckets = self.table.len();
        let bucket = self.table.get_mut(low as usize & (buckets - 1))?;
        let mut found = None;
        let mut oldest = 0;
        for (way, place) in bucket.iter().enumerate() {
            if place.batch != NONE && place.tag == high {
                let place_slot = place.slot as usize;
                let named = if place.batch == number {
                    named(draft.contents(), place_slot, slot)
                } else {
                    kept(&self.kept, place.batch)
                        .and_then(|earlier| named(earlier, place_slot, WHOLE_BATCH))
                };
                if let Some((page, earlier)) = named
                    && earlier == content
                {
                    let age = number - place.batch;
                    // With age 0 a page may not name itself.
                    if age > 0 || draft.contents().places().get(slot) != Some(&page) {
                        found = Some((way, Origin { page, age }));
                        break;
                    }
                }
            }
            if place.before(&bucket[oldest]) {
                oldest = way;
            }
        }
        let way = found.map_or(oldest, |(way, _)| way);
        bucket[way] = Place {
            batch: number,
            tag: high,
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
        };
        found.map(|(_, origin)| origin)
    }
}

/// The page and content that `slot` can be named by, when that page has no later content before `before`.
fn named(
    contents: &Contents,
    slot: usize,
    before: usize,
) -> Option<(crate::layout::Address, &[u8])> {
    let &page = contents.places().get(slot)?;
    (contents.last_before(page, before) == Some(slot)).then(|| (page, contents.page(slot)))
}

fn kept(kept: &VecDeque<(u64, Arc<Draft>)>, number: u64) -> Option<&Contents> {
    let at = kept
        .binary_search_by_key(&number, |&(batch, _)| batch)
        .ok()?;
    kept.get(at).map(|(_, draft)| draft.contents())
}

const fn halves(fingerprint: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = fingerprint.to_be_bytes();
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}

impl Place {
    const EMPTY: Self = Self {
        batch: NONE,
        tag: 0,
        slot: 0,
    };

    /// This one is given up before the other.
    const fn before(&self, other: &Self) -> bool {
        other.batch != NONE && (self.batch == NONE || self.batch < other.batch)
    }
}

impl core::fmt::Debug for Duplicates {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Duplicates")
            .field("oldest", &self.oldest)
            .field("kept", &self.kept.len())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
