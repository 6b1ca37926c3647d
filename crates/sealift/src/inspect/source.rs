//! The file, as much of it as is at hand.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes read at once: enough that system calls and the rest moved to the front (at most an item) do not count.
const AT_HAND: usize = 1 << 20;

/// The file, and as much of it as is at hand.
pub(super) struct Source {
    file: Box<dyn Read>,
    buffer: Vec<u8>,
    progress: ProgressBar,
}

impl Source {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
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

    pub(super) fn at_hand(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads until the buffer is full; `false` at the file's end.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
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
    pub(super) fn each(
        &mut self,
        mut pull: impl FnMut(&mut &[u8]) -> Option<()>,
    ) -> io::Result<Vec<u8>> {
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
}
