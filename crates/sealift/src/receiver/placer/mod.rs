//! Writes pages into the guest's memory at this host, in parallel, and gives QEMU the rest of its stream.
//!
//! ```text
//!  sequencer ─▶ Placer ─┬─ pages of placed blocks ─▶ threads ─▶ guest's memory
//!                       └─ everything else ────────▶ relay ───▶ QEMU
//!
//!   a block:  by the stream ── reachable, and its first pages are found there ──▶ placed
//!                  ▲                                                                │
//!                  └────────── QEMU itself has to load pages, as with xbzrle ───────┘
//! ```
//!
//! What keeps this right:
//! - A batch is not put over pages of earlier ones before these are in place; the sequencer knows from its version map which they are.
//! - A block changes over between two batches, and only once QEMU has loaded all of it that it was given: a pong says so. Back it changes once
//!   everything is in place.
//! - The relay's barrier waits until everything before it is in place: QEMU loads device state against memory.
//! - Zeros are left out where memory was never touched, and written where it was.

mod beside;
mod check;
mod filled;
mod pongs;
mod pool;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use sealift_net::inbound::Placement;
use sealift_pages::{Address, Entry, PageSize, Resolved};
use tokio::sync::mpsc::UnboundedSender;

use super::relay::{self, Carried, MAIN, Relay, Ticket};
pub(crate) use beside::{Beside, Ended};
use check::Samples;
use filled::Filled;
pub(crate) use pongs::Pongs;
use pool::{Job, Pool, Zeros};
use watch::Watch;

/// A guest's memory, as it can be reached from outside its QEMU. Errors are in words: whose fault it is, and what to do.
pub(crate) trait GuestMemory: Send + Sync {
    /// Whether there is a way to this block.
    fn is_reachable(&self, block: u16) -> bool;
    /// Reads a part of a block.
    fn read(&self, block: u16, offset: u64, into: &mut [u8]) -> Result<(), String>;
    /// Writes pages of so many bytes each at these offsets.
    fn write(&self, block: u16, offsets: &[u64], page: usize, from: &[u8]) -> Result<(), String>;
    /// What of a block may hold something else than zeros.
    fn populated(&self, block: u16) -> Result<Vec<Range<u64>>, String>;
}

/// The blocks that are placed.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlacedBlocks(Vec<bool>);

impl PlacedBlocks {
    /// Whether this one is.
    pub(crate) fn contains(&self, block: u16) -> bool {
        self.0.get(usize::from(block)).copied().unwrap_or(false)
    }

    fn any(&self) -> bool {
        self.0.contains(&true)
    }
}

/// What the placer tells the session.
#[derive(Debug)]
pub(crate) enum Event {
    /// From here on these blocks' pages are written into the guest's memory: any newest content of theirs can be named, however old.
    Placing {
        /// Their numbers, ascending.
        blocks: Vec<u16>,
    },
    /// A block that could be reached goes through the stream all the same.
    LeftToStream {
        /// Its number.
        block: u16,
        /// Why.
        why: String,
    },
    /// The guest's memory was reached, and cannot be any more: why, and what to do.
    AccessLost(String),
}

/// Places batches.
pub(crate) struct Placer {
    // Dropped first: nothing is written once the rest is gone.
    pool: Pool,
    relay: Relay,
    beside: Beside,
    pongs: Pongs,
    watch: Watch,
    memory: Arc<dyn GuestMemory>,
    blocks: Vec<Block>,
    placed: Arc<PlacedBlocks>,
    page_bytes: u64,
    past_barrier: bool,
    events: UnboundedSender<Event>,
}

/// A RAM block.
struct Block {
    pages: u64,
    way: Way,
}

/// How its pages go.
enum Way {
    /// Through QEMU.
    Stream,
    /// Through QEMU, until some were found where they are looked for.
    Checking(Samples),
    /// Into memory.
    Placed(Filled),
}

