//! A patch turns one content of a page into another.
//!
//! ```text
//!   page   |..unchanged..|changed|......unchanged......|changed|...rest, unchanged...|
//!   patch  (varint, varint, bytes)  (varint, varint, bytes)
//! ```
//!
//! A list of runs has exactly one encoding. Which runs to list is the sender's choice: a byte may be listed as
//! changed and be the same, because leaving out a short gap costs more than the gap.

use alloc::vec::Vec;
use core::fmt;

use crate::cursor::Cursor;
use crate::layout::PageSize;
use crate::redacted::Redacted;
use crate::refusal::{Refusal, Refused};
use crate::varint;

/// An unchanged gap of up to this many bytes goes into the run around it: a further run costs at least two varints,
/// one byte each.
const GAP_MERGED: usize = 2;

/// The two varints of a run at most, of numbers below 2^21: no page is so large.
const RUN: usize = 2 * 3;

/// Bytes compared at once while looking for the next difference: wide enough for the compiler to use vectors.
const STRIDE: usize = 32;

/// A patch that was found well-formed for pages of one size.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Patch<'a> {
    bytes: &'a [u8],
    page_size: usize,
}

impl<'a> Patch<'a> {
    /// Checks a patch for pages of `page_size`.
    ///
    /// # Errors
    /// When it is not in its one form, is as long as the page, or reaches beyond it.
    pub fn parse(bytes: &'a [u8], page_size: PageSize) -> Result<Self, Refused> {
        Self::parse_at(bytes, page_size, 0)
    }

    /// The same, for a patch that begins at `offset` of what errors speak of.
    pub(crate) fn parse_at(
        bytes: &'a [u8],
        page_size: PageSize,
        offset: usize,
    ) -> Result<Self, Refused> {
        let page_size = page_size.bytes();
        if bytes.len() >= page_size {
            let found = bytes.len() as u64;
            return Err(Refusal::PatchTooLong { found, page_size }.at(offset));
        }
        if bytes.is_empty() {
            return Err(Refusal::EmptyPatch.at(offset));
        }
        let mut runs = Runs {
            cursor: Cursor::new(bytes, offset),
            position: 0,
            page_size,
        };
        while runs.step()?.is_some() {}
        Ok(Self { bytes, page_size })
    }

    /// The difference from `base` to `page`, appended to `out` unless it takes more than `most` bytes or as many
    /// as the page.
    ///
    /// # Errors
    /// When one of the two is not a page. `out` then is what it was, as it is when there is no patch.
    pub fn diff(
        base: &[u8],
        page: &[u8],
        page_size: PageSize,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Result<Diff, WrongLength> {
        let expected = page_size.bytes();
        WrongLength::check(expected, base.len())?;
        WrongLength::check(expected, page.len())?;
        let most = most.min(expected - 1);
        let start = out.len();
        let mut told = 0;
        let mut from = next_difference(base, page, 0);
        if from == expected {
            return Ok(Diff::Same);
        }
        while from < expected {
            let (end, next) = run_end(base, page, from);
            let (unchanged, changed) = ((from - told) as u64, (end - from) as u64);
            let cost = varint::encoded_len(unchanged) + varint::encoded_len(changed) + (end - from);
            if out.len() - start + cost > most {
                out.truncate(start);
                return Ok(Diff::TooLong);
            }
            varint::encode(unchanged, out);
            varint::encode(changed, out);
            out.extend_from_slice(&page[from..end]);
            told = end;
            from = next;
        }
        Ok(Diff::Patched {
            len: out.len() - start,
        })
    }

    /// Those parts of a page, of so many bytes each, that changed, appended to `out` unless that takes more than `most` bytes or as many as the
    /// page; `out` then is what it was.
    pub(crate) fn of_parts(
        page: &[u8],
        part: usize,
        changed: impl Iterator<Item = bool>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Diff {
        let most = most.min(page.len() - 1);
        let start = out.len();
        let mut told = 0;
        let mut run = None;
        for (at, changed) in (0..).step_by(part).zip(changed.chain([false])) {
            let from = match (run, changed) {
                (None, true) => {
                    run = Some(at);
                    continue;
                }
                (Some(from), false) => from,
                _ => continue,
            };
            if out.len() - start + RUN + (at - from) > most {
                out.truncate(start);
                return Diff::TooLong;
            }
            varint::encode((from - told) as u64, out);
            varint::encode((at - from) as u64, out);
            out.extend_from_slice(&page[from..at]);
            told = at;
            run = None;
        }
        match out.len() - start {
            0 => Diff::Same,
            len => Diff::Patched { len },
        }
    }

    /// Writes `base`, patched, to `out`.
    ///
    /// # Errors
    /// When one of the two is not a page of the size that the patch is for; nothing is written then.
    pub fn apply(&self, base: &[u8], out: &mut [u8]) -> Result<(), WrongLength> {
        WrongLength::check(self.page_size, base.len())?;
        WrongLength::check(self.page_size, out.len())?;
        out.copy_from_slice(base);
        self.apply_over(out);
        Ok(())
    }

    /// The bytes of a patch that was parsed before, for pages of the same size.
    pub(crate) const fn parsed(bytes: &'a [u8], page_size: PageSize) -> Self {
        let page_size = page_size.bytes();
        Self { bytes, page_size }
    }

    /// Patches a page, of the size that it is for, in its place.
    pub(crate) fn apply_over(&self, page: &mut [u8]) {
        for run in self.runs() {
            page[run.offset..run.offset + run.bytes.len()].copy_from_slice(run.bytes);
        }
    }

    /// The runs of changed bytes, in order.
    #[must_use]
    pub const fn runs(&self) -> Runs<'a> {
        Runs {
            cursor: Cursor::new(self.bytes, 0),
            position: 0,
            page_size: self.page_size,
        }
    }

    /// The patch as it travels.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The size of the pages that it is for.
    pub(crate) const fn page_size(&self) -> usize {
        self.page_size
    }
}

impl fmt::Debug for Patch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch")
            .field("bytes", &Redacted(self.bytes))
            .field("page_size", &self.page_size)
            .finish()
    }
}

