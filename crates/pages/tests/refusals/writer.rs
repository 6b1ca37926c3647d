//! A writer refuses what a reader would.

use sealift_pages::{
    Address, BodyWriter, Codec, Group, Origin, PAGE_SIZE_MIN, PageSize, Patch, Record, Refusal,
    Unwritable,
};

use crate::{BATCH, layout};

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let layout = layout();
    let here = Address { block: 0, page: 0 };
    let gone = Address { block: 1, page: 4 };
    let beyond = Refusal::PageBeyondBlock {
        block: 1,
        page: 4,
        pages: 4,
    };
    let content = [1; PAGE_SIZE_MIN];
    let wider = PageSize::new(8192).unwrap();
    let group = |slot, window, raw_len, bytes| {
        Record::Group(Group {
            codec: Codec::Zstd,
            slot,
            window,
            raw_len,
            bytes,
        })
    };
    let refusals = [
        (
            Record::Literal {
                page: gone,
                content: &content,
            },
            beyond,
        ),
        (
            Record::Zero {
                first: gone,
                run: 1,
            },
            beyond,
        ),
        (
            Record::SameAs {
                page: here,
                origin: Origin { page: gone, age: 0 },
            },
            beyond,
        ),
        (
            Record::SameAs {
                page: here,
                origin: Origin { page: here, age: 6 },
            },
            Refusal::BeforeFirstBatch { age: 6, batch: 5 },
        ),
        (
            Record::Zero {
                first: here,
                run: 17,
            },
            Refusal::RunBeyondBlock {
                block: 0,
                page: 0,
                more: 16,
                pages: 16,
            },
        ),
        (
            Record::Opaque {
                channel: 0,
                bytes: &[],
            },
            Refusal::EmptyOpaque,
        ),
        (
            group(1, 0, 1, &[9]),
            Refusal::StraySlot { slot: 1, window: 0 },
        ),
        (
            group(0, 1, 1, &[9]),
            Refusal::WindowNotAgreed {
                window: 1,
                agreed: 0,
            },
        ),
        (group(0, 0, 0, &[9]), Refusal::RawLength { found: 0 }),
        (group(0, 0, 1, &[]), Refusal::EmptyGroup),
    ];
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, BATCH);
    for (record, refusal) in refusals {
        assert_eq!(writer.append(&record), Err(Unwritable::Refused(refusal)));
        assert!(writer.is_empty(), "{record:?}");
    }
    assert_eq!(
        writer.append(&Record::Zero {
            first: here,
            run: 0
        }),
        Err(Unwritable::EmptyRun)
    );
    let half = Record::Literal {
        page: here,
        content: &content[..2048],
    };
    assert!(matches!(writer.append(&half), Err(Unwritable::Page(_))));
    let patch = Patch::parse(&[0, 1, 9], wider).unwrap();
    let delta = Record::Delta {
        page: here,
        origin: Origin { page: here, age: 1 },
        patch,
    };
    assert!(matches!(writer.append(&delta), Err(Unwritable::Page(_))));
    assert!(writer.is_empty());

    let mut bytes = vec![];
    let nested = writer.group(&mut bytes).append(&group(0, 0, 1, &[9]));
    assert_eq!(nested, Err(Unwritable::Refused(Refusal::NestedGroup)));
}
