//! Why bytes from a peer are refused. Each reason has a variant of its own; nothing here ever quotes page content.

use core::fmt;

use crate::body::{BODY_MAX, GROUP_MAX};
use crate::budget::{CONTENT_MAX, RAW_MAX, RECORDS_MAX, ZEROS_MAX};
use crate::digest::Algorithm;
use crate::record::Codec;

/// Bytes that are no body, or no group, and where they stop being one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Where the refused field starts, counted from the beginning of the body, of the inflated group, or of the
    /// patch when that was parsed alone.
    pub offset: usize,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields say what was expected and found; Display spells it out"
)]
pub enum Refusal {
    /// The body is longer than a batch may be.
    BodyTooLong { found: usize },
    /// No such digest algorithm.
    UnknownDigest { found: u8 },
    /// A digest made another way than was agreed on.
    DigestNotAgreed { found: Algorithm, agreed: Algorithm },
    /// The bytes end inside a field.
    Truncated {
        field: &'static str,
        needed: u64,
        left: usize,
    },
    /// A varint with a shorter form.
    LongVarint { field: &'static str },
    /// A varint of more than 64 bits.
    HugeVarint { field: &'static str },
    /// No such record.
    UnknownRecord { tag: u8 },
    /// No such addressing.
    UnknownAddressing { tag: u8 },
    /// Addressing bits in a record that is not for a page.
    StrayAddressing { tag: u8 },
    /// A relative address, and no page before it to start from.
    NoPageBefore { tag: u8 },
    /// An address spelled out that a relative one would have reached.
    LongAddress { tag: u8 },
    /// "Further on" by nothing: that is what "next" is for.
    NothingPassedOver,
    /// A relative address beyond 64 bits.
    AddressOverflow { passed: u64 },
    /// A block that was not admitted.
    UnknownBlock { block: u64, blocks: usize },
    /// A page behind its block's last one.
    PageBeyondBlock { block: u16, page: u64, pages: u64 },
    /// A run of zeros that begins in its block and ends behind it.
    RunBeyondBlock {
        block: u16,
        page: u64,
        more: u64,
        pages: u64,
    },
    /// A reference to a batch before the session's first.
    BeforeFirstBatch { age: u64, batch: u64 },
    /// A reference of a page to itself, in this batch.
    OwnPage,
    /// A channel number of more than 16 bits.
    UnknownChannel { found: u64 },
    /// Opaque bytes without a byte.
    EmptyOpaque,
    /// A group within a group.
    NestedGroup,
    /// No such codec.
    UnknownCodec { found: u8 },
    /// A codec that was not agreed on.
    CodecNotAgreed { codec: Codec },
    /// A window that admission did not agree on.
    WindowNotAgreed { window: u64, agreed: u64 },
    /// A slot without a window, or a window without a slot.
    StraySlot { slot: u64, window: u64 },
    /// A second group of a batch that names a window.
    SecondWindow,
    /// A group that inflates to nothing or to too much.
    RawLength { found: u64 },
    /// A group without compressed bytes.
    EmptyGroup,
    /// A group that did not inflate to the length it named.
    OtherRawLength { expected: usize, found: usize },
    /// More pages with content than a batch may put.
    TooMuchContent { found: u64, left: u64 },
    /// More pages of zeros than a batch may put.
    TooManyZeros { run: u64, left: u64 },
    /// More records than a batch may have.
    TooManyRecords,
    /// Groups that inflate to more than those of a batch may.
    TooMuchRaw { found: usize, left: usize },
    /// A patch as long as the page: a literal says the same.
    PatchTooLong { found: u64, page_size: usize },
    /// A patch without a run.
    EmptyPatch,
    /// A run that changes nothing.
    EmptyRun,
    /// Two runs without an unchanged byte between: they are one.
    TouchingRuns,
    /// A run that ends behind the page.
    RunBeyondPage {
        unchanged: u64,
        changed: u64,
        left: usize,
    },
}

impl Refusal {
    #[cold]
    pub(crate) const fn at(self, offset: usize) -> Refused {
        Refused {
            offset,
            refusal: self,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records refused at byte {}", self.offset)
    }
}

impl core::error::Error for Refused {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.refusal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BodyTooLong { found } => {
                write!(f, "body: expected at most {BODY_MAX} bytes, found {found}")
            }
            Self::UnknownDigest { found } => {
                write!(
                    f,
                    "digest algorithm: expected 1 (SHA-256) or 2 (BLAKE3), found {found}"
                )
            }
            Self::Truncated {
                field,
                needed,
                left,
            } => {
                write!(f, "{field}: expected at least {needed} bytes, found {left}")
            }
            Self::LongVarint { field } => {
                write!(f, "{field}: expected the shortest form of a varint")
            }
            Self::HugeVarint { field } => write!(f, "{field}: expected a varint below 2^64"),
            Self::UnknownRecord { tag } => {
                write!(f, "tag: expected a record of kind 1 to 7, found {tag:#04x}")
            }
            Self::UnknownAddressing { tag } => {
                write!(f, "tag: expected addressing 0, 1 or 2, found {tag:#04x}")
            }
            Self::StrayAddressing { tag } => write!(
                f,
                "tag: expected no addressing in a record that is not for a page, found {tag:#04x}"
            ),
            Self::NoPageBefore { tag } => {
                write!(
                    f,
                    "tag: expected an address spelled out, with no page before it, found {tag:#04x}"
                )
            }
            Self::LongAddress { tag } => {
                write!(
                    f,
                    "tag: expected a relative address, which reaches this page, found {tag:#04x}"
                )
            }
            Self::NothingPassedOver => f.write_str(
                "pages passed over: expected at least 1, found 0, which addressing 0 says",
            ),
            Self::AddressOverflow { passed } => {
                write!(
                    f,
                    "pages passed over: expected an address below 2^64, found {passed} more"
                )
            }
            Self::UnknownBlock { block, blocks } => {
                write!(
                    f,
                    "block: expected one of {blocks} that were admitted, found {block}"
                )
            }
            Self::PageBeyondBlock { block, page, pages } => {
                write!(
                    f,
                    "page: expected one of {pages} in block {block}, found {page}"
                )
            }
            Self::RunBeyondBlock {
                block,
                page,
                more,
                pages,
            } => write!(
                f,
                "run: expected to end within the {pages} pages of block {block}, found page {page} and {more} more"
            ),
            Self::BeforeFirstBatch { age, batch } => {
                write!(
                    f,
                    "age: expected at most {batch}, this batch's number, found {age}"
                )
            }
            Self::OwnPage => {
                f.write_str("age: expected another page or an earlier batch, found the page itself")
            }
            Self::DigestNotAgreed { found, agreed } => {
                write!(
                    f,
                    "digest algorithm: expected {agreed:?} as agreed, found {found:?}"
                )
            }
            Self::CodecNotAgreed { codec } => {
                write!(f, "codec: expected one that was agreed on, found {codec:?}")
            }
            Self::UnknownChannel { found } => {
                write!(f, "channel: expected at most {}, found {found}", u16::MAX)
            }
            Self::EmptyOpaque => f.write_str("opaque length: expected at least 1, found 0"),
            Self::NestedGroup => f.write_str("tag: expected no group within a group, found one"),
            Self::UnknownCodec { found } => write!(f, "codec: expected 1 (zstd), found {found}"),
            Self::WindowNotAgreed { window, agreed } => {
                write!(
                    f,
                    "window: expected at most {agreed} as agreed, found {window}"
                )
            }
            Self::StraySlot { slot, window } => {
                let expected = if window == 0 { "0" } else { "at least 1" };
                write!(
                    f,
                    "slot: expected {expected} in window {window}, found {slot}"
                )
            }
            Self::SecondWindow => {
                f.write_str("window: expected at most one group of a batch with one, found another")
            }
            Self::RawLength { found } => {
                write!(f, "raw length: expected 1 to {GROUP_MAX}, found {found}")
            }
            Self::EmptyGroup => f.write_str("group length: expected at least 1, found 0"),
            Self::OtherRawLength { expected, found } => {
                write!(
                    f,
                    "inflated group: expected {expected} bytes, found {found}"
                )
            }
            Self::TooMuchContent { found, left } => write!(
                f,
                "contents of a batch: expected at most {CONTENT_MAX} bytes, {left} more, found {found} more"
            ),
            Self::TooManyZeros { run, left } => write!(
                f,
                "zero pages of a batch: expected at most {ZEROS_MAX}, {left} more, found {run} more"
            ),
            Self::TooManyRecords => write!(
                f,
                "records of a batch: expected at most {RECORDS_MAX}, found one more"
            ),
            Self::TooMuchRaw { found, left } => write!(
                f,
                "raw lengths of a batch's groups: expected at most {RAW_MAX}, {left} more, found {found} more"
            ),
            Self::PatchTooLong { found, page_size } => {
                write!(
                    f,
                    "patch length: expected less than a page of {page_size}, found {found}"
                )
            }
            Self::EmptyPatch => f.write_str("patch: expected at least one run, found none"),
            Self::EmptyRun => f.write_str("changed bytes of a run: expected at least 1, found 0"),
            Self::TouchingRuns => {
                f.write_str("unchanged bytes between two runs: expected at least 1, found 0")
            }
            Self::RunBeyondPage {
                unchanged,
                changed,
                left,
            } => write!(
                f,
                "run: expected to fit the page's last {left} bytes, found {unchanged} unchanged and {changed} changed"
            ),
        }
    }
}

impl core::error::Error for Refusal {}
