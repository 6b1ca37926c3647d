//! Plays the source's QEMU: writes a guest, and waits until it may let go of it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::{Context as _, Error};
use sealift_stream::BlockId;
use sealift_stream::main_channel::{Content, Emitter, Item, Page, Section};
use sealift_stream::return_path;

use super::shape::{Held, Pool, RAM, Shape};
use crate::guest::PAGE;

/// Bytes written at once: as much as QEMU gathers, and more.
const AT_ONCE: usize = 256 << 10;
/// Page records in a section: what QEMU writes in the 50 ms that one may take.
const RECORDS: u64 = 4096;
/// How long `sealift send` may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where QEMU would connect.
pub(super) fn connect(path: &Path) -> Result<UnixStream, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(channel) => return Ok(channel),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context(format!("{} takes nobody", path.display()));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Writes the guest. Returns the time that it took from its first byte until the destination had it.
pub(super) fn send(channel: UnixStream, shape: Shape, pool: &Pool) -> Result<Duration, Error> {
    let begun = Instant::now();
    let mut writer = Writer::new(channel, shape)?;
    for walk in 0..Shape::LAST {
        writer.walk(shape, walk, Section::Part(RAM), pool)?;
    }
    writer.walk(shape, Shape::LAST, Section::End(RAM), pool)?;
    writer.bytes.extend_from_slice(&Shape::ending()?);
    writer.flush()?;
    wait_for_shut(writer.channel)?;
    Ok(begun.elapsed())
}

struct Writer {
    channel: UnixStream,
    emitter: Emitter,
    block: BlockId,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(channel: UnixStream, shape: Shape) -> Result<Self, Error> {
        let (bytes, emitter, block) = shape.beginning()?;
        Ok(Self {
            channel,
            emitter,
            block,
            bytes,
        })
    }

    /// In one section if it is the last walk, otherwise in as many as QEMU makes.
    fn walk(
        &mut self,
        shape: Shape,
        walk: usize,
        section: Section<'static>,
        pool: &Pool,
    ) -> Result<(), Error> {
        let is_last = matches!(section, Section::End(_));
        let mut content = [0; PAGE];
        let mut records = 0;
        for (page, held) in shape.walk(walk) {
            if records == 0 {
                self.put(&Item::Section(section));
            }
            if held == Held::Content {
                pool.content(page, walk, &mut content);
            }
            let record = Page {
                block: self.block,
                offset: page * PAGE as u64,
                named: records == 0,
                content: match held {
                    Held::Zeros => Content::Zero,
                    Held::Content => Content::Whole(&content),
                },
            };
            self.put(&Item::Page(record));
            records += 1;
            if records == RECORDS && !is_last {
                self.end_section();
                records = 0;
            }
            if self.bytes.len() >= AT_ONCE {
                self.flush()?;
            }
        }
        if records > 0 {
            self.end_section();
        }
        Ok(())
    }

    fn end_section(&mut self) {
        self.put(&Item::RamEnd);
        self.put(&Item::Footer(RAM));
    }

    fn put(&mut self, item: &Item<'_>) {
        self.emitter.emit(item, &mut self.bytes);
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.channel.write_all(&self.bytes);
        self.bytes.clear();
        written.context("sealift send took no more of the stream")
    }
}

/// As QEMU does, which keeps the guest until then.
fn wait_for_shut(mut channel: UnixStream) -> Result<(), Error> {
    let mut parser = return_path::Parser::new();
    let mut bytes = Vec::new();
    let mut piece = [0; return_path::MAX_ITEM];
    loop {
        let mut rest = bytes.as_slice();
        while let Some(item) = parser.pull(&mut rest) {
            match item {
                return_path::Item::Shut(0) => return Ok(()),
                return_path::Item::Pong(_) => {}
                other => return Err(Error::new(format!("sealift send says {other:?} to QEMU"))),
            }
        }
        bytes = rest.to_vec();
        match channel.read(&mut piece).context("the return path")? {
            0 => return Err(Error::new("sealift send closed QEMU's channel")),
            read => bytes.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
}
