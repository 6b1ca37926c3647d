//! Writes a draft as the body of a batch: its records in one compressed group, and behind it, as they are, those that would not become shorter.
//!
//! ```text
//!   draft ─▶ digest
//!         ─▶ a sample of what looks like noise shrinks? ─ yes ▶ all records ─────────────┬─▶ zstd ─ shorter? ─ yes ▶ group ─┐
//!                                                       └ no ─▶ those before the noise ──┘             └─ no ─▶ records ────┼─▶ body
//!                                                               those of the noise ─────────────────────────────────────────┘
//! ```
//!
//! Where there is a window, zstd goes on in it instead of beginning anew. Pages of words go in with their bytes taken apart, where they were not named. Where noise
//! stands among other pages, as in a draft of several sections or of a multifd channel, and where nobody has looked, the sample is of the whole draft.
//!
//! Each worker has its own encoder: it keeps the compression context and the buffers, and once these are warm it allocates nothing.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use zstd_safe::{CCtx, CParameter};

use crate::body::GROUP_MAX;
use crate::digest::Digest;
use crate::draft::Draft;
use crate::layout::Layout;
use crate::patch::WrongLength;
use crate::record::{Codec, Group, Record};
use crate::tally::Tally;
use crate::window::Packing;
use crate::writer::{BodyWriter, Unwritable};
use crate::writing::Writing;

/// Parts of a batch that are tried before all of it is compressed, and the length of each: enough to see text, code, tables and zeros, and
/// a hundredth of the work.
const SAMPLES: usize = 16;
const SAMPLE: usize = 512;
/// The level that the sample is tried at: the cheapest that zstd calls normal.
const SAMPLE_LEVEL: i32 = 1;
/// Level 1 looks back half a batch, and remembers 2^14 places of it. With a whole batch and 2^17 places a Debian guest becomes 2.4 % smaller, and "mix" 0.5 %, in the
/// same time; level 3 gains nothing by it.
const NEAR_SIGHTED: i32 = 1;
const WINDOW_LOG: u32 = 20;
const HASH_LOG: u32 = 17;
/// A batch is compressed when its sample loses at least one byte in so many.
const WORTH: usize = 32;
/// Records shorter than this are not worth a group: its head is 8 bytes, and zstd's own 10.
const LEAST: usize = 128;
/// The longest head of a group that is alone: tag, codec, slot and window of one byte, two lengths below 2^21.
const GROUP_HEAD: usize = 4 + 3 + 3;
/// What slot and window may take beyond that, with all their digits.
const PLACE: usize = 9 + 9;

/// Makes bodies.
pub struct Encoder {
    /// None for not at all.
    level: Option<i32>,
    zstd: CCtx<'static>,
    /// The records of a group.
    raw: Vec<u8>,
    /// A group, compressed: as long as zstd may ever need.
    packed: Vec<u8>,
    /// A page, with its bytes taken apart.
    planes: Vec<u8>,
}

impl Encoder {
    /// Compresses at zstd's `level`, where the layout has agreed on zstd; zstd takes the nearest that it knows.
    #[must_use]
    pub fn new(level: i32) -> Self {
        Self {
            level: Some(level),
            zstd: CCtx::create(),
            raw: Vec::with_capacity(GROUP_MAX),
            packed: vec![0; zstd_safe::compress_bound(GROUP_MAX)],
            planes: Vec::new(),
        }
    }

    /// Compresses at another level from the next batch on, or not at all.
    pub const fn set_level(&mut self, level: Option<i32>) {
        self.level = level;
    }

    /// Appends the body of batch `number` to `out`, compressed alone.
    ///
    /// # Errors
    /// When the draft is none that this layout could carry, or zstd fails; `out` is what it was then.
    pub fn encode(
        &mut self,
        draft: &Draft,
        number: u64,
        layout: &Layout,
        out: &mut Vec<u8>,
    ) -> Result<Tally, EncodeError> {
        self.body(draft, number, layout, None, out)
    }