/// What a placer needs.
pub(crate) struct Plan {
    pub(crate) memory: Arc<dyn GuestMemory>,
    pub(crate) page_size: PageSize,
    /// Pages of each block.
    pub(crate) pages: Vec<u64>,
    /// Threads that write.
    pub(crate) threads: usize,
    pub(crate) pongs: Pongs,
}

/// What there is to do with a batch.
#[derive(Default)]
struct Sorted {
    /// Some of it is written into memory.
    direct: bool,
    /// Some of it is given to QEMU.
    relayed: bool,
    zeros: Vec<Zeros>,
}

impl Placer {
    /// Starts the threads. `relay` must be one that waits for what is `beside` it.
    pub(crate) fn start(
        plan: Plan,
        relay: Relay,
        beside: Beside,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let blocks = (0..).zip(&plan.pages).map(|(block, &pages)| Block {
            pages,
            way: match plan.memory.is_reachable(block) {
                true => Way::Checking(Samples::default()),
                false => Way::Stream,
            },
        });
        let blocks: Vec<_> = blocks.collect();
        Ok(Self {
            pool: Pool::start(plan.threads, &plan.memory, &beside, &events)?,
            placed: Arc::new(PlacedBlocks(vec![false; blocks.len()])),
            relay,
            beside,
            pongs: plan.pongs,
            watch: Watch::new(plan.page_size),
            memory: plan.memory,
            blocks,
            page_bytes: plan.page_size.bytes() as u64,
            past_barrier: false,
            events,
        })
    }

    /// Looks at what the stream says, before any of the batch is placed.
    fn look(&mut self, batch: &Resolved, channel: u16) -> Result<(), String> {
        if channel != MAIN {
            let pages = |entry| matches!(entry, Entry::Page { .. } | Entry::Zero { .. });
            if batch.entries().any(pages) {
                self.leave_to_the_stream("memory comes over several channels")?;
            }
            return Ok(());
        }
        for entry in batch.entries() {
            if let Entry::Opaque { bytes, .. } = entry {
                self.watch.see(bytes);
            }
        }
        match self.watch.refusal() {
            Some(why) => self.leave_to_the_stream(why),
            None => Ok(()),
        }
    }

    /// From here on everything goes through QEMU: what was placed is in place before that.
    fn leave_to_the_stream(&mut self, why: &str) -> Result<(), String> {
        if self.placed.any() {
            self.beside.wait_all()?;
            self.placed = Arc::default();
        }
        self.leave(why, |way| !matches!(way, Way::Stream));
        Ok(())
    }

    fn leave(&mut self, why: &str, which: impl Fn(&Way) -> bool) {
        for (number, block) in (0..).zip(&mut self.blocks) {
            if which(&block.way) {
                block.way = Way::Stream;
                let why = why.to_owned();
                tell(&self.events, Event::LeftToStream { block: number, why });
            }
        }
    }

    /// Says where each entry goes, and notes what becomes of memory by it.
    fn sort(&mut self, batch: &Resolved) -> Result<Sorted, String> {
        let mut sorted = Sorted::default();
        let mut runs = Vec::new();
        for (number, entry) in batch.entries().enumerate() {
            let (first, run, content) = match entry {
                Entry::Zero { first, run, .. } => (first, run, None),
                Entry::Page { at, content, .. } => (at, 1, Some(content)),
                Entry::Opaque { .. } => {
                    sorted.relayed = true;
                    continue;
                }
                Entry::Barrier => {
                    self.past_barrier = true;
                    sorted.relayed = true;
                    continue;
                }
            };
            let block = self.blocks.get_mut(usize::from(first.block));
            let way = block.map(|block| &mut block.way);
            if let Some(Way::Placed(filled)) = way {
                if self.past_barrier {
                    return Err(
                        "a page that comes after memory was compared; the source is at fault"
                            .to_owned(),
                    );
                }
                sorted.direct = true;
                if content.is_some() {
                    filled.fill(first.page, run);
                } else {
                    filled.clear(first.page, run, &mut runs);
                    let zeros = runs.drain(..).map(|pages| Zeros {
                        entry: number,
                        pages,
                    });
                    sorted.zeros.extend(zeros);
                }
                continue;
            }
            sorted.relayed = true;
            if let Some(Way::Checking(samples)) = way {
                match content {
                    Some(content) => samples.page(first.page, content),
                    None => samples.zeros(first.page, run),
                }
            }
        }
        // An empty one is acknowledged on its way as well.
        sorted.relayed |= !sorted.direct;
        Ok(sorted)
    }

