//! A thread that encodes: finds zeros and compresses, batch by batch, without anything in between.

use std::io;
use std::sync::Arc;

use crossbeam_channel as queue;
use sealift_pages::{Address, Draft, Encoder};
use sealift_precopy::Taken;
use sealift_seal::{Header, TAG_LENGTH};

use super::Broken;
use super::shared::{Body, Job, Shared};
use crate::lock::lock;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) encoder: Encoder,
    pub(super) scratch: Vec<u8>,
    pub(super) bodies: queue::Sender<Body>,
    /// Buffers that lanes have done with.
    pub(super) empties: queue::Receiver<Vec<u8>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        while let Some(job) = self.shared.next_job() {
            let direct = matches!(job, Job::Pages { .. });
            let (number, draft) = match job {
                Job::Draft { number, draft } => (number, draft),
                Job::Pages { number, pages } => match self.read(&pages) {
                    Ok(draft) => (
                        number,
                        lock(&self.shared.book).duplicates.resolve(number, draft),
                    ),
                    Err(error) => return self.shared.broken(Broken::Memory(error)),
                },
            };
            let mut buffer = self.empties.try_recv().unwrap_or_default();
            buffer.clear();
            buffer.resize(Header::LENGTH, 0);
            match self
                .encoder
                .encode(&draft, number, &self.shared.layout, &mut buffer)
            {
                Ok(tally) => {
                    *lock(&self.shared.tally) += tally;
                    if direct {
                        self.shared.encoded(number, &tally);
                    }
                }
                Err(error) => return self.shared.broken(Broken::Encode(error)),
            }
            buffer.resize(buffer.len() + TAG_LENGTH, 0);
            if self.bodies.send(Body { number, buffer }).is_err() {
                return;
            }
        }
    }

    /// Copies the pages out of the guest. From here on nothing looks at its memory again.
    fn read(&mut self, pages: &[Taken]) -> io::Result<Draft> {
        let page_size = self.shared.layout.page_size();
        let mut draft = Draft::new(page_size);
        let mut places = Vec::new();
        for taken in pages {
            let Address { block, page } = taken.first;
            for page in page..page + taken.run {
                let at = Address { block, page };
                if taken.zero {
                    // A batch's worth fits.
                    let _ = draft.zero(at);
                } else {
                    places.push(at);
                }
            }
        }
        if let Some(memory) = &self.shared.memory {
            self.scratch.resize(places.len() * page_size.bytes(), 0);
            memory.read(&places, &mut self.scratch)?;
            for (&at, content) in places.iter().zip(self.scratch.chunks(page_size.bytes())) {
                let _ = draft.page(at, content);
            }
        }
        Ok(draft)
    }
}
