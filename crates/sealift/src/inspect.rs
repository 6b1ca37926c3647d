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
mod device_state;
mod distinct;
mod lines;
mod other_channels;
mod report;
mod survey;

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sealift_stream::{ChannelKind, PageSize, main_channel, multifd, return_path};

use other_channels::{MultifdSurvey, ReturnSurvey};
use report::{MainReport, MultifdReport, Report, ReturnReport};
use survey::MainSurvey;

/// Show what a captured migration stream holds.
///
/// FILE is what QEMU sent through one channel: a main channel (`migrate "exec:cat > FILE"` makes one), a multifd channel, or a
/// return path; which of these is found out from its first bytes. Shown are the machine type, the sections in order with their sizes, the RAM
/// blocks, how many pages of each are zero, literal, duplicate or sent again, the passes over memory, and what zstd would make of
/// the pages. Any length of stream takes the same memory.
#[derive(clap::Args)]
#[command(after_help = "Examples:
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
            Self::Read(file, error) => write!(f, "cannot read {}: {error}", file.display()),
            Self::Write(error) => write!(f, "cannot write the report: {error}"),
            Self::NotAStream { file, first } if first.is_empty() => {
                write!(f, "{} is empty", file.display())
            }
            Self::NotAStream { file, first } => write!(
                f,
                "{} is not a migration stream of QEMU: it starts with \"{}\", not with \"QEVM\" or a multifd channel's magic, \
                 and is no return path",
                file.display(),
                first.escape_ascii()
            ),
        }
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
        Some(ChannelKind::Main) => source.main_channel(arguments.page_size).map(Report::Main),
        Some(ChannelKind::Multifd) => source.multifd(arguments.page_size).map(Report::Multifd),
        Some(ChannelKind::Other) if is_return_path(source.at_hand()) => {
            source.return_path().map(Report::ReturnPath)
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

/// A return path has no magic, but its first message is short and must be known.
fn is_return_path(mut first: &[u8]) -> bool {
    let mut parser = return_path::Parser::new();
    parser.pull(&mut first).is_some() && parser.surprise().is_none()
}

/// Bytes read at once: enough that system calls and the rest moved to the front (at most an item) do not count.
const AT_HAND: usize = 1 << 20;

/// The file, and as much of it as is at hand.
struct Source {
    file: Box<dyn Read>,
    buffer: Vec<u8>,
    progress: ProgressBar,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, length): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), None)
        } else {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let progress = match length {
            Some(length) if io::stderr().is_terminal() => ProgressBar::new(length).with_style(
                ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
            _ => ProgressBar::hidden(),
        };
        Ok(Self {
            file,
            buffer: Vec::with_capacity(AT_HAND),
            progress,
        })
    }

    fn at_hand(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads until the buffer is full; `false` at the file's end.
    fn fill(&mut self) -> io::Result<bool> {
        let room = AT_HAND - self.buffer.len();
        let read = self
            .file
            .by_ref()
            .take(room as u64)
            .read_to_end(&mut self.buffer)?;
        self.progress.inc(read as u64);
        Ok(read > 0)
    }

    /// Hands the file to `pull` until that takes no more, and returns what it left.
    fn each(&mut self, mut pull: impl FnMut(&mut &[u8]) -> Option<()>) -> io::Result<Vec<u8>> {
        loop {
            let mut rest = &self.buffer[..];
            while pull(&mut rest).is_some() {}
            let left = rest.len();
            let taken = self.buffer.len() - left;
            self.buffer.copy_within(taken.., 0);
            self.buffer.truncate(left);
            if !self.fill()? {
                self.progress.finish_and_clear();
                return Ok(std::mem::take(&mut self.buffer));
            }
        }
    }

    fn main_channel(&mut self, page_size: Option<PageSize>) -> io::Result<MainReport> {
        let new = main_channel::Parser::new;
        let mut parser = page_size.map_or_else(new, main_channel::Parser::with_page_size);
        let mut survey = MainSurvey::default();
        let rest = self.each(|input| {
            let item = parser.pull(input)?;
            survey.item(&item, &parser);
            Some(())
        })?;
        if let Some(item) = parser.finish(&rest) {
            survey.item(&item, &parser);
        }
        Ok(survey.report(&parser))
    }

    fn multifd(&mut self, page_size: Option<PageSize>) -> io::Result<MultifdReport> {
        let page_size = page_size.unwrap_or(PageSize::KIB_4);
        let mut parser = multifd::Parser::new(page_size);
        let mut survey = MultifdSurvey::new(page_size);
        let rest = self.each(|input| {
            survey.item(&parser.pull(input)?);
            Some(())
        })?;
        if let Some(item) = parser.finish(&rest) {
            survey.item(&item);
        }
        Ok(survey.report(&parser))
    }

    fn return_path(&mut self) -> io::Result<ReturnReport> {
        let mut parser = return_path::Parser::new();
        let mut survey = ReturnSurvey::default();
        let rest = self.each(|input| {
            survey.item(&parser.pull(input)?);
            Some(())
        })?;
        if let Some(item) = parser.finish(&rest) {
            survey.item(&item);
        }
        Ok(survey.report(&parser))
    }
}