    /// The same, going on a window where it is compressed at all. The peer inflates the batches of a window in the order in which they were encoded,
    /// so none of them may be left out.
    ///
    /// # Errors
    /// Likewise.
    pub fn encode_within(
        &mut self,
        draft: &Draft,
        number: u64,
        layout: &Layout,
        window: &mut Packing,
        out: &mut Vec<u8>,
    ) -> Result<Tally, EncodeError> {
        self.body(draft, number, layout, Some(window), out)
    }

    fn body(
        &mut self,
        draft: &Draft,
        number: u64,
        layout: &Layout,
        window: Option<&mut Packing>,
        out: &mut Vec<u8>,
    ) -> Result<Tally, EncodeError> {
        let start = out.len();
        let tally = self.append(draft, number, layout, window, out);
        if tally.is_err() {
            out.truncate(start);
        }
        tally
    }

    fn append(
        &mut self,
        draft: &Draft,
        number: u64,
        layout: &Layout,
        window: Option<&mut Packing>,
        out: &mut Vec<u8>,
    ) -> Result<Tally, EncodeError> {
        if let Some(wrong) = draft.wrong() {
            return Err(EncodeError::Page(wrong));
        }
        let agreed = layout.agreed();
        let digest: Digest = draft.listing().digest(draft.contents(), agreed.digest);
        let mut body = BodyWriter::new(out, layout, number);
        let mut writing = Writing::of(draft);
        let mut tally = Tally::default();
        self.planes.resize(draft.contents().page_size().bytes(), 0);
        if let Some(level) = self.level
            && agreed.codecs.has(Codec::Zstd)
        {
            let until = self.compressed(draft)?;
            let with = With { level, window };
            self.group(&mut writing, until, with, &mut body, &mut tally)?;
        }
        writing.write(usize::MAX, &mut body, &mut tally, &mut self.planes)?;
        tally.batches = 1;
        tally.body_bytes = body.len() as u64;
        body.finish(&digest)?;
        Ok(tally)
    }

    /// Up to which slot records go into a group: the others are noise, which is no work for zstd.
    fn compressed(&mut self, draft: &Draft) -> Result<usize, EncodeError> {
        let from = match draft.noise() {
            // Nothing looks like noise.
            Some(noise) if noise == draft.contents().places().len() => return Ok(usize::MAX),
            Some(noise) => noise,
            // It may be anywhere.
            None => 0,
        };
        Ok(match self.worth_compressing(draft, from)? {
            true => usize::MAX,
            false => from,
        })
    }

    /// Appends the records before a slot as a group, when that is shorter.
    fn group(
        &mut self,
        writing: &mut Writing<'_>,
        until: usize,
        with: With<'_>,
        body: &mut BodyWriter<'_, '_>,
        tally: &mut Tally,
    ) -> Result<(), EncodeError> {
        self.raw.clear();
        let mut grouped = *tally;
        let mut ahead = writing.clone();
        let mut group = body.group(&mut self.raw);
        ahead.write(until, &mut group, &mut grouped, &mut self.planes)?;
        let raw_len = group.len();
        if raw_len < LEAST {
            group.discard();
            return Ok(());
        }
        let (raw, head) = (group.as_bytes(), GROUP_HEAD);
        let With { level, mut window } = with;
        let (packed_len, head) = match window.as_deref_mut() {
            Some(window) => {
                let packed = window.pack(&mut self.packed, raw);
                (packed.map_err(failed)?, head + PLACE)
            }
            None => {
                let packed = compress(&mut self.zstd, level, &mut self.packed, raw);
                (packed?, head)
            }
        };
        if packed_len + head >= raw_len {
            group.discard();
            // It has gone into the window, and will not be sent.
            if let Some(window) = window {
                window.begin();
            }
            return Ok(());
        }
        let place = window.map(Packing::send);
        body.append(&Record::Group(Group {
            codec: Codec::Zstd,
            slot: place.map_or(0, |place| place.slot),
            window: place.map_or(0, |place| place.window),
            raw_len,
            bytes: self.packed.get(..packed_len).unwrap_or_default(),
        }))?;
        grouped.group_raw_bytes += raw_len as u64;
        grouped.group_bytes += packed_len as u64;
        (*writing, *tally) = (ahead, grouped);
        Ok(())
    }

