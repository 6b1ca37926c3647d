//! The beginning of a guest's stream, up to its list of RAM blocks: what admission needs to know.
//!
//! ```text
//!  QEVM 3 · configuration · commands · START "ram" · blocks │ pages …
//!  └──────────────── read here, sent with the first batch ──┘
//! ```

use std::io;
use std::time::{Duration, Instant};

use sealift::outcome::{Ending, Fault, Kind};
use sealift_qemu::channel::{ReadHalf, ReadOutcome};
use sealift_stream::PageSize;
use sealift_stream::main_channel::{Command, Emitter, Item, Parser, Section, Setting};

use super::intake::Intake;

/// How long QEMU may take from its connection to the list of its RAM blocks. It writes both at once; a guest with many devices that are
/// set up first, or a host that swaps, takes seconds.
const WITHIN: Duration = Duration::from_secs(30);

/// What the guest's stream says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The machine type, with its version.
    pub(crate) machine: Option<String>,
    /// The guest's UUID, when QEMU was asked to check it.
    pub(crate) uuid: Option<[u8; 16]>,
    /// The guest's page size.
    pub(crate) page_size: Option<PageSize>,
    /// Name, used length and the size of the pages behind it. Empty when the stream is not understood.
    pub(crate) blocks: Vec<Block>,
    /// QEMU waits for the destination's word before it completes.
    pub(crate) return_path: bool,
    /// What QEMU has asked the destination to say back.
    pub(crate) pings: Vec<u32>,
}

/// A RAM block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    pub(crate) name: Vec<u8>,
    pub(crate) used: u64,
    pub(crate) host_page: Option<u64>,
}

/// Why a stream does not begin.
#[derive(Debug)]
pub(crate) enum NoPrologue {
    /// QEMU closed the channel.
    Ended,
    /// QEMU wrote nothing for so long.
    Silent(Duration),
    /// The channel broke.
    Broken(io::Error),
    /// The guest is set to migrate in a way that sealift does not carry.
    Unsupported(Unsupported),
}

/// A way of migrating that would take the hand-off out of sealift's hands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unsupported {
    /// `postcopy-ram`.
    PostCopy,
    /// `x-colo`.
    Colo,
    /// More channels than a receiver has memory for.
    Channels,
}

impl Unsupported {
    /// What it is, and what to do.
    pub(crate) const fn explanation(self) -> &'static str {
        match self {
            Self::PostCopy => {
                "the guest is set to migrate with postcopy-ram, which sealift does not carry: the destination would run it \
                 before its memory is there; switch the capability off"
            }
            Self::Colo => {
                "the guest is set to migrate with x-colo, which sealift does not carry: two hosts would run it at once; \
                 switch the capability off"
            }
            Self::Channels => {
                "QEMU has opened more channels than sealift carries: set multifd-channels to 31 at most"
            }
        }
    }
}

/// The stream's beginning, and the reader in the middle of it.
#[derive(Debug)]
pub(crate) struct Prologue {
    pub(crate) facts: Facts,
    pub(crate) intake: Intake,
    /// Takes the rest of the stream apart.
    pub(crate) parser: Parser,
    /// Writes what goes on as bytes; it knows the blocks already.
    pub(crate) emitter: Emitter,
    /// The bytes up to here.
    pub(crate) bytes: Vec<u8>,
    /// The number of RAM's section.
    pub(crate) ram: Option<u32>,
}

impl Prologue {
    /// Reads up to the end of the list.
    pub(crate) fn read(half: ReadHalf) -> Result<Self, NoPrologue> {
        let deadline = Instant::now() + WITHIN;
        let mut this = Self {
            facts: Facts::default(),
            intake: Intake::new(half),
            parser: Parser::new(),
            emitter: Emitter::new(),
            bytes: Vec::new(),
            ram: None,
        };
        let mut listed = Listed::NotYet;
        loop {
            let mut rest = this.intake.bytes();
            while let Some(item) = this.parser.pull(&mut rest) {
                if let Item::Section(Section::Start(section)) = &item
                    && section.name.as_bytes() == b"ram"
                {
                    this.ram = Some(section.id);
                }
                note(&item, &mut this.facts, &mut listed).map_err(NoPrologue::Unsupported)?;
                this.emitter.emit(&item, &mut this.bytes);
                // A surprise before the list: nothing behind it will be understood.
                if listed == Listed::All || matches!(item, Item::Opaque(_)) {
                    break;
                }
            }
            let left = rest.len();
            this.intake.keep(left);
            if listed == Listed::All || this.parser.surprise().is_some() {
                this.facts.page_size = this.parser.page_size();
                return Ok(this);
            }
            let patience = deadline.saturating_duration_since(Instant::now());
            match this.intake.read(Some(patience)) {
                Ok(ReadOutcome::Bytes(_)) => {}
                Ok(ReadOutcome::Quiet) => return Err(NoPrologue::Silent(WITHIN)),
                Ok(ReadOutcome::End) => return Err(NoPrologue::Ended),
                Err(error) => return Err(NoPrologue::Broken(error)),
            }
        }
    }
}