    /// Compares, when there is enough to compare, and lets the blocks that are found change over.
    fn check(&mut self) -> Result<(), String> {
        if let Some(why) = self.watch.no_ping() {
            self.leave(why, |way| matches!(way, Way::Checking(_)));
            return Ok(());
        }
        let ready =
            |block: &Block| matches!(&block.way, Way::Checking(samples) if samples.suffice());
        if !self.watch.takes_ping() || !self.blocks.iter().any(ready) {
            return Ok(());
        }
        let number = self.pongs.next();
        self.relay.ping(number);
        if !self.pongs.wait(number).map_err(Ended::from)? {
            return Err("the destination's QEMU closed its channel before it had loaded the first pages; its log says why".to_owned());
        }
        let mut changed = Vec::new();
        let mut placed = PlacedBlocks::clone(&self.placed);
        for ((number, block), placed) in (0..).zip(&mut self.blocks).zip(&mut placed.0) {
            let Way::Checking(samples) = &block.way else {
                continue;
            };
            if !samples.suffice() {
                continue;
            }
            let compared = samples.compare(&*self.memory, number);
            let found = compared.and_then(|()| self.memory.populated(number));
            match found {
                Ok(populated) => {
                    let filled = Filled::new(block.pages, self.page_bytes, &populated);
                    block.way = Way::Placed(filled);
                    *placed = true;
                    changed.push(number);
                }
                Err(why) => {
                    block.way = Way::Stream;
                    tell(&self.events, Event::LeftToStream { block: number, why });
                }
            }
        }
        if !changed.is_empty() {
            self.placed = Arc::new(placed);
            tell(&self.events, Event::Placing { blocks: changed });
        }
        Ok(())
    }
}

/// The session has ended when nobody listens.
fn tell(events: &UnboundedSender<Event>, event: Event) {
    let _ = events.send(event);
}

impl Placement for Placer {
    fn place(&mut self, batch: Arc<Resolved>, over: Option<u64>) -> Result<(), String> {
        let channel = relay::channel(&batch)?;
        self.look(&batch, channel)?;
        let sorted = self.sort(&batch)?;
        let parts = u8::from(sorted.direct) + u8::from(sorted.relayed);
        let ticket = Ticket::new(&batch, parts, self.beside.placed());
        if sorted.direct {
            if let Some(over) = over {
                self.beside.wait_up_to(over)?;
            }
            self.beside.begin(batch.number());
            self.pool.put(Job {
                batch: Arc::clone(&batch),
                blocks: Arc::clone(&self.placed),
                zeros: sorted.zeros,
                ticket: ticket.clone(),
            });
        }
        if sorted.relayed {
            let left_out = Arc::clone(&self.placed);
            let carried = Carried {
                batch,
                left_out,
                ticket,
            };
            self.relay.carry(channel, carried)?;
        }
        self.check()
    }

    fn content(&mut self, page: Address, batch: u64, into: &mut [u8]) -> Result<bool, String> {
        if !self.placed.contains(page.block) {
            return Ok(false);
        }
        self.beside.wait_up_to(batch)?;
        let offset = page.page * self.page_bytes;
        self.memory.read(page.block, offset, into)?;
        Ok(true)
    }
}