/// What [`Patch::diff`] came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Diff {
    /// The pages are equal; there is no patch that says so.
    Same,
    /// A patch of so many bytes was appended.
    Patched {
        /// Its length.
        len: usize,
    },
    /// It would take more than was allowed.
    TooLong,
}

/// Bytes that a patch puts into a page.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Run<'a> {
    /// Where in the page.
    pub offset: usize,
    /// What; at least one byte.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("offset", &self.offset)
            .field("bytes", &Redacted(self.bytes))
            .finish()
    }
}

/// The runs of a patch.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    cursor: Cursor<'a>,
    /// How much of the page the runs so far have told.
    position: usize,
    page_size: usize,
}

impl<'a> Runs<'a> {
    fn step(&mut self) -> Result<Option<Run<'a>>, Refused> {
        if self.cursor.is_empty() {
            return Ok(None);
        }
        let at = self.cursor.offset();
        let unchanged = self.cursor.varint("unchanged bytes")?;
        if unchanged == 0 && self.position > 0 {
            return Err(Refusal::TouchingRuns.at(at));
        }
        let changed_at = self.cursor.offset();
        let changed = self.cursor.varint("changed bytes")?;
        if changed == 0 {
            return Err(Refusal::EmptyRun.at(changed_at));
        }
        let left = self.page_size - self.position;
        let span = unchanged
            .checked_add(changed)
            .and_then(|span| usize::try_from(span).ok());
        let Some(span) = span.filter(|&span| span <= left) else {
            return Err(Refusal::RunBeyondPage {
                unchanged,
                changed,
                left,
            }
            .at(at));
        };
        let bytes = self.cursor.take(changed, "changed bytes")?;
        self.position += span;
        Ok(Some(Run {
            offset: self.position - bytes.len(),
            bytes,
        }))
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        // `Patch::parse` has taken every step once; none is refused now.
        self.step().ok().flatten()
    }
}

/// Bytes that are not a page of the size at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WrongLength {
    /// The page size.
    pub expected: usize,
    /// The bytes there were.
    pub found: usize,
}

impl WrongLength {
    pub(crate) const fn check(expected: usize, found: usize) -> Result<(), Self> {
        if expected == found {
            Ok(())
        } else {
            Err(Self { expected, found })
        }
    }
}

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "page: expected {} bytes, found {}",
            self.expected, self.found
        )
    }
}

impl core::error::Error for WrongLength {}

/// Where the run that begins at `from` ends, short gaps included, and where the next one begins.
fn run_end(base: &[u8], page: &[u8], from: usize) -> (usize, usize) {
    let mut end = from;
    loop {
        end += base[end..]
            .iter()
            .zip(&page[end..])
            .take_while(|(old, new)| old != new)
            .count();
        let next = next_difference(base, page, end);
        if next == page.len() || next - end > GAP_MERGED {
            return (end, next);
        }
        end = next;
    }
}