/// How much of the list of blocks has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listed {
    NotYet,
    Left(u64),
    All,
}

fn note(item: &Item<'_>, facts: &mut Facts, listed: &mut Listed) -> Result<(), Unsupported> {
    match item {
        Item::Configuration(machine) => {
            facts.machine = Some(String::from_utf8_lossy(machine.as_bytes()).into_owned());
        }
        Item::Setting(Setting::Uuid(uuid)) => facts.uuid = Some(*uuid),
        Item::RamSize(total) => {
            *listed = match total {
                0 => Listed::All,
                total => Listed::Left(*total),
            };
        }
        Item::Block(block) => {
            facts.blocks.push(Block {
                name: block.name.as_bytes().to_vec(),
                used: block.used,
                host_page: block.host_page,
            });
            if let Listed::Left(left) = *listed {
                *listed = match left.saturating_sub(block.used) {
                    0 => Listed::All,
                    left => Listed::Left(left),
                };
            }
        }
        Item::Command(Command::OpenReturnPath) => facts.return_path = true,
        Item::Command(Command::Ping(value)) => facts.pings.push(*value),
        Item::Command(command) => refuse(command)?,
        _ => {}
    }
    Ok(())
}

/// Refuses commands after which the destination runs the guest before the source has let go of it.
pub(super) fn refuse(command: &Command<'_>) -> Result<(), Unsupported> {
    match command {
        // Without advice it is `dirty-bitmaps` alone that sends it.
        Command::PostcopyAdvise(Some(_)) | Command::PostcopyListen | Command::PostcopyRun => {
            Err(Unsupported::PostCopy)
        }
        Command::EnableColo => Err(Unsupported::Colo),
        _ => Ok(()),
    }
}

/// Reads the beginning of QEMU's stream, off the reactor.
pub(super) async fn read_prologue(read: ReadHalf) -> Result<Prologue, Ending> {
    let reading = tokio::task::spawn_blocking(move || Prologue::read(read));
    let prologue = reading
        .await
        .map_err(|error| Ending::because(Kind::StillAtSource, &error).fault(Fault::ThisHost))?;
    prologue.map_err(|why| no_prologue(&why))
}

/// QEMU must wait for the destination.
pub(super) fn needs_return_path(prologue: &Prologue) -> Result<(), Ending> {
    if !prologue.facts.return_path {
        let message = "QEMU migrates without a return path: it would not wait for the destination to have the guest";
        return Err(Ending::new(Kind::StillAtSource, message)
            .fault(Fault::User)
            .advice(
                "a small guest QEMU may have stopped before it saw that nobody takes it: cont runs it on; then switch the return path \
                 on, migrate_set_capability return-path on, or use sealift migrate",
            ));
    }
    Ok(())
}

fn no_prologue(why: &NoPrologue) -> Ending {
    let ending = |message: String| Ending::new(Kind::StillAtSource, message);
    match why {
        NoPrologue::Ended => {
            ending("QEMU closed its channel before it said which guest it is".to_owned())
                .fault(Fault::Guest)
                .advice("ask QEMU why: info migrate")
        }
        NoPrologue::Silent(waited) => ending(format!(
            "QEMU opened a channel and wrote nothing for {} s",
            waited.as_secs()
        ))
        .fault(Fault::Guest),
        NoPrologue::Broken(error) => {
            ending(format!("QEMU's channel broke: {error}")).fault(Fault::Guest)
        }
        NoPrologue::Unsupported(what) => ending(what.explanation().to_owned()).fault(Fault::User),
    }
}
