//! What is shown, for people and for machines.

use std::io::{self, Write};

use sealift::figures::grouped;
use sealift_stream::{Cause, Surprise};
use serde::Serialize;

use super::census::{BlockLine, Ram};
use super::device_state::DeviceReport;
use super::lines::Lines;

/// What a channel holds.
#[derive(Serialize)]
#[serde(tag = "channel", rename_all = "kebab-case")]
pub(super) enum Report {
    Main(MainReport),
    Multifd(MultifdReport),
    ReturnPath(ReturnReport),
}

#[derive(Serialize)]
pub(super) struct MainReport {
    pub(super) bytes: u64,
    pub(super) machine: Option<String>,
    pub(super) page_size: Option<usize>,
    pub(super) settings: Lines<String>,
    pub(super) commands: Lines<String>,
    pub(super) sections: Lines<SectionLine>,
    pub(super) ram: Ram,
    pub(super) multifd_flushes: u64,
    pub(super) device_state: Option<DeviceReport>,
    pub(super) opaque: Option<Opaque>,
}

#[derive(Serialize)]
pub(super) struct MultifdReport {
    pub(super) bytes: u64,
    pub(super) number: Option<u8>,
    pub(super) uuid: Option<String>,
    pub(super) packets: u64,
    pub(super) syncs: u64,
    pub(super) compression: Option<&'static str>,
    pub(super) compressed_bytes: u64,
    pub(super) device_packets: u64,
    pub(super) device_bytes: u64,
    pub(super) ram: Ram,
    pub(super) opaque: Option<Opaque>,
}

#[derive(Serialize)]
pub(super) struct ReturnReport {
    pub(super) bytes: u64,
    pub(super) messages: Lines<String>,
    pub(super) opaque: Option<Opaque>,
}

/// Sections of one kind that follow each other.
#[derive(Debug, Serialize)]
pub(super) struct SectionLine {
    pub(super) kind: SectionKind,
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SectionKind {
    Start,
    Part,
    End,
    Full,
}

/// Where the channel stopped being understood.
#[derive(Serialize)]
pub(super) struct Opaque {
    /// `unknown`, `malformed` or `truncated`.
    cause: &'static str,
    at: u64,
    bytes: u64,
    expected: &'static str,
    found: String,
}

impl Opaque {
    /// Device state is no reason to speak of: every migration ends in it.
    pub(super) fn of(surprise: Option<&Surprise>, bytes: u64) -> Option<Self> {
        let surprise = surprise?;
        let cause = match surprise.cause {
            Cause::DeviceState => return None,
            Cause::Unknown => "unknown",
            Cause::Malformed => "malformed",
            Cause::Truncated => "truncated",
        };
        Some(Self {
            cause,
            at: surprise.offset,
            bytes,
            expected: surprise.expected,
            found: surprise.found.to_string(),
        })
    }
}

impl Report {
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Main(report) => report.write(out),
            Self::Multifd(report) => report.write(out),
            Self::ReturnPath(report) => report.write(out),
        }
    }
}

impl MainReport {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let machine = self.machine.as_deref().unwrap_or("an unnamed machine");
        writeln!(
            out,
            "main channel of {machine}, {} bytes",
            grouped(self.bytes)
        )?;
        write_list(out, "settings", &self.settings)?;
        write_list(out, "commands", &self.commands)?;
        self.write_sections(out)?;
        self.ram.write(out)?;
        let pages = |block: &BlockLine| block.counts.literal + block.counts.zero;
        if !self.ram.blocks.is_empty() && self.ram.blocks.iter().all(|block| pages(block) == 0) {
            writeln!(
                out,
                "no pages here: with multifd or x-ignore-shared they go another way"
            )?;
        }
        if self.multifd_flushes > 0 {
            writeln!(out, "multifd flushes: {}", grouped(self.multifd_flushes))?;
        }
        write_opaque(out, self.opaque.as_ref())
    }

    fn write_sections(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{:<48} {:>10} {:>16}", "sections", "count", "bytes")?;
        for line in self.sections.iter() {
            let kind = match line.kind {
                SectionKind::Start => "start",
                SectionKind::Part => "part",
                SectionKind::End => "end",
                SectionKind::Full => "full",
            };
            let name = format!("{kind:<5} {}", line.name);
            let (count, bytes) = (grouped(line.count), grouped(line.bytes));
            writeln!(out, "  {name:<46} {count:>10} {bytes:>16}")?;
        }
        write_left_out(out, &self.sections)?;
        let Some(state) = &self.device_state else {
            return Ok(());
        };
        let mut line = |name: &str, bytes: u64| {
            writeln!(out, "  {name:<46} {:>10} {:>16}", "", grouped(bytes))
        };
        for section in state.sections.iter().flat_map(Lines::iter) {
            line(&format!("full  {}", section.name), section.bytes)?;
        }
        if state.sections.is_some() {
            line("description of the device state", state.description_bytes)
        } else {
            line("device state, cut off or not described", state.bytes)
        }
    }
}

