//! Reads the main channel: pages become records, what stands between them opaque bytes.
//!
//! ```text
//!  QEMU ─▶ Intake ─▶ Parser ─┬─ page, zero page ─┬─▶ Draft.page, .zero     copied once
//!                            │                   └─▶ Feed.mark             of a block that is read directly: only which page
//!                            └─ anything else ─────▶ Draft.opaque          as it stood
//!                                                      │ full, or QEMU pauses
//!                                                      ▼
//!                                                 Feed.submit              waits for the window
//! ```
//!
//! With direct access QEMU is read with the pace of the dirty map until it may stop the guest, and only held up between two sections. What it has written in the meantime is old
//! by then, and is read in one go, for its next word.
//!
//! At the end of RAM's last section a barrier goes in: the receiver lets nothing behind it through before both version maps are equal.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sealift_net::outbound::{Closed, Feed, Mark};
use sealift_pages::{Address, Draft, Full};
use sealift_qemu::channel::ReadOutcome;
use sealift_stream::main_channel::{Command, Content, Emitter, Item, Page, Parser, Section};
use tokio::sync::mpsc::UnboundedSender;

use super::intake::Intake;
use super::pace::Pace;
use super::parallel::Quiesce;
use super::prologue::{Prologue, Unsupported, refuse};
use super::tail::Tail;
use super::trust::{Distrust, Trust, Verdict};
use crate::receiver::stream_end::StreamEnd;

/// How long QEMU may pause before what has been gathered is sent: while the guest runs nothing waits for a page, and zstd wants
/// to see many at once.
const LINGER: Duration = Duration::from_millis(2);

/// What the reader of the main channel tells the session.
#[derive(Debug)]
pub(crate) enum Event {
    /// QEMU announces that the guest has stopped (10.0 and later).
    Stopping,
    /// A block was tried, and is not to be read directly: its pages come by the stream.
    Distrusted {
        /// The block's name.
        block: String,
        /// Why.
        why: Distrust,
    },
    /// RAM is over: no page will follow.
    RamEnded {
        /// Batches up to and with the barrier.
        batches: u64,
        /// The digest over the version map.
        versions: [u8; 32],
    },
    /// The guest's run state, as the device state has it.
    RunState(String),
    /// QEMU asks the destination to say this back.
    Ping(u32),
    /// The stream has come to its end, which its description is.
    Whole {
        /// Batches up to and with that.
        batches: u64,
    },
    /// QEMU closed the channel.
    Ended,
    /// The channel broke.
    Broken(io::Error),
    /// The guest migrates in a way that is not carried.
    Unsupported(Unsupported),
}

/// The thread that reads the main channel.
pub(crate) struct Ingest {
    parser: Parser,
    emitter: Emitter,
    /// An item's bytes, to be sent as they stood.
    scratch: Vec<u8>,
    draft: Draft,
    feed: Feed,
    page_bytes: u64,
    /// With direct access: which blocks have it.
    trust: Option<Trust>,
    /// Pages that are to be read, and were not told yet.
    marks: Vec<Mark>,
    pace: Arc<Pace>,
    quiesce: Arc<Quiesce>,
    events: UnboundedSender<Event>,
    place: Place,
    /// RAM's section.
    ram: Option<u32>,
    tail: Tail,
    /// Looks for the stream's end, for a session in which nobody else says that all has come.
    end: Option<StreamEnd>,
    /// Something has come since it was looked for.
    unlooked: bool,
}

/// A channel whose beginning was read.
pub(crate) struct Begun {
    intake: Intake,
    /// What was taken off it, to be sent first.
    bytes: Vec<u8>,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Pages come, the guest may run.
    Pages,
    /// Within the last section of RAM: the guest has stopped.
    LastPages,
    /// Device state.
    Devices,
}

