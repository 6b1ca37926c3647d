//! What holds for every list of records, and for every string of bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::{
    Address, Agreed, Algorithm, Body, BodyWriter, Codec, Codecs, Diff, Digest, Group, Layout,
    Origin, PAGE_SIZE_MIN, PageSize, Patch, Record, Refused, Unwritable,
};

const BATCH: u64 = 300;
const DIGEST: Digest = Digest {
    algorithm: Algorithm::Sha256,
    value: [0xd1; 32],
};
const HEADER: usize = 33;

fn size() -> PageSize {
    PageSize::new(PAGE_SIZE_MIN).unwrap()
}

/// Two blocks: small, so that random addresses meet, and one whose page numbers take two bytes.
fn layout() -> Layout {
    Layout::new(size(), vec![8, 1000])
        .unwrap()
        .with_agreed(Agreed {
            digest: Algorithm::Sha256,
            codecs: Codecs::ALL,
            windows: 200,
            oldest: BATCH,
        })
}

/// A record that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Zero {
        first: Address,
        run: u64,
    },
    Literal {
        page: Address,
        fill: u8,
    },
    Planes {
        page: Address,
        fill: u8,
    },
    SameAs {
        page: Address,
        origin: Origin,
    },
    Delta {
        page: Address,
        origin: Origin,
        patch: Vec<u8>,
    },
    Opaque {
        channel: u16,
        bytes: Vec<u8>,
    },
    Barrier,
    Group {
        slot: u64,
        window: u64,
        raw_len: usize,
        bytes: Vec<u8>,
    },
}

