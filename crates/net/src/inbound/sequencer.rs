//! The one thread that sees all batches, in order.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossbeam_channel as queue;
use sealift_pages::{Address, Decoded, External, Mirror, Unresolved};
use sealift_precopy::VersionMap;

use super::{Broken, Placement, Shared};
use crate::lock::lock;

pub(super) struct Sequencer {
    pub(super) shared: Arc<Shared>,
    pub(super) mirror: Mirror,
    pub(super) arriving: queue::Receiver<Decoded>,
    pub(super) placement: Box<dyn Placement>,
}

impl Sequencer {
    pub(super) fn run(mut self) {
        // Bounded by what may be held, and by the ledger's window.
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Ok(decoded) = self.arriving.recv() {
            early.insert(decoded.number(), decoded);
            while let Some(decoded) = early.remove(&next) {
                if self.shared.is_closed() {
                    return;
                }
                if let Err(broken) = self.place(decoded) {
                    return self.shared.broken(broken);
                }
                next += 1;
            }
        }
    }

    fn place(&mut self, decoded: Decoded) -> Result<(), Broken> {
        let mut back = Back {
            placement: &mut *self.placement,
            versions: &self.shared.versions,
        };
        let resolved = self.mirror.resolve(decoded, &mut back);
        let batch = resolved.map_err(|unresolved| match unresolved {
            Unresolved::Unresolvable(unresolvable) => Broken::Resolve(unresolvable),
            Unresolved::Lost(why) => Broken::Placement(why),
        })?;
        batch.verify().map_err(Broken::Altered)?;
        let (mut pages, mut over) = (0, None);
        {
            let mut versions = lock(&self.shared.versions);
            // All before the first stamp: a page may be in it twice.
            for (first, run) in batch.addresses() {
                over = over.max(versions.newest_of(first, run));
            }
            for (first, run) in batch.addresses() {
                versions
                    .stamp(first, run, batch.number())
                    .map_err(|_| Broken::Versions(batch.number()))?;
                pages += run;
            }
        }
        self.shared.pages.fetch_add(pages, Ordering::Relaxed);
        self.placement.place(batch, over).map_err(Broken::Placement)
    }
}

/// Contents that are read back from where they were placed: what the mirror has no longer.
struct Back<'a> {
    placement: &'a mut dyn Placement,
    /// As of the batch before the one at hand.
    versions: &'a Mutex<VersionMap>,
}

impl External for Back<'_> {
    type Lost = String;

    fn content(&mut self, page: Address, batch: u64, into: &mut [u8]) -> Result<bool, String> {
        if lock(self.versions).newest(page) != Some(batch) {
            return Ok(false);
        }
        self.placement.content(page, batch, into)
    }
}
