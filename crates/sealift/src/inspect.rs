//! `sealift inspect`: what a captured stream holds.
//!
//! ```text
//!  file ─▶ at hand (1 MiB) ─▶ parser ─▶ items ─▶ survey ─▶ report
//!                                         ├─ census: pages per block, by kind
//!                                         └─ device state: the channel's opaque end
//! ```
//!
//! Memory does not grow with the stream: the census samples what it cannot hold, and long lists are cut short and say so.

mod census;
mod description;
mod device_state;
mod distinct;
mod lines;
mod multifd_survey;
mod report;
mod return_survey;
mod source;
mod survey;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sealift_stream::{ChannelKind, PageSize, main_channel, multifd, return_path};

use multifd_survey::MultifdSurvey;
use report::{MainReport, MultifdReport, Report, ReturnReport};
use return_survey::ReturnSurvey;
use source::Source;
use survey::MainSurvey;

/// Show what a captured migration stream holds.
///
/// FILE is what QEMU sent through one channel: a main channel, a multifd channel, or a return path; which of these is found out
/// from its first bytes. Shown are the machine type, the sections in order with their sizes, the RAM blocks with their pages, the
/// passes over memory, and what zstd would make of the pages. Any length of stream takes the same memory.
#[derive(clap::Args)]
#[command(after_help = "\
Of a block's page records each is zero, literal, xbzrle (changes only) or compressed (by QEMU). Beside that it may be a
duplicate (a literal page with the content of an earlier one, at whatever address) or re-sent (the page had come before).
A count with ~ is an estimate: the stream was too large to count exactly. A pass is one walk upwards through memory; QEMU's
own dirty-sync-count counts something else.

To capture a main channel, in QEMU's monitor: migrate \"exec:cat > FILE\". The others pass between two QEMUs: put something
that copies both ways, such as socat -r, in between.

Examples:
  sealift inspect web1.stream
  sealift inspect --json web1.stream | jq .ram.blocks
  zstdcat web1.stream.zst | sealift inspect -")]
pub(crate) struct Arguments {
    /// The captured stream, or - for standard input.
    file: PathBuf,
    /// Print one JSON object for machines.
    #[arg(long)]
    json: bool,
    /// The guest's page size in KiB, where the stream does not tell it: a multifd channel, or a machine type that several
    /// architectures have.
    #[arg(long, value_name = "KIB", value_parser = page_size)]
    page_size: Option<PageSize>,
}

fn page_size(text: &str) -> Result<PageSize, String> {
    let kib: u32 = text.parse().map_err(|_| "not a number".to_owned())?;
    let bits = kib
        .checked_mul(1024)
        .filter(|bytes| bytes.is_power_of_two());
    bits.and_then(|bytes| PageSize::from_bits(bytes.trailing_zeros()))
        .ok_or_else(|| "one of 4, 8, 16, 32, 64".to_owned())
}

/// Why nothing could be shown.
pub(crate) enum Failure {
    /// The file could not be opened or read.
    Read(PathBuf, io::Error),
    /// The report could not be written.
    Write(io::Error),
    /// The file is not a channel of a migration.
    NotAStream { file: PathBuf, first: Vec<u8> },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(file, error) => write!(f, "cannot read {}: {error}", named(file)),
            Self::Write(error) => write!(f, "cannot write the report: {error}"),
            Self::NotAStream { file, first } => {
                let file = named(file);
                match &first[..] {
                    [] => write!(f, "{file} is empty"),
                    [0x28, 0xb5, 0x2f, 0xfd, ..] => write!(
                        f,
                        "{file} is compressed by zstd: zstdcat FILE | sealift inspect -"
                    ),
                    [0x1f, 0x8b, ..] => write!(
                        f,
                        "{file} is compressed by gzip: zcat FILE | sealift inspect -"
                    ),
                    first if first.starts_with(b"LibvirtQemud") => write!(
                        f,
                        "{file} was made by virsh save: a header of libvirt's stands before QEMU's stream"
                    ),
                    first if first.len() < ChannelKind::MAGIC_LEN => {
                        write!(f, "{file} is too short for a migration stream")
                    }
                    first => write!(
                        f,
                        "{file} is neither a main channel of a QEMU migration, nor a multifd channel, nor a return path: \
                         it starts with \"{}\"",
                        first.escape_ascii()
                    ),
                }
            }
        }
    }
}

/// The file as messages name it.
fn named(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut source = Source::open(&arguments.file)
        .map_err(|error| Failure::Read(arguments.file.clone(), error))?;
    let report = inspect(&mut source, arguments)?;
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        report.write_json(&mut out)
    } else {
        report.write_text(&mut out)
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough: `sealift inspect FILE | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::Write),
    }
}

fn inspect(source: &mut Source, arguments: &Arguments) -> Result<Report, Failure> {
    let read = |error| Failure::Read(arguments.file.clone(), error);
    source.fill().map_err(read)?;
    let kind = ChannelKind::detect(source.at_hand());
    let report = match kind {
        Some(ChannelKind::Main) => main_channel(source, arguments.page_size).map(Report::Main),
        Some(ChannelKind::Multifd) => multifd(source, arguments.page_size).map(Report::Multifd),
        Some(ChannelKind::Other) if is_return_path(source.at_hand()) => {
            return_path(source).map(Report::ReturnPath)
        }
        _ => {
            let first = source.at_hand();
            return Err(Failure::NotAStream {
                file: arguments.file.clone(),
                first: first[..first.len().min(16)].to_vec(),
            });
        }
    };
    report.map_err(read)
}

/// A return path has no magic: it is one if all that is at hand is understood.
fn is_return_path(mut first: &[u8]) -> bool {
    let mut parser = return_path::Parser::new();
    let mut messages = 0;
    while parser.pull(&mut first).is_some() {
        messages += 1;
    }
    messages > 0 && parser.surprise().is_none()
}

fn main_channel(source: &mut Source, page_size: Option<PageSize>) -> io::Result<MainReport> {
    let new = main_channel::Parser::new;
    let mut parser = page_size.map_or_else(new, main_channel::Parser::with_page_size);
    let mut survey = MainSurvey::default();
    let rest = source.each(|input| {
        let item = parser.pull(input)?;
        survey.item(&item, &parser);
        Some(())
    })?;
    if let Some(item) = parser.finish(&rest) {
        survey.item(&item, &parser);
    }
    Ok(survey.report(&parser))
}

fn multifd(source: &mut Source, page_size: Option<PageSize>) -> io::Result<MultifdReport> {
    let page_size = page_size.unwrap_or(PageSize::KIB_4);
    let mut parser = multifd::Parser::new(page_size);
    let mut survey = MultifdSurvey::new(page_size);
    let rest = source.each(|input| {
        survey.item(&parser.pull(input)?);
        Some(())
    })?;
    if let Some(item) = parser.finish(&rest) {
        survey.item(&item);
    }
    Ok(survey.report(&parser))
}

fn return_path(source: &mut Source) -> io::Result<ReturnReport> {
    let mut parser = return_path::Parser::new();
    let mut survey = ReturnSurvey::default();
    let rest = source.each(|input| {
        survey.item(&parser.pull(input)?);
        Some(())
    })?;
    if let Some(item) = parser.finish(&rest) {
        survey.item(&item);
    }
    Ok(survey.report(&parser))
}