    /// Whether a few parts of the pages from a slot on that would travel, each from elsewhere in its page, shrink.
    fn worth_compressing(&mut self, draft: &Draft, from: usize) -> Result<bool, EncodeError> {
        let contents = draft.contents();
        let pages = contents.places().len();
        let references = draft.references();
        let before = references.partition_point(|reference| reference.slot < from);
        let references = references.get(before..).unwrap_or_default();
        let literal = (pages - from).saturating_sub(references.len());
        // What is not pages, or only a few of them, is not worth a sample.
        if literal <= SAMPLES {
            return Ok(true);
        }
        let parts = contents.page_size().bytes() / SAMPLE;
        let mut sample = [0; SAMPLES * SAMPLE];
        let mut named = references.iter().map(|reference| reference.slot).peekable();
        let mut literals = (from..pages).filter(|slot| named.next_if_eq(slot).is_none());
        let (taken, _) = sample.as_chunks_mut::<SAMPLE>();
        let mut passed = 0;
        for (turn, taken) in taken.iter_mut().enumerate() {
            let place = sampled(turn, literal);
            let Some(slot) = literals.nth(place - passed) else {
                break;
            };
            passed = place + 1;
            let (page, _) = contents.page(slot).as_chunks::<SAMPLE>();
            if let Some(part) = page.get(turn % parts) {
                *taken = *part;
            }
        }
        let len = compress(&mut self.zstd, SAMPLE_LEVEL, &mut self.packed, &sample)?;
        Ok(len <= sample.len() - sample.len() / WORTH)
    }
}

/// How a group is compressed.
struct With<'w> {
    level: i32,
    window: Option<&'w mut Packing>,
}

/// Which of the pages the sample of this turn is from: one of each part of them, but at no regular distance, for memory has regular patterns of its own.
const fn sampled(turn: usize, pages: usize) -> usize {
    /// Primes beyond any period that memory has, so that the places look drawn by lot.
    const STEPS: [usize; SAMPLES] = [
        1009, 2017, 3023, 4027, 5039, 6043, 7057, 8069, 9091, 10103, 11113, 12119, 13127, 14143,
        15149, 16187,
    ];
    let start = turn * pages / SAMPLES;
    let len = (turn + 1) * pages / SAMPLES - start;
    start + STEPS[turn] % len
}

fn compress(
    zstd: &mut CCtx<'static>,
    level: i32,
    packed: &mut Vec<u8>,
    raw: &[u8],
) -> Result<usize, EncodeError> {
    // Sticky parameters go by the level that was set last; zstd itself takes less than these for a batch that is shorter.
    let (window, hash) = if level == NEAR_SIGHTED {
        (WINDOW_LOG, HASH_LOG)
    } else {
        (0, 0)
    };
    zstd.set_parameter(CParameter::CompressionLevel(level))
        .and_then(|_| zstd.set_parameter(CParameter::WindowLog(window)))
        .and_then(|_| zstd.set_parameter(CParameter::HashLog(hash)))
        .and_then(|_| zstd.compress2(packed.as_mut_slice(), raw))
        .map_err(failed)
}

