//! How much a batch may put, however few bytes it takes to ask for it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use sealift_pages::{
    Address, Algorithm, BODY_MAX, Body, BodyWriter, CONTENT_MAX, Codec, Digest, GROUP_MAX, Group,
    Layout, Origin, PageSize, RAW_MAX, Record, Refusal, Unwritable, ZEROS_MAX,
};

const BATCH: u64 = 9;
/// Pages of content that a batch may put, when they have 64 KiB.
const PAGES: u64 = CONTENT_MAX / (64 << 10);

fn layout() -> Layout {
    Layout::widest(PageSize::new(64 << 10).unwrap(), Algorithm::Sha256)
}

fn at(page: u64) -> Address {
    Address { block: 0, page }
}

/// Three bytes that put a page.
fn same(page: u64) -> Record<'static> {
    let origin = Origin {
        page: at(1000),
        age: 0,
    };
    Record::SameAs {
        page: at(page),
        origin,
    }
}

fn zeros(first: u64, run: u64) -> Record<'static> {
    Record::Zero {
        first: at(first),
        run,
    }
}

fn group(raw_len: usize) -> Group<'static> {
    Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len,
        bytes: &[7],
    }
}

fn too_much_content() -> Refusal {
    Refusal::TooMuchContent {
        found: 64 << 10,
        left: 0,
    }
}

