//! Each reason to refuse a body, with the offset of the field that is at fault.

#![allow(
    clippy::unwrap_used,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

mod writer;

use sealift_pages::{
    Address, Agreed, Algorithm, BODY_MAX, Body, BodyWriter, Codec, Codecs, Digest, Group, Layout,
    Origin, PAGE_SIZE_MIN, PageSize, Record, Refusal, Refused, Unwritable,
};

pub(crate) const BATCH: u64 = 5;
/// Where the records begin.
pub(crate) const H: usize = 33;

pub(crate) fn layout() -> Layout {
    less_agreed().with_agreed(Agreed {
        codecs: Codecs::ALL,
        oldest: u64::MAX,
        ..Agreed::default()
    })
}

/// Two blocks, and nothing agreed on that need not be.
pub(crate) fn less_agreed() -> Layout {
    Layout::new(PageSize::new(PAGE_SIZE_MIN).unwrap(), vec![16, 4]).unwrap()
}

pub(crate) fn refused(records: &[u8]) -> Refused {
    let mut body = vec![1];
    body.resize(H, 0);
    body.extend_from_slice(records);
    let layout = layout();
    let mut reader = Body::parse(&body, &layout).unwrap().records(&layout, BATCH);
    let refused = reader.find_map(Result::err).unwrap();
    assert!(reader.next().is_none(), "nothing is read after a refusal");
    refused
}

#[track_caller]
pub(crate) fn check(records: &[u8], offset: usize, refusal: Refusal) {
    assert_eq!(
        refused(records),
        Refused {
            offset: H + offset,
            refusal
        }
    );
}

#[test]
fn bodies_without_their_header() {
    let unknown = Body::parse(&[3; 40], &layout()).unwrap_err();
    assert_eq!(
        unknown,
        Refused {
            offset: 0,
            refusal: Refusal::UnknownDigest { found: 3 }
        }
    );
    let empty = Refusal::Truncated {
        field: "digest algorithm",
        needed: 1,
        left: 0,
    };
    assert_eq!(
        Body::parse(&[], &layout()).unwrap_err(),
        Refused {
            offset: 0,
            refusal: empty
        }
    );
    let short = Refusal::Truncated {
        field: "digest value",
        needed: 32,
        left: 31,
    };
    assert_eq!(
        Body::parse(&[1; 32], &layout()).unwrap_err(),
        Refused {
            offset: 1,
            refusal: short
        }
    );
    let long = Body::parse(&vec![1; BODY_MAX + 1], &layout()).unwrap_err();
    assert_eq!(
        long.refusal,
        Refusal::BodyTooLong {
            found: BODY_MAX + 1
        }
    );
}

#[test]
fn tags_that_are_none() {
    check(&[0x00], 0, Refusal::UnknownRecord { tag: 0x00 });
    check(&[0x92], 0, Refusal::UnknownRecord { tag: 0x92 });
    check(&[0x13], 0, Refusal::UnknownAddressing { tag: 0x13 });
    check(
        &[0x12, 0, 0, 0, 0x2f],
        4,
        Refusal::UnknownAddressing { tag: 0x2f },
    );
    for tag in [0x51, 0x62, 0x7f] {
        check(&[tag, 1, 1, 1], 0, Refusal::StrayAddressing { tag });
    }
}

#[test]
fn numbers_that_are_not_in_their_shortest_form() {
    check(
        &[0x12, 0x80, 0x00, 0, 0],
        1,
        Refusal::LongVarint { field: "block" },
    );
    let mut huge = vec![0x12, 0];
    huge.extend([0xff; 10]);
    check(
        &huge,
        2,
        Refusal::HugeVarint {
            field: "page number",
        },
    );
}

#[test]
fn fields_that_are_cut_short() {
    check(
        &[0x12, 0, 0],
        3,
        Refusal::Truncated {
            field: "run",
            needed: 1,
            left: 0,
        },
    );
    check(
        &[0x12, 0, 0x80],
        2,
        Refusal::Truncated {
            field: "page number",
            needed: 2,
            left: 1,
        },
    );
    let page = Refusal::Truncated {
        field: "page",
        needed: 4096,
        left: 2,
    };
    check(&[0x22, 0, 0, 7, 7], 3, page);
    let opaque = Refusal::Truncated {
        field: "opaque bytes",
        needed: u64::MAX,
        left: 1,
    };
    let mut huge = vec![0x50, 0];
    huge.extend([0xff; 9]);
    huge.extend([1, 9]);
    check(&huge, 12, opaque);
}

