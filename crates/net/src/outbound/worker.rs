//! A thread that reads pages, finds what was sent before and encodes the rest, batch by batch, without anything in between.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel as queue;
use sealift_pages::{Address, Draft, EncodeError, Encoder, Finder, Packing, Tally, Unread};
use sealift_precopy::Taken;
use sealift_seal::{Header, TAG_LENGTH};

use super::Broken;
use super::manners::Manners;
use super::sent::Earlier;
use super::shared::{Body, Encoded, Job, Shared, Task};
use crate::lock::lock;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) finder: Finder,
    pub(super) encoder: Encoder,
    /// For drafts to be arranged in.
    pub(super) spare: Vec<u8>,
    /// For batches that are compressed only to compare.
    pub(super) alone: Vec<u8>,
    pub(super) bodies: queue::Sender<Body>,
    /// Buffers that lanes have done with.
    pub(super) empties: queue::Receiver<Vec<u8>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        let mut manners = Manners::of_this_thread();
        while let Some(task) = self.shared.next_task() {
            let Task {
                job,
                way,
                mut window,
            } = task;
            manners.give_way(way.gives_way);
            let start = Instant::now();
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
            if way.level.is_some() {
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
            let on_window = window.is_some();
            let encoded = self.encode(&draft, number, way.level, window.as_mut(), &mut buffer);
            let tally = match encoded {
                Ok(tally) => tally,
                Err(error) => return self.shared.broken(Broken::Encode(error)),
            };
            *lock(&self.shared.tally) += tally;
            // Without what the batch is compared with below.
            let took = start.elapsed();
            self.shared.encoded(Encoded {
                number,
                tally,
                squeezed: (way.level.is_some() && !way.gives_way)
                    .then(|| (draft.content_len() as u64, took)),
                window,
            });
            if way.level.is_some() {
                lock(&self.shared.ladder).encoded(took, self.shared.now());
            }
            buffer.resize(buffer.len() + TAG_LENGTH, 0);
            if self.bodies.send(Body { number, buffer }).is_err() {
                return;
            }
            if way.compare.is_some() && on_window == way.far {
                match self.below(&draft, number, way.compare) {
                    Ok(below) => lock(&self.shared.ladder).compared(way, tally.body_bytes, below),
                    Err(error) => return self.shared.broken(Broken::Encode(error)),
                }
            }
        }
    }

    fn encode(
        &mut self,
        draft: &Draft,
        number: u64,
        level: Option<i32>,
        window: Option<&mut Packing>,
        out: &mut Vec<u8>,
    ) -> Result<Tally, EncodeError> {
        let (encoder, layout) = (&mut self.encoder, &*self.shared.layout);
        encoder.set_level(level);
        match window {
            Some(window) => encoder.encode_within(draft, number, layout, window, out),
            None => encoder.encode(draft, number, layout, out),
        }
    }

    /// How long the batch would have come out alone, at another level.
    fn below(
        &mut self,
        draft: &Draft,
        number: u64,
        level: Option<i32>,
    ) -> Result<u64, EncodeError> {
        let (encoder, layout) = (&mut self.encoder, &*self.shared.layout);
        self.alone.clear();
        encoder.set_level(level);
        let tally = encoder.encode(draft, number, layout, &mut self.alone)?;
        Ok(tally.body_bytes)
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
