//! A thread that decodes and verifies, batch by batch, without anything in between.

use std::sync::Arc;

use crossbeam_channel as queue;
use sealift_pages::{Decoded, Decoder};

use super::{Broken, HELD_MAX, Job, Shared};

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) decoder: Decoder,
    pub(super) jobs: queue::Receiver<Job>,
    pub(super) decoded: queue::Sender<Decoded>,
    pub(super) empties: queue::Sender<Vec<u8>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        while let Ok(Job {
            number,
            buffer,
            length,
        }) = self.jobs.recv()
        {
            if self.shared.is_closed() {
                return;
            }
            // The lane has found so many bytes in it.
            let body = buffer.get(..length).unwrap_or(&buffer);
            let decoded = match self.decoder.decode(body, number, &self.shared.layout) {
                Ok(decoded) => decoded,
                Err(error) => return self.shared.broken(Broken::Decode(error)),
            };
            let held = self.shared.placed.hold(decoded.memory() as u64);
            self.shared.placed.free(length as u64);
            if held > HELD_MAX {
                return self.shared.broken(Broken::TooMuch { held });
            }
            // Enough buffers lie ready when the queue is full.
            let _ = self.empties.try_send(buffer);
            if self.decoded.send(decoded).is_err() {
                return;
            }
        }
    }
}
