//! Windows: compression that sees the batches before. A window is a zstd stream that goes on from batch to batch; there are several, so that several batches
//! can be compressed, and inflated, at the same time.
//!
//! ```text
//!   window 1   [slot 1: batch 0] ─▶ [slot 2: batch 2] ─▶ [slot 3: batch 3] ─▶ …      each finds what the last 32 MiB before it had
//!   window 2   [slot 1: batch 1] ─▶ [slot 2: batch 4] ─▶ …
//!   none       [batch 5]                                                              alone
//! ```
//!
//! A group ends where all its bytes can be had (zstd's flush), so none waits for the next; but it waits for the one before. What repeats is looked for twice: by zstd's
//! own search, which is short-sighted at low levels, and by its long-distance matcher, which samples.
//!
//! A window can begin anew at any time, as it must when something was compressed and not sent: a group that begins with a frame's magic number forgets what
//! was before it. Within a frame no group can begin so: read as the head of a block, these bytes say that it is longer than a block may be.

use core::fmt;

use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, SafeResult,
};

use crate::record::Group;

/// How far a window looks back: 2^25 bytes. On a Debian guest twice as much saves 0.7 % more, and half as much 0.7 % less.
const WINDOW_LOG: u32 = 25;
/// How far a window looks back, in bytes.
pub const WINDOW_LEN: u64 = 1 << WINDOW_LOG;
/// What a window may take, at either end, in memory: what it looks back, and up to a quarter for tables and what is being worked on.
pub const WINDOW_MEMORY: u64 = WINDOW_LEN + WINDOW_LEN / 4;
/// What a frame of zstd's begins with.
const MAGIC: [u8; 4] = zstd_safe::MAGICNUMBER.to_le_bytes();

/// A group's place among those of its window.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The window, from 1.
    pub window: u64,
    /// Which group of it, from 1.
    pub slot: u64,
}

/// The source's end of a window.
pub struct Packing {
    window: u64,
    /// Groups that were sent in it.
    sent: u64,
    level: i32,
    zstd: CCtx<'static>,
}

impl Packing {
    /// Window `window`, of which nothing was sent, compressing at zstd's `level`.
    #[must_use]
    pub fn new(window: u64, level: i32) -> Self {
        let mut packing = Self {
            window,
            sent: 0,
            level,
            zstd: CCtx::create(),
        };
        packing.begin();
        packing
    }

    /// Its number.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// Forgets what went into it: the next group begins a frame.
    pub(crate) fn begin(&mut self) {
        // Neither fails outside of zstd's own memory: what is set is within its bounds.
        let _ = self.zstd.reset(ResetDirective::SessionOnly);
        for parameter in [
            CParameter::CompressionLevel(self.level),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::ContentSizeFlag(false),
        ] {
            let _ = self.zstd.set_parameter(parameter);
        }
    }

    /// Compresses a group. It is to be sent next, or the window begins anew.
    pub(crate) fn pack(&mut self, packed: &mut [u8], raw: &[u8]) -> SafeResult {
        let (mut from, mut to) = (InBuffer::around(raw), OutBuffer::around(packed));
        loop {
            let (before, left) = (to.pos(), {
                let flush = ZSTD_EndDirective::ZSTD_e_flush;
                self.zstd.compress_stream2(&mut to, &mut from, flush)?
            });
            // No room: the caller sees by the length that it did not become shorter.
            if left == 0 || to.pos() == before {
                return Ok(to.pos());
            }
        }
    }

    /// The place of the group that was packed, which is sent.
    pub(crate) const fn send(&mut self) -> Place {
        self.sent += 1;
        Place {
            window: self.window,
            slot: self.sent,
        }
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The context holds guest memory.
        f.debug_struct("Packing")
            .field("window", &self.window)
            .field("sent", &self.sent)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The receiver's end of a window.
pub struct Unpacking {
    window: u64,
    /// The slot that is next.
    next: u64,
    zstd: DCtx<'static>,
}

impl Unpacking {
    /// Window `window`, of which nothing has arrived. What it looks back in is taken with its first group.
    #[must_use]
    pub fn new(window: u64) -> Self {
        let mut zstd = DCtx::create();
        // Within zstd's bounds. A frame that asks for more is refused by it.
        let _ = zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
        Self {
            window,
            next: 1,
            zstd,
        }
    }

    /// The place of the group that it takes next.
    #[must_use]
    pub const fn next(&self) -> Place {
        Place {
            window: self.window,
            slot: self.next,
        }
    }

    /// Inflates its next group into `room`; returns how long it is. After an error the window is of no use any more.
    pub(crate) fn unpack(
        &mut self,
        group: &Group<'_>,
        room: &mut [u8],
    ) -> Result<usize, Unpackable> {
        let found = Place {
            window: group.window,
            slot: group.slot,
        };
        let expected = self.next();
        if found != expected {
            return Err(Unpackable::OutOfTurn(OutOfTurn { expected, found }));
        }
        self.next += 1;
        if group.bytes.starts_with(&MAGIC) {
            let _ = self.zstd.reset(ResetDirective::SessionOnly);
        }
        let (mut from, mut to) = (InBuffer::around(group.bytes), OutBuffer::around(room));
        loop {
            let before = (from.pos(), to.pos());
            let stepped = self.zstd.decompress_stream(&mut to, &mut from);
            stepped.map_err(|code| Unpackable::Zstd(zstd_safe::get_error_name(code)))?;
            if (from.pos(), to.pos()) == before {
                break;
            }
        }
        if from.pos() < group.bytes.len() {
            return Err(Unpackable::Zstd("it is longer than it says"));
        }
        Ok(to.pos())
    }
}

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The context holds guest memory.
        f.debug_struct("Unpacking")
            .field("window", &self.window)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Why a group was not inflated.
#[derive(Debug)]
pub(crate) enum Unpackable {
    OutOfTurn(OutOfTurn),
    Zstd(&'static str),
}

/// A group whose turn it is not in its window: a slot that was before, one whose predecessor is missing, or another window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfTurn {
    /// The place whose turn it is.
    pub expected: Place,
    /// The one that the group has.
    pub found: Place,
}

impl fmt::Display for OutOfTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found } = self;
        write!(
            f,
            "a group: expected slot {} of window {}, found slot {} of window {}",
            expected.slot, expected.window, found.slot, found.window
        )
    }
}

impl core::error::Error for OutOfTurn {}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::body::GROUP_MAX;
    use crate::record::Codec;

    #[test]
    fn a_window_takes_at_either_end_no_more_than_it_is_counted_at() {
        for level in 1..=3 {
            let mut packing = Packing::new(1, level);
            let mut unpacking = Unpacking::new(1);
            let mut packed = vec![0; zstd_safe::compress_bound(GROUP_MAX)];
            let mut room = vec![0; GROUP_MAX];
            let raw = vec![5; GROUP_MAX];
            for _ in 0..2 {
                let len = packing.pack(&mut packed, &raw).unwrap();
                let Place { window, slot } = packing.send();
                let group = Group {
                    codec: Codec::Zstd,
                    slot,
                    window,
                    raw_len: raw.len(),
                    bytes: &packed[..len],
                };
                assert_eq!(unpacking.unpack(&group, &mut room).unwrap(), raw.len());
                assert!(room == raw);
            }
            for taken in [packing.zstd.sizeof(), unpacking.zstd.sizeof()] {
                assert!((taken as u64) < WINDOW_MEMORY, "{taken} at level {level}");
            }
        }
    }
}
