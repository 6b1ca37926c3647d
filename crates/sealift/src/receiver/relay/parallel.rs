//! Writes a further channel: as it came, but for where each batch lies.

use std::io::{self, IoSlice, Write as _};

use crossbeam_channel as queue;
use sealift_pages::Entry;
use sealift_qemu::channel::WriteHalf;
use tokio::sync::mpsc::UnboundedSender;

use super::{Carried, Event};

/// Pieces that are gathered before they are written: a run of zeros may be longer than memory for their list.
const PIECES: usize = 1024;

pub(super) struct ParallelWriter {
    pub(super) channel: u16,
    pub(super) half: WriteHalf,
    pub(super) events: UnboundedSender<Event>,
}

impl ParallelWriter {
    pub(super) fn run(mut self, waiting: &queue::Receiver<Carried>) {
        if let Err(error) = self.carry(waiting) {
            let _ = self.events.send(Event::Broken {
                channel: self.channel,
                error,
            });
        }
    }

    /// A batch is written from where it lies: QEMU reads a packet's head, and then its pages straight into the guest.
    fn carry(&mut self, waiting: &queue::Receiver<Carried>) -> io::Result<()> {
        let mut zeros = Vec::new();
        while let Ok(Carried { batch, ticket, .. }) = waiting.recv() {
            zeros.resize(batch.page_size().bytes(), 0);
            let mut pieces = Vec::new();
            for entry in batch.entries() {
                match entry {
                    Entry::Opaque { bytes, .. } => pieces.push(IoSlice::new(bytes)),
                    Entry::Page { content, .. } => pieces.push(IoSlice::new(content)),
                    // Among a packet's pages one of zeros is a page like any other.
                    Entry::Zero { run, .. } => {
                        for _ in 0..run {
                            pieces.push(IoSlice::new(&zeros));
                            if pieces.len() >= PIECES {
                                self.write(&mut pieces)?;
                                pieces.clear();
                            }
                        }
                    }
                    Entry::Barrier => {}
                }
            }
            self.write(&mut pieces)?;
            ticket.finish();
        }
        Ok(())
    }

    fn write(&mut self, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = pieces;
        // Empty ones would look like an end that takes nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.half.write_vectored(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
        Ok(())
    }
}