impl MultifdReport {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let number = self
            .number
            .map_or("?".to_owned(), |number| number.to_string());
        writeln!(
            out,
            "multifd channel {number}, {} bytes",
            grouped(self.bytes)
        )?;
        if let Some(uuid) = &self.uuid {
            writeln!(out, "guest: {uuid}")?;
        }
        writeln!(
            out,
            "packets: {}, of these {} that synchronise",
            grouped(self.packets),
            grouped(self.syncs)
        )?;
        if let Some(compression) = self.compression {
            writeln!(out, "compression: {compression}")?;
        }
        if self.compressed_bytes > 0 {
            writeln!(
                out,
                "compressed pages: {} bytes",
                grouped(self.compressed_bytes)
            )?;
        }
        if self.device_packets > 0 {
            let (packets, bytes) = (grouped(self.device_packets), grouped(self.device_bytes));
            writeln!(out, "device state: {packets} packets, {bytes} bytes")?;
        }
        self.ram.write(out)?;
        write_opaque(out, self.opaque.as_ref())
    }
}

impl ReturnReport {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "return path, {} bytes", grouped(self.bytes))?;
        for message in self.messages.iter() {
            writeln!(out, "  {message}")?;
        }
        write_left_out(out, &self.messages)?;
        write_opaque(out, self.opaque.as_ref())
    }
}

impl Ram {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<32} {:>16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "RAM blocks",
            "bytes",
            "zero",
            "literal",
            "duplicate",
            "xbzrle",
            "compressed",
            "re-sent"
        )?;
        for block in &self.blocks {
            let counts = &block.counts;
            let bytes = block.bytes.map(grouped).unwrap_or_default();
            let about = |exact: bool, count| {
                let count = grouped(count);
                if exact { count } else { format!("~{count}") }
            };
            writeln!(
                out,
                "  {:<30} {bytes:>16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
                block.name,
                grouped(counts.zero),
                grouped(counts.literal),
                about(self.duplicates_exact, counts.duplicate),
                grouped(counts.xbzrle),
                grouped(counts.compressed),
                about(self.resent_exact, counts.resent),
            )?;
        }
        writeln!(out, "\npasses over memory: {}", grouped(self.passes))?;
        let zstd = &self.zstd;
        if zstd.bytes_in > 0 {
            // Tenths of a per cent, in whole numbers.
            let tenths = u128::from(zstd.bytes_out) * 1000 / u128::from(zstd.bytes_in);
            writeln!(
                out,
                "zstd -{} in batches of {} KiB: {} bytes of literal pages become {} ({}.{} %)",
                zstd.level,
                zstd.batch_bytes / 1024,
                grouped(zstd.bytes_in),
                grouped(zstd.bytes_out),
                tenths / 10,
                tenths % 10
            )?;
        }
        Ok(())
    }
}

fn write_list(out: &mut impl Write, name: &str, lines: &Lines<String>) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let list: Vec<&str> = lines.iter().map(String::as_str).collect();
    writeln!(out, "{name}: {}", list.join(", "))?;
    write_left_out(out, lines)
}

fn write_left_out<T>(out: &mut impl Write, lines: &Lines<T>) -> io::Result<()> {
    match lines.left_out() {
        0 => Ok(()),
        more => writeln!(out, "  … and {} more", grouped(more)),
    }
}

fn write_opaque(out: &mut impl Write, opaque: Option<&Opaque>) -> io::Result<()> {
    let Some(opaque) = opaque else {
        return Ok(());
    };
    if opaque.cause == "truncated" {
        let (at, expected) = (grouped(opaque.at + opaque.bytes), opaque.expected);
        return writeln!(out, "\ncut off at byte {at}: expected {expected}");
    }
    writeln!(
        out,
        "\nnot understood from byte {} on ({} bytes): expected {}, found {}",
        grouped(opaque.at),
        grouped(opaque.bytes),
        opaque.expected,
        opaque.found
    )
}
