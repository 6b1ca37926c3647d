//! A thread that reads pages, finds what was sent before and encodes the rest, batch by batch, without anything in between.

use std::io;
use std::sync::Arc;

use crossbeam_channel as queue;
use sealift_pages::{Address, Draft, Encoder, Finder, Unread};
use sealift_precopy::Taken;
use sealift_seal::{Header, TAG_LENGTH};

use super::Broken;
use super::sent::Earlier;
use super::shared::{Body, Job, Shared};
use crate::lock::lock;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) finder: Finder,
    pub(super) encoder: Encoder,
    /// For drafts to be arranged in.
    pub(super) spare: Vec<u8>,
    pub(super) bodies: queue::Sender<Body>,
    /// Buffers that lanes have done with.
    pub(super) empties: queue::Receiver<Vec<u8>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        while let Some((job, level)) = self.shared.next_job() {
            let direct = matches!(job, Job::Pages { .. });
            let (number, mut draft, before) = match job {
                Job::Draft {
                    number,
                    draft,
                    before,
                } => (number, *draft, before),
                Job::Pages {
                    number,
                    pages,
                    before,
                } => match self.read(&pages) {
                    Ok(draft) => (number, draft, before),
                    Err(error) => return self.shared.broken(Broken::Memory(error)),
                },
            };
            self.encoder.set_level(level);
            if level.is_some() {
                draft.arrange(&mut self.spare);
            }
            let mut sent = Earlier {
                number,
                before: &before,
                shared: &self.shared,
            };
            let store = || lock(&self.shared.store);
            self.finder.find(number, &mut draft, &mut sent, store);
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
        let mut draft = Draft::new(self.shared.layout.page_size());
        let mut places = Vec::new();
        let full = || io::Error::other("a batch was taken that is larger than one may be");
        for taken in pages {
            let Address { block, page } = taken.first;
            for page in page..page.saturating_add(taken.run) {
                let at = Address { block, page };
                if taken.zero {
                    draft.zero(at).map_err(|_| full())?;
                } else {
                    places.push(at);
                }
            }
        }
        if let Some(memory) = &self.shared.memory {
            let read = draft.read_scattered(&places, |into| memory.read(&places, into));
            read.map_err(|unread| match unread {
                Unread::Full => full(),
                Unread::Failed(error) => error,
            })?;
        }
        Ok(draft)
    }
}