/// The first byte from `from` on that differs, or the length of the page.
fn next_difference(base: &[u8], page: &[u8], from: usize) -> usize {
    let (base, rest) = (&base[from..], &page[from..]);
    let strides = base.chunks_exact(STRIDE).zip(rest.chunks_exact(STRIDE));
    let equal = strides.take_while(|(old, new)| old == new).count() * STRIDE;
    from + equal
        + base[equal..]
            .iter()
            .zip(&rest[equal..])
            .take_while(|(old, new)| old == new)
            .count()
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::layout::PAGE_SIZE_MIN;

    fn size() -> PageSize {
        PageSize::new(PAGE_SIZE_MIN).unwrap()
    }

    fn refusal(bytes: &[u8]) -> Refused {
        Patch::parse(bytes, size()).unwrap_err()
    }

    #[test]
    fn a_patch_has_a_run() {
        assert_eq!(refusal(&[]), Refusal::EmptyPatch.at(0));
        assert_eq!(refusal(&[5, 0]), Refusal::EmptyRun.at(1));
    }

    #[test]
    fn runs_do_not_touch() {
        assert!(Patch::parse(&[0, 1, 7, 1, 1, 7], size()).is_ok());
        assert_eq!(refusal(&[0, 1, 7, 0, 1, 7]), Refusal::TouchingRuns.at(3));
    }

    #[test]
    fn a_run_stays_in_the_page() {
        // 4095 unchanged, then one byte: the last of the page.
        assert!(Patch::parse(&[0xff, 0x1f, 1, 7], size()).is_ok());
        let beyond = Refusal::RunBeyondPage {
            unchanged: 4096,
            changed: 1,
            left: 4096,
        };
        assert_eq!(refusal(&[0x80, 0x20, 1, 7]), beyond.at(0));
        let mut overflow = vec![0xff; 9];
        overflow.extend([1, 1, 7]);
        assert!(matches!(
            refusal(&overflow).refusal,
            Refusal::RunBeyondPage { .. }
        ));
    }

    #[test]
    fn a_patch_is_shorter_than_its_page() {
        let mut bytes = vec![0, 0xfe, 0x1f];
        bytes.resize(3 + 4094, 7);
        assert_eq!(
            refusal(&bytes),
            Refusal::PatchTooLong {
                found: 4097,
                page_size: 4096
            }
            .at(0)
        );
    }

    #[test]
    fn a_patch_cut_short_is_refused() {
        let whole = [3, 2, 7, 8, 1, 1, 9];
        assert!(Patch::parse(&whole, size()).is_ok());
        for cut in [1, 2, 3, 5, 6] {
            assert!(matches!(
                refusal(&whole[..cut]).refusal,
                Refusal::Truncated { .. }
            ));
        }
    }

    #[test]
    fn a_short_gap_is_merged_and_a_longer_one_is_not() {
        let base = vec![0; PAGE_SIZE_MIN];
        let mut page = base.clone();
        for changed in [0, 3, 7] {
            page[changed] = 1;
        }
        let mut out = vec![];
        let diff = Patch::diff(&base, &page, size(), usize::MAX, &mut out).unwrap();
        assert_eq!(diff, Diff::Patched { len: 9 });
        assert_eq!(out, [0, 4, 1, 0, 0, 1, 3, 1, 1]);
    }

    #[test]
    fn no_patch_leaves_the_buffer_as_it_was() {
        let base = vec![0; PAGE_SIZE_MIN];
        let mut out = vec![42];
        assert_eq!(
            Patch::diff(&base, &base, size(), 100, &mut out),
            Ok(Diff::Same)
        );
        let mut page = base.clone();
        page[0] = 1;
        page[500..600].fill(1);
        assert_eq!(
            Patch::diff(&base, &page, size(), 100, &mut out),
            Ok(Diff::TooLong)
        );
        let other = vec![1; PAGE_SIZE_MIN];
        assert_eq!(
            Patch::diff(&base, &other, size(), usize::MAX, &mut out),
            Ok(Diff::TooLong)
        );
        let wrong = WrongLength {
            expected: 4096,
            found: 4095,
        };
        assert_eq!(
            Patch::diff(&base, &page[1..], size(), 100, &mut out),
            Err(wrong)
        );
        assert_eq!(out, [42]);
    }

    #[test]
    fn a_patch_is_applied_to_pages_of_its_size_only() {
        let patch = Patch::parse(&[0, 1, 7], size()).unwrap();
        let mut out = vec![0; PAGE_SIZE_MIN];
        let wrong = Err(WrongLength {
            expected: 4096,
            found: 8192,
        });
        assert_eq!(patch.apply(&vec![0; 8192], &mut out), wrong);
        let short = Err(WrongLength {
            expected: 4096,
            found: 4095,
        });
        assert_eq!(patch.apply(&vec![1; 4096], &mut out[1..]), short);
        assert_eq!(out, vec![0; PAGE_SIZE_MIN]);
        assert_eq!(patch.apply(&vec![1; 4096], &mut out), Ok(()));
        assert_eq!(out[..2], [7, 1]);
    }
}
