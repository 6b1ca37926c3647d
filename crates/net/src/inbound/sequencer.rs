//! The one thread that sees all batches, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel as queue;
use sealift_pages::{Decoded, Mirror, Nowhere};

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
        let resolved = self.mirror.resolve(decoded, &mut Nowhere);
        let batch = resolved.map_err(|unresolved| Broken::Resolve(unresolved.into()))?;
        batch.verify().map_err(Broken::Altered)?;
        let mut pages = 0;
        {
            let mut versions = lock(&self.shared.versions);
            for (first, run) in batch.addresses() {
                versions
                    .stamp(first, run, batch.number())
                    .map_err(|_| Broken::Versions(batch.number()))?;
                pages += run;
            }
        }
        self.shared.pages.fetch_add(pages, Ordering::Relaxed);
        self.placement.place(batch).map_err(Broken::Placement)
    }
}