impl Owned {
    fn with<T>(&self, then: impl FnOnce(&Record<'_>) -> T) -> T {
        let content;
        let record = match *self {
            Self::Zero { first, run } => Record::Zero { first, run },
            Self::Literal { page, fill } => {
                content = [fill; PAGE_SIZE_MIN];
                Record::Literal {
                    page,
                    content: &content,
                }
            }
            Self::Planes { page, fill } => {
                content = [fill; PAGE_SIZE_MIN];
                Record::Planes {
                    page,
                    planes: &content,
                }
            }
            Self::SameAs { page, origin } => Record::SameAs { page, origin },
            Self::Delta {
                page,
                origin,
                ref patch,
            } => Record::Delta {
                page,
                origin,
                patch: Patch::parse(patch, size()).unwrap(),
            },
            Self::Opaque { channel, ref bytes } => Record::Opaque { channel, bytes },
            Self::Barrier => Record::Barrier,
            Self::Group {
                slot,
                window,
                raw_len,
                ref bytes,
            } => Record::Group(Group {
                codec: Codec::Zstd,
                slot,
                window,
                raw_len,
                bytes,
            }),
        };
        then(&record)
    }
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        (0u64..8).prop_map(|page| Address { block: 0, page }),
        (0u64..1000).prop_map(|page| Address { block: 1, page }),
        // The last pages, where runs and successors end.
        (998u64..1000).prop_map(|page| Address { block: 1, page }),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    (address(), 0..=BATCH).prop_map(|(page, age)| Origin { page, age })
}

fn elsewhere((page, origin): &(Address, Origin)) -> bool {
    origin.age > 0 || origin.page != *page
}

fn patch() -> impl Strategy<Value = Vec<u8>> {
    vec((0usize..200, 1usize..20, any::<u8>()), 1..8).prop_map(|runs| {
        let mut page = vec![0; PAGE_SIZE_MIN];
        let mut at = 0;
        for (gap, len, fill) in runs {
            page[at + gap..at + gap + len].fill(fill | 1);
            at += gap + len;
        }
        let mut out = vec![];
        let diff = Patch::diff(&[0; PAGE_SIZE_MIN], &page, size(), usize::MAX, &mut out);
        assert_eq!(diff, Ok(Diff::Patched { len: out.len() }));
        out
    })
}

fn record() -> impl Strategy<Value = Owned> {
    let page_record = prop_oneof![
        (address(), 1u64..4).prop_map(|(first, run)| {
            let pages = if first.block == 0 { 8 } else { 1000 };
            Owned::Zero {
                first,
                run: run.min(pages - first.page),
            }
        }),
        (address(), any::<u8>()).prop_map(|(page, fill)| Owned::Literal { page, fill }),
        (address(), any::<u8>()).prop_map(|(page, fill)| Owned::Planes { page, fill }),
        (address(), origin())
            .prop_filter("not itself", elsewhere)
            .prop_map(|(page, origin)| Owned::SameAs { page, origin }),
        (
            (address(), origin()).prop_filter("not itself", elsewhere),
            patch()
        )
            .prop_map(|((page, origin), patch)| Owned::Delta {
                page,
                origin,
                patch
            }),
    ];
    prop_oneof![
        6 => page_record,
        1 => (any::<u16>(), vec(any::<u8>(), 1..300))
            .prop_map(|(channel, bytes)| Owned::Opaque { channel, bytes }),
        1 => Just(Owned::Barrier),
        1 => (1usize..40_000, vec(any::<u8>(), 1..50))
            .prop_map(|(raw_len, bytes)| Owned::Group { slot: 0, window: 0, raw_len, bytes }),
    ]
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

fn write(records: &[Owned], layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, layout, BATCH);
    for record in records {
        record.with(|record| writer.append(record)).unwrap();
    }
    writer.finish(&DIGEST).unwrap();
    bytes
}

fn rewrite(records: &[Record<'_>], digest: &Digest, layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, layout, BATCH);
    for record in records {
        writer.append(record).unwrap();
    }
    writer.finish(digest).unwrap();
    bytes
}

fn read<'a>(bytes: &'a [u8], layout: &Layout) -> Result<(Digest, Vec<Record<'a>>), Refused> {
    let body = Body::parse(bytes, layout)?;
    let records = body.records(layout, BATCH).collect::<Result<_, _>>()?;
    Ok((*body.digest(), records))
}

/// Bytes that get past the first checks far more often than noise does: tags and small numbers, and few pages.
fn almost_records() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (1u8..=8, 0u8..=3).prop_map(|(kind, mode)| vec![kind << 4 | mode]),
        6 => (0u8..4).prop_map(|number| vec![number]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|fill| vec![fill; PAGE_SIZE_MIN]),
    ];
    vec(piece, 0..24).prop_map(|pieces| {
        let mut bytes = vec![1];
        bytes.resize(HEADER, 0xd1);
        bytes.extend(pieces.concat());
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_list_of_records_comes_back(records in vec(record(), 0..24)) {
        let layout = layout();
        let bytes = write(&records, &layout);
        let (digest, found) = read(&bytes, &layout).unwrap();
        prop_assert_eq!(digest, DIGEST);
        prop_assert_eq!(found.len(), records.len());
        for (sent, found) in records.iter().zip(&found) {
            sent.with(|sent| assert_eq!(sent, found));
        }
    }

    #[test]
    fn what_is_accepted_encodes_to_the_same_bytes(bytes in almost_records()) {
        let layout = layout();
        if let Ok((digest, records)) = read(&bytes, &layout) {
            prop_assert_eq!(rewrite(&records, &digest, &layout), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_means_something_else(
        records in vec(record(), 1..8), at: prop::sample::Index, flip in 1u8..,
    ) {
        let layout = layout();
        let mut bytes = write(&records, &layout);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok((digest, records)) = read(&bytes, &layout) {
            prop_assert_eq!(rewrite(&records, &digest, &layout), bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let widest = Layout::widest(size(), Algorithm::Sha256);
        let _ = read(&bytes, &widest);
        let header = write(&[], &widest);
        let mut body = Body::parse(&header, &widest).unwrap().records(&widest, BATCH);
        if let Ok(reader) = body.group(&group(bytes.len()), &bytes) {
            for _ in reader {}
        }
        let _ = Patch::parse(&bytes, size());
    }

    #[test]
    fn a_body_cut_anywhere_but_between_records_is_refused(
        records in vec(record(), 1..5), literal in any::<bool>(),
    ) {
        let layout = layout();
        // Few literals: each costs a page of cuts.
        let records: Vec<_> = records.into_iter()
            .filter(|record| literal || !matches!(record, Owned::Literal { .. } | Owned::Planes { .. }))
            .collect();
        let whole = write(&records, &layout);
        let borders: Vec<_> = (0..=records.len()).map(|n| write(&records[..n], &layout).len()).collect();
        for cut in 0..whole.len() {
            let found = read(&whole[..cut], &layout);
            match borders.iter().position(|&border| border == cut) {
                Some(count) => prop_assert_eq!(found.unwrap().1.len(), count),
                None => prop_assert!(found.is_err(), "cut at {}", cut),
            }
        }
    }

    #[test]
    fn a_patch_makes_the_page_it_was_made_from(
        base in vec(any::<u8>(), PAGE_SIZE_MIN..=PAGE_SIZE_MIN),
        changes in vec((0..PAGE_SIZE_MIN, any::<u8>()), 0..60),
        most in 0usize..300,
    ) {
        let mut page = base.clone();
        for (at, byte) in changes {
            page[at] = byte;
        }
        let mut bytes = vec![];
        match Patch::diff(&base, &page, size(), most, &mut bytes).unwrap() {
            Diff::Same => prop_assert_eq!(base, page),
            Diff::TooLong => prop_assert!(bytes.is_empty()),
            Diff::Patched { len } => {
                prop_assert!(len == bytes.len() && len <= most);
                let mut out = vec![0; PAGE_SIZE_MIN];
                Patch::parse(&bytes, size()).unwrap().apply(&base, &mut out).unwrap();
                prop_assert_eq!(out, page);
            }
        }
    }

    #[test]
    fn what_parses_as_a_patch_has_one_form(bytes in vec(0u8..6, 0..40)) {
        if let Ok(patch) = Patch::parse(&bytes, size()) {
            let mut again = vec![];
            let mut told = 0;
            for run in patch.runs() {
                sealift_pages::varint::encode((run.offset - told) as u64, &mut again);
                sealift_pages::varint::encode(run.bytes.len() as u64, &mut again);
                again.extend_from_slice(run.bytes);
                told = run.offset + run.bytes.len();
            }
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn a_group_is_read_with_addresses_of_its_own() {
    let layout = layout();
    let page = Address { block: 1, page: 7 };
    let literal = Record::Literal {
        page,
        content: &[1; PAGE_SIZE_MIN],
    };
    let after = Record::Zero {
        first: Address { block: 1, page: 8 },
        run: 2,
    };
    let (mut inner, mut header) = (vec![], vec![]);
    let mut body = BodyWriter::new(&mut header, &layout, BATCH);
    let mut writer = body.group(&mut inner);
    writer.append(&literal).unwrap();
    writer.append(&after).unwrap();
    assert_eq!(inner[..3], [0x22, 1, 7]);
    assert_eq!(inner[3 + PAGE_SIZE_MIN..], [0x10, 1]);
    let header = write(&[], &layout);
    let mut body = Body::parse(&header, &layout)
        .unwrap()
        .records(&layout, BATCH);
    let found: Vec<_> = body
        .group(&group(inner.len()), &inner)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(found, [literal, after]);
}

#[test]
fn a_literal_is_a_view_into_the_body() {
    let layout = layout();
    let bytes = write(
        &[Owned::Literal {
            page: Address { block: 0, page: 0 },
            fill: 9,
        }],
        &layout,
    );
    let (_, records) = read(&bytes, &layout).unwrap();
    let Record::Literal { content, .. } = records[0] else {
        panic!("{records:?}")
    };
    assert!(bytes.as_ptr_range().contains(&content.as_ptr()));
}

#[test]
fn a_full_body_says_so_and_stays_as_it_is() {
    let layout = Layout::widest(size(), Algorithm::Sha256);
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, 0);
    let content = [7; PAGE_SIZE_MIN];
    // 1 MiB of literals fits, with room for what describes it.
    for page in 0..256 {
        let page = Address { block: 0, page };
        let literal = Record::Literal {
            page,
            content: &content,
        };
        writer.append(&literal).unwrap();
    }
    let room = sealift_pages::BODY_MAX - writer.len();
    let last = vec![1; room - 5];
    writer
        .append(&Record::Opaque {
            channel: 1,
            bytes: &last,
        })
        .unwrap();
    let refused = writer.append(&Record::Barrier);
    assert_eq!(refused, Err(Unwritable::Full { room: 0 }));
    writer.finish(&DIGEST).unwrap();
    assert_eq!(bytes.len(), sealift_pages::BODY_MAX);
    assert!(
        Body::parse(&bytes, &layout)
            .unwrap()
            .records(&layout, 0)
            .all(|record| record.is_ok())
    );
}
