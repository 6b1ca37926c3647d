//! Reads a multifd channel: packets' heads are carried as they stand, their pages as records.
//!
//! A packet is never torn apart: a batch of such a channel begins with a packet's head or the like, which is what tells the receiver
//! where the pages behind it belong.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealift_net::outbound::Feed;
use sealift_pages::{Address, Draft, Full};
use sealift_qemu::channel::{ReadOutcome, WriteHalf};
use sealift_stream::multifd::{Item, Parser, RamPacket};

use super::intake::Intake;
use super::pace::Pace;

/// How long a channel may be quiet before what has been gathered is sent. QEMU fills packets of 512 KiB; a channel that is quiet waits
/// for the others.
const LINGER: Duration = Duration::from_millis(2);

/// The thread that reads a multifd channel.
pub(crate) struct Parallel {
    /// Kept: to drop it would end its direction, and QEMU might take that for the end of the migration.
    pub(crate) way_back: WriteHalf,
    pub(crate) channel: u16,
    pub(crate) parser: Parser,
    pub(crate) draft: Draft,
    pub(crate) feed: Feed,
    pub(crate) page_bytes: u64,
    /// The names of the admitted blocks.
    pub(crate) blocks: Arc<[Vec<u8>]>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) quiesce: Arc<Quiesce>,
}

impl Parallel {
    /// Reads to the end of the channel. How it ends is the main channel's business.
    pub(crate) fn run(mut self, intake: Intake) {
        // What comes over several channels no receiver writes into memory itself.
        self.feed.pages_are_qemus();
        // It ends early when the session has ended: nobody is left to be told.
        let _ = self.carry(intake);
        self.quiesce.leave(self.channel);
        drop(self.way_back);
    }

    fn carry(&mut self, mut intake: Intake) -> Option<()> {
        let mut block = None;
        loop {
            let mut rest = intake.bytes();
            while let Some(item) = self.parser.pull(&mut rest) {
                self.item(&item, &mut block)?;
            }
            let left = rest.len();
            intake.keep(left);
            let asked = self.quiesce.asked();
            match intake.read(Some(LINGER)).ok()? {
                ReadOutcome::Bytes(_) => {}
                // The rest of a packet is on its way, and its pages go into the batch that has its head.
                ReadOutcome::Quiet if left > 0 || !self.parser.between_packets() => {}
                ReadOutcome::Quiet => {
                    self.submit()?;
                    self.quiesce.report(self.channel, asked);
                }
                ReadOutcome::End => {
                    if let Some(item) = self.parser.finish(intake.bytes()) {
                        self.opaque(item.as_bytes())?;
                    }
                    return self.submit();
                }
            }
        }
    }

    fn item(&mut self, item: &Item<'_>, block: &mut Option<u16>) -> Option<()> {
        match item {
            Item::Ram(packet) => {
                *block = self.block(packet);
                let pages = packet.normal_pages().len();
                let head = item.as_bytes();
                let full = self.draft.content_len() >= self.pace.batch_bytes();
                if full || !self.draft.fits(pages, head.len()) {
                    self.submit()?;
                }
                if let Some(block) = *block {
                    let pages = packet.normal_pages().map(|offset| (offset, false));
                    let pages = pages.chain(packet.zero_pages().map(|offset| (offset, true)));
                    let at = |(offset, zero)| (self.address(block, offset), zero);
                    self.pace.pages(pages.map(at));
                }
                self.opaque(head)
            }
            Item::Page { offset, bytes } => match *block {
                Some(block) => {
                    let at = self.address(block, *offset);
                    self.draft.page(at, bytes).ok()
                }
                // Of a block that was not admitted: not for this end to judge.
                None => self.opaque(bytes),
            },
            _ => self.opaque(item.as_bytes()),
        }
    }

    fn address(&self, block: u16, offset: u64) -> Address {
        Address {
            block,
            page: offset / self.page_bytes,
        }
    }

    fn block(&self, packet: &RamPacket<'_>) -> Option<u16> {
        let name = packet.block()?;
        let place = self
            .blocks
            .iter()
            .position(|block| block == name.as_bytes())?;
        u16::try_from(place).ok()
    }

    fn opaque(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            match self.draft.opaque(self.channel, bytes) {
                Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
                Err(Full) => self.submit()?,
            }
        }
        Some(())
    }

    fn submit(&mut self) -> Option<()> {
        if !self.draft.is_empty() {
            self.feed.submit(&mut self.draft).ok()?;
        }
        Some(())
    }
}

/// Lets the main channel wait until all others have sent what QEMU gave them before it ended RAM.
///
/// QEMU has written every packet when it writes the end of RAM, so a channel that has nothing to read after that was seen has sent all.
#[derive(Debug, Default)]
pub(crate) struct Quiesce {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeSet<u16>,
    /// How often the main channel has asked.
    asked: u64,
    /// Who was quiet from then on.
    quiet: BTreeSet<u16>,
}

impl Quiesce {
    /// A channel takes part from here on.
    pub(crate) fn join(&self, channel: u16) {
        self.lock().members.insert(channel);
    }

    /// A channel has ended.
    pub(crate) fn leave(&self, channel: u16) {
        self.lock().members.remove(&channel);
        self.changed.notify_all();
    }

    /// To be noted before a channel looks whether there is anything to read.
    fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// There was nothing to read, and everything before was sent.
    fn report(&self, channel: u16, asked: u64) {
        let mut state = self.lock();
        if state.asked == asked {
            state.quiet.insert(channel);
            self.changed.notify_all();
        }
    }

    /// Waits until each channel was found quiet after this was called.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        state.asked += 1;
        state.quiet.clear();
        while !state.members.is_subset(&state.quiet) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_was_quiet_before_the_question_does_not_count() {
        let quiesce = Quiesce::default();
        quiesce.join(1);
        let before = quiesce.asked();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| quiesce.wait());
            while quiesce.asked() == before {
                std::thread::yield_now();
            }
            quiesce.report(1, before);
            assert!(quiesce.lock().quiet.is_empty());
            quiesce.report(1, quiesce.asked());
            waiting.join().unwrap();
        });
    }

    #[test]
    fn a_channel_that_has_ended_is_not_waited_for() {
        let quiesce = Quiesce::default();
        quiesce.join(1);
        quiesce.leave(1);
        quiesce.wait();
    }
}
