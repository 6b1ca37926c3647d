//! The threads that write pages into the guest's memory.
//!
//! ```text
//!   Placer ─▶ [jobs] ─▶ threads ─▶ guest's memory        a batch at a time each, in any order
//! ```
//!
//! Batches that put the same page are never with them at the same time: that is for the [`Placer`](super::Placer) to see to.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel as queue;
use sealift_pages::{Entry, Resolved};
use tokio::sync::mpsc::UnboundedSender;

use super::{Beside, Event, GuestMemory, PlacedBlocks, tell};
use crate::receiver::relay::Ticket;

/// Zeros that are written at once: a system call costs little beside so many, and they fit into a processor's cache.
const ZEROS: usize = 128 << 10;

/// A batch, and what of it is to be written.
pub(super) struct Job {
    pub(super) batch: Arc<Resolved>,
    pub(super) blocks: Arc<PlacedBlocks>,
    /// Runs of pages to be filled with zeros, in the order of the entries that want it.
    pub(super) zeros: Vec<Zeros>,
    pub(super) ticket: Ticket,
}

/// A run of pages to be filled with zeros, and the place among the batch's entries that it is for.
pub(super) struct Zeros {
    pub(super) entry: usize,
    pub(super) pages: Range<u64>,
}

/// The threads. Dropping it waits until they have ended: nothing is written any more then.
pub(super) struct Pool {
    jobs: Option<queue::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(
        threads: usize,
        memory: &Arc<dyn GuestMemory>,
        beside: &Beside,
        events: &UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (jobs, waiting) = queue::unbounded();
        let mut pool = Self {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for number in 0..threads.max(1) {
            let writer = Writer {
                memory: Arc::clone(memory),
                beside: beside.clone(),
                events: events.clone(),
                offsets: Vec::new(),
                zeros: vec![0; ZEROS],
            };
            let waiting = waiting.clone();
            let thread = thread::Builder::new()
                .name(format!("place-{number}"))
                .spawn(move || writer.run(&waiting))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(super) fn put(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // They end only with the queue, or when memory is lost, which they say.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Writer {
    memory: Arc<dyn GuestMemory>,
    beside: Beside,
    events: UnboundedSender<Event>,
    /// Of pages that are written together.
    offsets: Vec<u64>,
    zeros: Vec<u8>,
}

impl Writer {
    fn run(mut self, waiting: &queue::Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            if let Err(why) = self.write(&job) {
                if self.beside.lose(&why) {
                    tell(&self.events, Event::AccessLost(why));
                }
                return;
            }
            self.beside.end(job.batch.number());
            job.ticket.finish();
        }
    }

    /// Pages of one block that follow each other in the batch are written together.
    fn write(&mut self, job: &Job) -> Result<(), String> {
        let page = job.batch.page_size().bytes();
        let contents = job.batch.contents();
        let mut zeros = job.zeros.iter().peekable();
        let (mut block, mut from, mut at) = (0, 0, 0);
        for (number, entry) in job.batch.entries().enumerate() {
            match entry {
                Entry::Page { at: address, .. } => {
                    let placed = job.blocks.contains(address.block);
                    if !placed || address.block != block {
                        self.together(block, contents.get(from..at), page)?;
                        (block, from) = (address.block, at);
                    }
                    at += page;
                    if placed {
                        self.offsets.push(address.page * page as u64);
                    } else {
                        from = at;
                    }
                }
                Entry::Zero { first, .. } => {
                    self.together(block, contents.get(from..at), page)?;
                    from = at;
                    while let Some(zeros) = zeros.next_if(|zeros| zeros.entry == number) {
                        self.zeros(first.block, &zeros.pages, page)?;
                    }
                }
                Entry::Opaque { .. } | Entry::Barrier => {}
            }
        }
        self.together(block, contents.get(from..at), page)
    }

    /// Writes the pages that were gathered.
    fn together(&mut self, block: u16, contents: Option<&[u8]>, page: usize) -> Result<(), String> {
        if self.offsets.is_empty() {
            return Ok(());
        }
        let contents = contents.unwrap_or_default();
        let written = self.memory.write(block, &self.offsets, page, contents);
        self.offsets.clear();
        written
    }

    fn zeros(&self, block: u16, pages: &Range<u64>, page: usize) -> Result<(), String> {
        let mut offset = pages.start * page as u64;
        let end = pages.end * page as u64;
        while offset < end {
            let length = usize::try_from(end - offset).unwrap_or(ZEROS).min(ZEROS);
            let zeros = self.zeros.get(..length).unwrap_or_default();
            self.memory.write(block, &[offset], length, zeros)?;
            offset += length as u64;
        }
        Ok(())
    }
}