#[test]
fn relative_addresses_from_nowhere() {
    check(&[0x10, 0], 0, Refusal::NoPageBefore { tag: 0x10 });
    check(&[0x21, 1], 0, Refusal::NoPageBefore { tag: 0x21 });
    // After a group the last page is forgotten.
    let after_group = [0x12, 0, 0, 0, 0x70, 1, 0, 0, 1, 1, 0xaa, 0x10, 0];
    check(&after_group, 11, Refusal::NoPageBefore { tag: 0x10 });
    // After opaque bytes and a barrier it is not.
    let after_others = [0x12, 0, 0, 0, 0x50, 0, 1, 9, 0x60, 0x12, 0, 5, 0];
    check(&after_others, 9, Refusal::LongAddress { tag: 0x12 });
}

#[test]
fn addresses_with_a_shorter_form() {
    check(
        &[0x12, 0, 0, 0, 0x12, 0, 1, 0],
        4,
        Refusal::LongAddress { tag: 0x12 },
    );
    check(
        &[0x12, 0, 0, 0, 0x12, 0, 9, 0],
        4,
        Refusal::LongAddress { tag: 0x12 },
    );
    check(&[0x12, 0, 0, 0, 0x11, 0, 0], 5, Refusal::NothingPassedOver);
}

#[test]
fn pages_that_were_not_admitted() {
    check(
        &[0x12, 2, 0, 0],
        1,
        Refusal::UnknownBlock {
            block: 2,
            blocks: 2,
        },
    );
    let far = Refusal::UnknownBlock {
        block: 65536,
        blocks: 2,
    };
    check(&[0x12, 0x80, 0x80, 0x04, 0, 0], 1, far);
    check(
        &[0x12, 1, 4, 0],
        2,
        Refusal::PageBeyondBlock {
            block: 1,
            page: 4,
            pages: 4,
        },
    );
    // The page after the block's last one.
    let next = Refusal::PageBeyondBlock {
        block: 1,
        page: 4,
        pages: 4,
    };
    check(&[0x12, 1, 3, 0, 0x10, 0], 4, next);
    let run = Refusal::RunBeyondBlock {
        block: 1,
        page: 2,
        more: 2,
        pages: 4,
    };
    check(&[0x12, 1, 2, 2], 3, run);
    let mut endless = vec![0x12, 1, 2];
    endless.extend([0xff; 9]);
    endless.push(1);
    let run = Refusal::RunBeyondBlock {
        block: 1,
        page: 2,
        more: u64::MAX,
        pages: 4,
    };
    check(&endless, 3, run);
    let mut overflow = vec![0x12, 0, 0, 0, 0x11];
    overflow.extend([0xff; 9]);
    overflow.extend([1, 0]);
    check(&overflow, 5, Refusal::AddressOverflow { passed: u64::MAX });
    // What a reference names is held to the same.
    let origin = Refusal::PageBeyondBlock {
        block: 1,
        page: 9,
        pages: 4,
    };
    check(&[0x32, 0, 0, 1, 9, 0], 4, origin);
}

#[test]
fn references_to_before_the_session() {
    let layout = layout();
    let mut body = vec![1];
    body.resize(H, 0);
    body.extend([0x32, 0, 0, 1, 0, 5]);
    assert!(
        Body::parse(&body, &layout)
            .unwrap()
            .records(&layout, BATCH)
            .all(|record| record.is_ok())
    );
    check(
        &[0x32, 0, 0, 1, 0, 6],
        5,
        Refusal::BeforeFirstBatch { age: 6, batch: 5 },
    );
}

#[test]
fn opaque_bytes() {
    check(&[0x50, 0, 0], 2, Refusal::EmptyOpaque);
    check(
        &[0x50, 0x80, 0x80, 0x04, 1, 9],
        1,
        Refusal::UnknownChannel { found: 65536 },
    );
}

