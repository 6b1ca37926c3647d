//! A thread that decodes and verifies, batch by batch, without anything in between.

use std::sync::Arc;

use crossbeam_channel as queue;
use sealift_pages::{Body, Decoded, Decoder, Unpacking};

use super::{Broken, HELD_MAX, Job, Shared};

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) decoder: Decoder,
    pub(super) jobs: queue::Receiver<Job>,
    pub(super) decoded: queue::Sender<Decoded>,
    pub(super) empties: queue::Sender<Vec<u8>>,
}

/// The way in was closed, or is from now on.
struct Ended;

impl Worker {
    pub(super) fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            if self.take(job).is_err() {
                return;
            }
        }
    }

    /// Decodes a batch; one that goes on a window when it is its turn there, and then those that waited for it.
    fn take(&mut self, job: Job) -> Result<(), Ended> {
        let body = job.buffer.get(..job.length).unwrap_or(&job.buffer);
        let place = Body::parse(body, &self.shared.layout)
            .ok()
            .and_then(|body| body.window(&self.shared.layout, job.number));
        let Some(place) = place else {
            return self.decode(job, None);
        };
        let mut turn = match self.shared.windows.arrive(place, job) {
            Ok(turn) => turn,
            Err(refused) => {
                self.shared.broken(Broken::Decode(refused));
                return Err(Ended);
            }
        };
        while let Some((mut window, job)) = turn {
            self.decode(job, Some(&mut window))?;
            turn = self.shared.windows.give_back(window);
        }
        Ok(())
    }

    fn decode(&mut self, job: Job, window: Option<&mut Unpacking>) -> Result<(), Ended> {
        if self.shared.is_closed() {
            return Err(Ended);
        }
        let Job {
            number,
            buffer,
            length,
        } = job;
        let layout = &self.shared.layout;
        // The lane has found so many bytes in it.
        let body = buffer.get(..length).unwrap_or(&buffer);
        let decoded = match window {
            Some(window) => self.decoder.decode_within(body, number, layout, window),
            None => self.decoder.decode(body, number, layout),
        };
        let decoded = decoded.map_err(|error| {
            self.shared.broken(Broken::Decode(error));
            Ended
        })?;
        let held = self.shared.placed.hold(decoded.memory() as u64);
        self.shared.placed.free(length as u64);
        if held > HELD_MAX {
            self.shared.broken(Broken::TooMuch { held });
            return Err(Ended);
        }
        // Enough buffers lie ready when the queue is full.
        let _ = self.empties.try_send(buffer);
        self.decoded.send(decoded).map_err(|_| Ended)
    }
}