fn failed(code: usize) -> EncodeError {
    EncodeError::Zstd {
        reason: zstd_safe::get_error_name(code),
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffers hold guest memory.
        f.debug_struct("Encoder")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// Why a draft was not encoded: each is this host's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EncodeError {
    /// Something was drafted as a page that is none.
    Page(WrongLength),
    /// The layout does not have the draft's pages, or not what they name.
    Unwritable(Unwritable),
    /// zstd failed.
    Zstd {
        /// As it says.
        reason: &'static str,
    },
}

impl From<Unwritable> for EncodeError {
    fn from(unwritable: Unwritable) -> Self {
        Self::Unwritable(unwritable)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(_) => f.write_str("this host drafted a page that is none"),
            Self::Unwritable(_) => f.write_str("this host drafted a batch that no peer would take"),
            Self::Zstd { reason } => write!(f, "zstd failed to compress on this host: {reason}"),
        }
    }
}

impl core::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Page(wrong) => Some(wrong),
            Self::Unwritable(unwritable) => Some(unwritable),
            Self::Zstd { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::layout::{Address, PAGE_SIZE_MIN, PageSize};

    /// Pages in a batch of the tests.
    const PAGES: usize = 120;

    fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed * 2 + 1;
        let words = core::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.skip(8).take(PAGE_SIZE_MIN / 8).flatten().collect()
    }

    fn text(seed: u64) -> Vec<u8> {
        let line = alloc::format!("line {seed} of a page that somebody wrote\n");
        line.bytes().cycle().take(PAGE_SIZE_MIN).collect()
    }

    /// How many of a draft's pages zstd gets, once they were arranged. Opaque bytes of a channel stand before each part of the batch; what a page holds,
    /// its number says.
    fn given_to_zstd(channel: u16, parts: usize, page: impl Fn(u64) -> Vec<u8>) -> usize {
        let mut draft = Draft::new(PageSize::new(PAGE_SIZE_MIN).unwrap());
        for number in 0..PAGES {
            if number.is_multiple_of(PAGES / parts) {
                draft.opaque(channel, b"between pages").unwrap();
            }
            let page_number = number as u64;
            let at = Address {
                block: 0,
                page: page_number,
            };
            draft.page(at, &page(page_number)).unwrap();
        }
        draft.arrange(&mut Vec::new());
        Encoder::new(1).compressed(&draft).unwrap().min(PAGES)
    }

    #[test]
    fn noise_is_no_work_for_zstd_wherever_sections_and_packets_begin() {
        for (channel, parts) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            let given = given_to_zstd(channel, parts, noise);
            assert_eq!(given, 0, "channel {channel}, {parts} parts");
        }
    }

    #[test]
    fn noise_behind_all_else_is_left_out_in_any_draft() {
        for (channel, parts) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            let given = given_to_zstd(channel, parts, |page| match page {
                0..70 => text(page),
                _ => noise(page),
            });
            assert_eq!(given, 70, "channel {channel}, {parts} parts");
        }
    }

    #[test]
    fn noise_among_what_shrinks_stays_there() {
        let mixed = |page: u64| match page % 2 {
            0 => text(page),
            _ => noise(page),
        };
        assert_eq!(given_to_zstd(0, 1, mixed), PAGES / 2, "arranged");
        for (channel, parts) in [(0, 2), (1, 1), (1, 2)] {
            let given = given_to_zstd(channel, parts, mixed);
            assert_eq!(given, PAGES, "channel {channel}, {parts} parts");
        }
    }

    #[test]
    fn samples_follow_no_pattern_of_the_pages() {
        for pages in SAMPLES + 1..=256 {
            let places: Vec<_> = (0..SAMPLES).map(|turn| sampled(turn, pages)).collect();
            assert!(places.is_sorted_by(|a, b| a < b), "{pages}: {places:?}");
            assert!(places.last().is_some_and(|&last| last < pages));
        }
        // A batch of 256 KiB, of a memory with two kinds of pages that take turns.
        for period in [2, 4, 8, 16, 32] {
            let odd = (0..SAMPLES)
                .filter(|&turn| !sampled(turn, 64).is_multiple_of(period))
                .count();
            assert!(
                odd > SAMPLES / 8,
                "{odd} of {SAMPLES} with a period of {period}"
            );
        }
    }
}