#[test]
fn groups() {
    check(
        &[0x70, 2, 0, 0, 1, 1, 9],
        1,
        Refusal::UnknownCodec { found: 2 },
    );
    check(
        &[0x70, 1, 1, 0, 1, 1, 9],
        2,
        Refusal::StraySlot { slot: 1, window: 0 },
    );
    check(
        &[0x70, 1, 0, 7, 1, 1, 9],
        3,
        Refusal::WindowNotAgreed {
            window: 7,
            agreed: 0,
        },
    );
    check(
        &[0x70, 1, 0, 0, 0, 1, 9],
        4,
        Refusal::RawLength { found: 0 },
    );
    // 1,114,113: one byte too many.
    check(
        &[0x70, 1, 0, 0, 0x81, 0x80, 0x44, 1, 9],
        4,
        Refusal::RawLength { found: 1_114_113 },
    );
    check(&[0x70, 1, 0, 0, 1, 0], 5, Refusal::EmptyGroup);
}

#[test]
fn groups_within_groups() {
    let layout = layout();
    let inner = [0x60, 0x70, 1, 0, 0, 1, 1, 9];
    let mut header = vec![1];
    header.resize(H, 0);
    let mut body = Body::parse(&header, &layout)
        .unwrap()
        .records(&layout, BATCH);
    let group = Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len: inner.len(),
        bytes: &[9],
    };
    let mut reader = body.group(&group, &inner).unwrap();
    assert_eq!(reader.next(), Some(Ok(Record::Barrier)));
    assert_eq!(
        reader.next(),
        Some(Err(Refused {
            offset: 1,
            refusal: Refusal::NestedGroup
        }))
    );
}

#[test]
fn patches_within_a_delta() {
    let delta = |rest: &[u8]| [&[0x42, 0, 0, 1, 0, 0], rest].concat();
    check(&delta(&[0]), 7, Refusal::EmptyPatch);
    check(&delta(&[2, 0, 0]), 8, Refusal::EmptyRun);
    let long = Refusal::PatchTooLong {
        found: 4096,
        page_size: 4096,
    };
    check(&delta(&[0x80, 0x20, 0, 0]), 6, long);
    let short = Refusal::Truncated {
        field: "patch",
        needed: 4,
        left: 1,
    };
    check(&delta(&[4, 0]), 7, short);
    check(&delta(&[6, 0, 1, 9, 0, 1, 9]), 10, Refusal::TouchingRuns);
}

#[test]
fn what_was_not_agreed_on() {
    let layout = less_agreed();
    let refused = |records: &[u8]| {
        let body = [&[1; H], records].concat();
        let mut records = Body::parse(&body, &layout).unwrap().records(&layout, BATCH);
        records.find_map(Result::err).unwrap()
    };
    let codec = Refusal::CodecNotAgreed { codec: Codec::Zstd };
    let found = refused(&[0x70, 1, 0, 0, 1, 1, 9]);
    assert_eq!((found.offset, found.refusal), (H + 1, codec));
    let digest = Refusal::DigestNotAgreed {
        found: Algorithm::Blake3,
        agreed: Algorithm::Sha256,
    };
    let found = Body::parse(&[2; H], &layout).unwrap_err();
    assert_eq!((found.offset, found.refusal), (0, digest));

    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let group = Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len: 1,
        bytes: &[9],
    };
    let refused = Err(Unwritable::Refused(codec));
    assert_eq!(writer.append(&Record::Group(group)), refused);
    let blake3 = Digest {
        algorithm: Algorithm::Blake3,
        value: [0; 32],
    };
    assert_eq!(writer.finish(&blake3), Err(Unwritable::Refused(digest)));
}

#[test]
fn a_page_does_not_refer_to_itself() {
    check(&[0x32, 0, 3, 0, 3, 0], 5, Refusal::OwnPage);
    check(&[0x42, 0, 3, 0, 3, 0, 3, 0, 1, 9], 5, Refusal::OwnPage);
    let layout = layout();
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let page = Address { block: 0, page: 3 };
    let same = |age| Record::SameAs {
        page,
        origin: Origin { page, age },
    };
    let own = Err(Unwritable::Refused(Refusal::OwnPage));
    assert_eq!(writer.append(&same(0)), own);
    assert_eq!(writer.append(&same(1)), Ok(()));
}