/// Why the reader ends.
enum End {
    Broken(io::Error),
    Unsupported(Unsupported),
    /// The session has ended already.
    Closed,
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl Ingest {
    pub(crate) fn new(
        prologue: Prologue,
        draft: Draft,
        page_bytes: u64,
        feed: Feed,
        pace: Arc<Pace>,
        quiesce: Arc<Quiesce>,
        events: UnboundedSender<Event>,
    ) -> (Self, Begun) {
        let Prologue {
            intake,
            parser,
            emitter,
            bytes,
            ram,
            ..
        } = prologue;
        let ingest = Self {
            parser,
            emitter,
            scratch: Vec::new(),
            draft,
            feed,
            page_bytes,
            trust: None,
            marks: Vec::new(),
            pace,
            quiesce,
            events,
            place: Place::Pages,
            ram,
            tail: Tail::default(),
            end: None,
            unlooked: false,
        };
        (ingest, Begun { intake, bytes })
    }

    /// Tells when the stream has come to its end, which QEMU does not show by closing the channel: it waits for an answer.
    pub(crate) fn watching_for_the_end(self) -> Self {
        let end = Some(StreamEnd::default());
        Self { end, ..self }
    }

    /// Pages of the blocks that can be reached are read directly, once that was tried.
    pub(crate) fn reading_directly(self, trust: Option<Trust>) -> Self {
        Self { trust, ..self }
    }

    /// Reads to the end of the channel.
    pub(crate) fn run(mut self, begun: Begun) {
        let event = match self.carry(begun) {
            Ok(()) => Event::Ended,
            Err(End::Broken(error)) => Event::Broken(error),
            Err(End::Unsupported(what)) => Event::Unsupported(what),
            Err(End::Closed) => return,
        };
        self.tell(event);
    }

    fn tell(&self, event: Event) {
        // The session has ended when nobody listens.
        let _ = self.events.send(event);
    }

    fn carry(&mut self, begun: Begun) -> Result<(), End> {
        let Begun { mut intake, bytes } = begun;
        self.opaque(&bytes)?;
        loop {
            self.take_apart(&mut intake)?;
            match intake.read(self.patience()) {
                Ok(ReadOutcome::Bytes(_)) if intake.waited() => self.pace.caught_up(),
                Ok(ReadOutcome::Bytes(_)) => {}
                Ok(ReadOutcome::Quiet) => {
                    self.submit()?;
                    self.look_for_the_end();
                }
                Ok(ReadOutcome::End) => {
                    self.finish(intake.bytes())?;
                    self.look_for_the_end();
                    return Ok(());
                }
                Err(error) => return Err(End::Broken(error)),
            }
        }
    }

    /// How long to wait for more before sending what is there.
    fn patience(&self) -> Option<Duration> {
        match self.place {
            _ if self.unlooked => Some(Duration::ZERO),
            _ if self.draft.is_empty() => None,
            Place::Pages => Some(LINGER),
            Place::LastPages | Place::Devices => Some(Duration::ZERO),
        }
    }

    fn finish(&mut self, rest: &[u8]) -> Result<(), End> {
        if let Some(item) = self.parser.finish(rest) {
            self.emitter.emit(&item, &mut self.scratch);
            self.flush_scratch()?;
        }
        self.submit()
    }

    /// Nothing more is there to be read: if what has come is a whole stream, it is over.
    fn look_for_the_end(&mut self) {
        self.unlooked = false;
        if self.end.take_if(|end| end.found().is_some()).is_some() {
            self.tell(Event::Whole {
                batches: self.feed.batches(),
            });
        }
    }

    fn take_apart(&mut self, intake: &mut Intake) -> Result<(), End> {
        let mut rest = intake.bytes();
        while let Some(item) = self.parser.pull(&mut rest) {
            self.item(&item)?;
        }
        let left = rest.len();
        intake.keep(left);
        self.tell_marks()
    }

    fn item(&mut self, item: &Item<'_>) -> Result<(), End> {
        if let Item::Page(page) = item {
            return self.page(page);
        }
        match item {
            Item::Command(Command::SwitchoverStart) => self.tell(Event::Stopping),
            Item::Command(Command::Ping(value)) => self.tell(Event::Ping(*value)),
            Item::Command(command) => refuse(command).map_err(End::Unsupported)?,
            Item::Section(Section::End(id)) if Some(*id) == self.ram => {
                self.place = Place::LastPages;
            }
            _ => {}
        }
        // What is not understood comes after RAM, or hides it: either way no page will be recognised from here on.
        if matches!(item, Item::Opaque(_)) && self.place != Place::Devices {
            self.ram_over()?;
        }
        // Before the mark that ends RAM: a receiver that gives pages to QEMU by the stream needs to have them there.
        if matches!(item, Item::RamEnd) && self.place == Place::LastPages {
            self.drain()?;
        }
        self.emitter.emit(item, &mut self.scratch);
        self.flush_scratch()?;
        match item {
            Item::RamEnd => {
                self.round(|pace| pace.section_ended())?;
                if self.place == Place::LastPages {
                    self.ram_over()?;
                }
            }
            Item::Footer(id) if Some(*id) == self.ram && self.place == Place::Pages => {
                self.keep_pace()?;
            }
            Item::Opaque(bytes) => {
                if let Some(state) = self.tail.run_state(bytes) {
                    self.tell(Event::RunState(state));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn page(&mut self, page: &Page<'_>) -> Result<(), End> {
        let at = Address {
            // The list of blocks was admitted with at most 1,024.
            block: u16::try_from(page.block.index()).unwrap_or(u16::MAX),
            page: page.offset / self.page_bytes,
        };
        match page.content {
            Content::Zero => {
                self.round(|pace| pace.page(at, true))?;
                if self.is_direct(at.block) {
                    self.mark(at, true);
                    return Ok(());
                }
                self.put(|draft| draft.zero(at))
            }
            Content::Whole(bytes) => {
                self.round(|pace| pace.page(at, false))?;
                if self.is_direct(at.block) {
                    self.mark(at, false);
                    return Ok(());
                }
                self.put(|draft| draft.page(at, bytes))?;
                self.compare(at, bytes)
            }
            // Not pages yet: QEMU at the other end makes them of its own. The block is always named, for the parser there has not seen
            // the pages in between.
            Content::Xbzrle(_) | Content::Zlib(_) => {
                self.round(|pace| pace.page(at, false))?;
                self.feed.pages_are_qemus();
                let named = Page {
                    named: true,
                    ..*page
                };
                self.emitter.emit(&Item::Page(named), &mut self.scratch);
                self.flush_scratch()
            }
        }
    }

    fn is_direct(&self, block: u16) -> bool {
        let trust = self.trust.as_ref();
        trust.is_some_and(|trust| trust.is_direct(block))
    }

    fn compare(&mut self, at: Address, content: &[u8]) -> Result<(), End> {
        let trust = self.trust.as_mut();
        match trust.and_then(|trust| trust.compare(at, content)) {
            Some(Verdict::Distrusted(why)) => {
                let blocks = self.parser.blocks();
                let name = blocks.iter().nth(usize::from(at.block));
                let name = name.map(|block| block.name().to_string());
                self.tell(Event::Distrusted {
                    block: name.unwrap_or_default(),
                    why,
                });
            }
            // Contents of its pages that wait in the draft need their number before any of them is marked: of two batches with the same page the
            // higher one's content counts, and QEMU may name a page again within one section.
            Some(Verdict::Trusted) => self.submit()?,
            None => {}
        }
        Ok(())
    }

    /// Its content is read when it is sent.
    fn mark(&mut self, at: Address, zero: bool) {
        match self.marks.last_mut() {
            Some(last)
                if last.zero == zero
                    && last.first.block == at.block
                    && last.first.page + last.run == at.page =>
            {
                last.run += 1;
            }
            _ => self.marks.push(Mark {
                first: at,
                run: 1,
                zero,
            }),
        }
    }

    fn tell_marks(&mut self) -> Result<(), End> {
        if !self.marks.is_empty() {
            self.feed.mark(&self.marks)?;
            self.marks.clear();
        }
        Ok(())
    }

    /// Counts what QEMU has written. When it begins to walk through memory anew, what is dirty is a round older.
    fn round(&mut self, count: impl Fn(&Pace) -> bool) -> Result<(), End> {
        if count(&self.pace) {
            // They belong to the round that has ended.
            self.tell_marks()?;
            self.feed.round();
        }
        Ok(())
    }

    /// Between two sections, where nothing waits for QEMU: while much is dirty it is not read on.
    fn keep_pace(&mut self) -> Result<(), End> {
        if self.trust.is_none() {
            return Ok(());
        }
        self.tell_marks()?;
        if self.feed.has_appetite() {
            return Ok(());
        }
        self.submit()?;
        self.pace.fell_behind();
        Ok(self.feed.wait_for_appetite()?)
    }

    /// The guest stands still, and QEMU has named its last page: all that is dirty goes.
    fn drain(&mut self) -> Result<(), End> {
        self.submit()?;
        self.tell_marks()?;
        Ok(self.feed.drain()?)
    }

    fn ram_over(&mut self) -> Result<(), End> {
        self.drain()?;
        self.quiesce.wait();
        self.put(Draft::barrier)?;
        self.submit()?;
        self.place = Place::Devices;
        self.tell(Event::RamEnded {
            batches: self.feed.batches(),
            versions: self.feed.versions(),
        });
        Ok(())
    }

    /// Puts something into the draft; sends that first when it is full.
    fn put(&mut self, put: impl Fn(&mut Draft) -> Result<(), Full>) -> Result<(), End> {
        if put(&mut self.draft) == Err(Full) {
            self.submit()?;
            // An empty draft has room for anything.
            let _ = put(&mut self.draft);
        } else if self.draft.content_len() >= self.pace.batch_bytes() {
            self.submit()?;
        }
        Ok(())
    }

    fn flush_scratch(&mut self) -> Result<(), End> {
        let scratch = std::mem::take(&mut self.scratch);
        if let (Place::Devices, Some(end)) = (self.place, &mut self.end) {
            end.pass(&scratch);
            self.unlooked = true;
        }
        let sent = self.opaque(&scratch);
        self.scratch = scratch;
        self.scratch.clear();
        sent
    }

    fn opaque(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            match self.draft.opaque(MAIN, bytes) {
                Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
                Err(Full) => self.submit()?,
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), End> {
        if !self.draft.is_empty() {
            // It may have to wait.
            self.pace.fell_behind();
            self.feed.submit(&mut self.draft)?;
        }
        Ok(())
    }
}

/// The main channel's number in records.
const MAIN: u16 = 0;