/// A body of records, none of which is held against what a batch may put.
fn unbounded(records: &[Record<'_>], layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![1; 33];
    for record in records {
        let mut one = vec![];
        let mut writer = BodyWriter::new(&mut one, layout, BATCH);
        writer.append(record).unwrap();
        bytes.extend_from_slice(&one[33..]);
    }
    bytes
}

fn refusal(records: &[Record<'_>]) -> Refusal {
    let layout = layout();
    let bytes = unbounded(records, &layout);
    let body = Body::parse(&bytes, &layout).unwrap();
    let mut reader = body.records(&layout, BATCH);
    let refused = reader.by_ref().find_map(Result::err).unwrap();
    assert!(reader.next().is_none());
    refused.refusal
}

#[test]
fn a_batch_puts_one_mebibyte_of_content() {
    let layout = layout();
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    for page in 0..PAGES {
        writer.append(&same(page)).unwrap();
    }
    let len = writer.len();
    assert_eq!(
        writer.append(&same(PAGES)),
        Err(Unwritable::Spent(too_much_content()))
    );
    assert_eq!(writer.len(), len);
    writer.append(&Record::Barrier).unwrap();

    // Each page backwards, so that records stay alike when written alone.
    let records: Vec<_> = (0..=PAGES).rev().map(same).collect();
    assert_eq!(refusal(&records), too_much_content());
    let literal = vec![1; 64 << 10];
    let mut records: Vec<_> = (1..=PAGES).rev().map(same).collect();
    records.push(Record::Literal {
        page: at(0),
        content: &literal,
    });
    assert_eq!(refusal(&records), too_much_content());
}

#[test]
fn a_batch_puts_so_many_pages_of_zeros() {
    let layout = layout();
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let beyond = |run, left| Refusal::TooManyZeros { run, left };
    assert_eq!(
        writer.append(&zeros(0, ZEROS_MAX + 1)),
        Err(Unwritable::Spent(beyond(ZEROS_MAX + 1, ZEROS_MAX)))
    );
    writer.append(&zeros(0, ZEROS_MAX - 1)).unwrap();
    assert_eq!(
        writer.append(&zeros(ZEROS_MAX, 2)),
        Err(Unwritable::Spent(beyond(2, 1)))
    );
    writer.append(&zeros(ZEROS_MAX, 1)).unwrap();

    assert_eq!(refusal(&[zeros(9, ZEROS_MAX), zeros(0, 1)]), beyond(1, 0));
    let mut endless = vec![1; 33];
    endless.extend([0x12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let body = Body::parse(&endless, &layout).unwrap();
    let refused = body.records(&layout, BATCH).find_map(Result::err).unwrap();
    assert_eq!(
        (refused.offset, refused.refusal),
        (36, beyond(1 << 42, ZEROS_MAX))
    );
}

#[test]
fn the_groups_of_a_batch_inflate_to_so_much_together() {
    let layout = layout();
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let beyond = Refusal::TooMuchRaw { found: 3, left: 2 };
    writer.append(&Record::Group(group(RAW_MAX - 2))).unwrap();
    assert_eq!(
        writer.append(&Record::Group(group(3))),
        Err(Unwritable::Spent(beyond))
    );
    writer.append(&Record::Group(group(2))).unwrap();
    let records = [Record::Group(group(RAW_MAX - 2)), Record::Group(group(3))];
    assert_eq!(refusal(&records), beyond);
}

#[test]
fn what_a_group_puts_counts_for_the_batch() {
    let layout = layout();
    let mut inner = vec![];
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let mut inside = writer.group(&mut inner);
    inside.append(&zeros(5000, ZEROS_MAX)).unwrap();
    for page in 6000..6000 + PAGES {
        inside.append(&same(400_000 + page)).unwrap();
    }
    assert_eq!(
        inside.append(&same(900_000)),
        Err(Unwritable::Spent(too_much_content()))
    );
    let spent = Unwritable::Spent(Refusal::TooManyZeros { run: 1, left: 0 });
    let raw_len = inner.len();
    writer.append(&Record::Group(group(raw_len))).unwrap();
    assert_eq!(
        writer.append(&same(0)),
        Err(Unwritable::Spent(too_much_content()))
    );
    assert_eq!(writer.append(&zeros(0, 1)), Err(spent));

    // The reader counts likewise, over a group, the next, and the body behind them.
    let groups = [
        Record::Group(group(raw_len)),
        Record::Group(group(1)),
        zeros(0, 1),
    ];
    let body = unbounded(&groups, &layout);
    let body = Body::parse(&body, &layout).unwrap();
    let mut reader = body.records(&layout, BATCH);
    let Some(Ok(Record::Group(first))) = reader.next() else {
        panic!("a group")
    };
    let mut inside = reader.group(&first, &inner).unwrap();
    assert!(inside.all(|record| record.is_ok()));
    let Some(Ok(Record::Group(_))) = reader.next() else {
        panic!("a group")
    };
    let again = [0x12, 0, 0, 0];
    let mut inside = reader.group(&group(again.len()), &again).unwrap();
    let beyond = Refusal::TooManyZeros { run: 1, left: 0 };
    assert_eq!(inside.next().unwrap().unwrap_err().refusal, beyond);
    assert_eq!(reader.next().unwrap().unwrap_err().refusal, beyond);
}

#[test]
fn a_discarded_group_costs_nothing() {
    let layout = layout();
    let (mut bytes, mut inner) = (vec![], vec![42]);
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let mut inside = writer.group(&mut inner);
    inside.append(&zeros(0, ZEROS_MAX)).unwrap();
    inside.append(&same(ZEROS_MAX)).unwrap();
    inside.discard();
    writer.append(&zeros(0, ZEROS_MAX)).unwrap();
    for page in 0..PAGES {
        writer.append(&same(ZEROS_MAX + page)).unwrap();
    }
    assert_eq!(inner, [42]);
}

#[test]
fn a_group_inflates_to_what_it_named() {
    let layout = layout();
    let body = unbounded(&[], &layout);
    let mut reader = Body::parse(&body, &layout).unwrap().records(&layout, BATCH);
    for (expected, found) in [(2, 1), (1, 2), (1, 0)] {
        let inflated = vec![0x60; found];
        let refused = reader.group(&group(expected), &inflated).unwrap_err();
        assert_eq!(refused.refusal, Refusal::OtherRawLength { expected, found });
    }
    for len in [0, GROUP_MAX + 1] {
        let refused = reader.group(&group(len), &vec![0x60; len]).unwrap_err();
        assert_eq!(refused.refusal, Refusal::RawLength { found: len as u64 });
    }
    assert!(reader.group(&group(1), &[0x60]).is_ok());
}

#[test]
fn a_body_or_group_grows_to_its_limit_and_no_further() {
    let layout = layout();
    let head = 4;
    let (mut bytes, mut inner) = (vec![], vec![]);
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    let mut group = writer.group(&mut inner);
    let opaque = vec![1; BODY_MAX];
    let record = |len| Record::Opaque {
        channel: 0,
        bytes: &opaque[..len],
    };
    // The payload alone would fit; what is in front of it does not.
    for len in [GROUP_MAX - head, GROUP_MAX - 1, GROUP_MAX] {
        let full = Err(Unwritable::Full { room: GROUP_MAX });
        assert_eq!(group.append(&record(len)), full);
        assert!(group.is_empty());
    }
    group.append(&record(GROUP_MAX - head - 1)).unwrap();
    assert_eq!(group.len(), GROUP_MAX);
    let full = Err(Unwritable::Full { room: 0 });
    assert_eq!(group.append(&Record::Barrier), full);
    group.discard();

    let room = BODY_MAX - writer.len();
    for len in [room - head, room - 1, room] {
        assert_eq!(writer.append(&record(len)), Err(Unwritable::Full { room }));
        assert!(writer.is_empty());
    }
    writer.append(&record(room - head - 1)).unwrap();
    assert_eq!(writer.append(&Record::Barrier), full);
    writer
        .finish(&Digest {
            algorithm: Algorithm::Sha256,
            value: [0; 32],
        })
        .unwrap();
    assert_eq!(bytes.len(), BODY_MAX);
}
