//! A thread that finds what was sent before and encodes the rest, batch by batch, without anything in between.

use std::sync::Arc;

use crossbeam_channel as queue;
use sealift_pages::{Encoder, Finder};
use sealift_seal::{Header, TAG_LENGTH};

use super::sent::Earlier;
use super::{Body, Broken, Job, Shared};
use crate::lock::lock;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) finder: Finder,
    pub(super) encoder: Encoder,
    pub(super) jobs: queue::Receiver<Job>,
    pub(super) bodies: queue::Sender<Body>,
    /// Buffers that lanes have done with.
    pub(super) empties: queue::Receiver<Vec<u8>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        while let Ok(Job {
            number,
            mut draft,
            before,
        }) = self.jobs.recv()
        {
            if self.shared.is_closed() {
                return;
            }
            let mut sent = Earlier {
                number,
                oldest: self.shared.layout.agreed().oldest,
                before: &before,
                book: &self.shared.book,
            };
            self.finder
                .find(number, &mut draft, &mut sent, || lock(&self.shared.store));
            let mut buffer = self.empties.try_recv().unwrap_or_default();
            buffer.clear();
            buffer.resize(Header::LENGTH, 0);
            match self
                .encoder
                .encode(&draft, number, &self.shared.layout, &mut buffer)
            {
                Ok(tally) => *lock(&self.shared.tally) += tally,
                Err(error) => return self.shared.broken(Broken::Encode(error)),
            }
            buffer.resize(buffer.len() + TAG_LENGTH, 0);
            if self.bodies.send(Body { number, buffer }).is_err() {
                return;
            }
        }
    }
}
