//! Writes the main channel: records become pages again, at their places in the stream.
//!
//! ```text
//!  [jobs] ─▶ Weaver ─▶ gathered ─▶ QEMU        pages of blocks that are placed beside the stream are left out
//!                                    ▲
//!                 barrier: until all is in place, and the session is content
//!                 end: until the guest is this host's, where QEMU decides by it
//! ```

use std::io::{self, Write as _};

use crossbeam_channel as queue;
use sealift_pages::{Address, Entry, Resolved};
use sealift_qemu::channel::WriteHalf;
use sealift_stream::main_channel::{Content, Misplaced, Weaver};
use tokio::sync::mpsc::UnboundedSender;

use super::{Carried, Event, Job, MAIN, Permit};
use crate::receiver::placer::{Beside, PlacedBlocks};
use crate::receiver::stream_end::StreamEnd;

/// Bytes that are gathered before they are written: QEMU's socket takes about 200 KiB at once.
const WRITE: usize = 128 << 10;

pub(super) struct MainWriter {
    pub(super) half: WriteHalf,
    pub(super) page_bytes: u64,
    /// Puts pages and the bytes between them together.
    pub(super) weaver: Weaver,
    pub(super) out: Vec<u8>,
    pub(super) held: Option<StreamEnd>,
    pub(super) past_barrier: bool,
    /// What is placed beside the stream.
    pub(super) beside: Beside,
    pub(super) permitted: queue::Receiver<Permit>,
    pub(super) events: UnboundedSender<Event>,
}

/// Why a writer ends.
pub(super) enum End {
    /// The session has ended.
    Closed,
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl MainWriter {
    pub(super) fn run(mut self, waiting: &queue::Receiver<Job>) {
        if let Err(End::Broken(error)) = self.carry(waiting) {
            let _ = self.events.send(Event::Broken {
                channel: MAIN,
                error,
            });
        }
    }

    fn carry(&mut self, waiting: &queue::Receiver<Job>) -> Result<(), End> {
        while let Ok(job) = waiting.recv() {
            let Carried {
                batch,
                left_out,
                ticket,
            } = match job {
                Job::Batch(carried) => carried,
                Job::Ping(number) => {
                    self.weaver
                        .ping(number, &mut self.out)
                        .map_err(|Misplaced| io::Error::other("a ping where none can stand"))?;
                    self.flush()?;
                    continue;
                }
            };
            self.batch(&batch, &left_out)?;
            self.flush()?;
            ticket.finish();
            if let Some(held) = &mut self.held
                && let Some(before) = held.found()
            {
                self.half.write_all(&before)?;
                let _ = self.events.send(Event::HoldsEnd);
                self.wait_for(Permit::End)?;
                if let Some(held) = self.held.take() {
                    self.half.write_all(held.bytes())?;
                }
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Resolved, left_out: &PlacedBlocks) -> Result<(), End> {
        for entry in batch.entries() {
            match entry {
                Entry::Zero { first, .. } | Entry::Page { at: first, .. }
                    if left_out.contains(first.block) => {}
                Entry::Zero { first, run, .. } => {
                    for place in 0..run {
                        let page = first.page + place;
                        self.page(Address { page, ..first }, Content::Zero)?;
                    }
                }
                Entry::Page { at, content, .. } => self.page(at, Content::Whole(content))?,
                Entry::Opaque { bytes, .. } => {
                    self.weaver.bytes(bytes, &mut self.out);
                    self.flush_when_full()?;
                }
                Entry::Barrier => self.barrier(batch.number())?,
            }
        }
        Ok(())
    }

    fn page(&mut self, at: Address, content: Content<'_>) -> Result<(), End> {
        if self.past_barrier {
            return Err(End::Broken(io::Error::other(
                "a page that comes after memory was compared; the source is at fault",
            )));
        }
        let Some(block) = self.weaver.blocks().id(usize::from(at.block)) else {
            return Err(End::Broken(io::Error::other(
                "a page of a RAM block that the guest's stream does not list; the source is at fault",
            )));
        };
        let offset = at.page * self.page_bytes;
        let woven = self.weaver.page(block, offset, content, &mut self.out);
        woven.map_err(|Misplaced| {
            io::Error::other(
                "a page in the middle of something else of the guest's stream; the source is at fault",
            )
        })?;
        self.flush_when_full()
    }

    /// Everything before it is written; what comes after it may only go on once the session is content.
    fn barrier(&mut self, number: u64) -> Result<(), End> {
        if std::mem::replace(&mut self.past_barrier, true) {
            return Ok(());
        }
        self.weaver.settle(&mut self.out);
        self.flush()?;
        // Device state is loaded against memory: also what does not come this way is there by then.
        if self.beside.wait_before(number).is_err() {
            return Err(End::Closed);
        }
        let _ = self.events.send(Event::AtBarrier {
            batches: number + 1,
        });
        self.wait_for(Permit::Devices)
    }

    fn wait_for(&self, wanted: Permit) -> Result<(), End> {
        match self.permitted.recv() {
            Ok(permit) if permit == wanted => Ok(()),
            _ => Err(End::Closed),
        }
    }

    fn flush_when_full(&mut self) -> Result<(), End> {
        if self.out.len() >= WRITE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        match &mut self.held {
            Some(held) if self.past_barrier => self.half.write_all(&held.pass(&self.out))?,
            _ => self.half.write_all(&self.out)?,
        }
        self.out.clear();
        Ok(())
    }
}
