//! Bytes that have arrived from one of QEMU's channels and are not taken apart yet.

use std::io;
use std::time::Duration;

use sealift_qemu::channel::{ReadHalf, ReadOutcome};

/// Bytes read at once: a unix socket holds about 200 KiB, so one call empties it.
const READ: usize = 256 << 10;
/// Room for a read behind the longest item that can be left over, which is below 70 KiB.
const ROOM: usize = READ + (128 << 10);

/// A channel and what has come out of it.
#[derive(Debug)]
pub(crate) struct Intake {
    half: ReadHalf,
    buffer: Box<[u8]>,
    filled: std::ops::Range<usize>,
    waited: bool,
}

impl Intake {
    pub(crate) fn new(half: ReadHalf) -> Self {
        Self {
            half,
            buffer: vec![0; ROOM].into_boxed_slice(),
            filled: 0..0,
            waited: false,
        }
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }

    /// All but the last `left` bytes were taken.
    pub(crate) fn keep(&mut self, left: usize) {
        self.filled.start = self.filled.end.saturating_sub(left);
    }

    /// Waits for more, for as long as that; for ever if no time is given.
    pub(crate) fn read(&mut self, patience: Option<Duration>) -> io::Result<ReadOutcome> {
        if self.buffer.len() - self.filled.end < READ {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        let room = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        let mut outcome = self.half.read_within(room, Some(Duration::ZERO))?;
        self.waited = outcome == ReadOutcome::Quiet;
        if self.waited && patience != Some(Duration::ZERO) {
            outcome = self.half.read_within(room, patience)?;
        }
        if let ReadOutcome::Bytes(read) = outcome {
            self.filled.end += read;
        }
        Ok(outcome)
    }

    /// Nothing was there when the last read began: what it brought was written after that.
    pub(crate) const fn waited(&self) -> bool {
        self.waited
    }
}
