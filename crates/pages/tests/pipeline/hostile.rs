//! Bodies that no source would send.

use sealift_pages::{
    Altered, Body, BodyWriter, Codec, DecodeError, Decoder, Diff, Digest, Draft, GROUP_MAX, Group,
    Nowhere, Origin, PAGE_SIZE_MIN, PageDigest, Patch, RAW_MAX, RECORDS_MAX, Record, Refusal,
    Unresolvable,
};

use crate::support::{Receiver, Said, Source, at, layout, noise, said, size, text};

/// A body of these records, whose digest is that of nothing.
fn body(records: &[Record<'_>], number: u64) -> Vec<u8> {
    let layout = layout();
    let mut bytes = vec![];
    let mut writer = BodyWriter::new(&mut bytes, &layout, number);
    for record in records {
        writer.append(record).unwrap();
    }
    writer.finish(&nothing()).unwrap();
    bytes
}

fn nothing() -> Digest {
    PageDigest::new(sealift_pages::Algorithm::Blake3, size()).finish()
}

fn group(raw_len: usize, bytes: &[u8]) -> Record<'_> {
    Record::Group(Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len,
        bytes,
    })
}

fn refusal(result: Result<sealift_pages::Decoded, DecodeError>) -> Refusal {
    match result {
        Err(DecodeError::Refused(refused)) => refused.refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_bomb_is_cut_off_at_the_length_it_names() {
    let bomb = zstd::bulk::compress(&vec![0x60; 64 << 20], 1).unwrap();
    let mut decoder = Decoder::new();
    for raw_len in [1, 100, GROUP_MAX] {
        let body = body(&[group(raw_len, &bomb)], 0);
        let result = decoder.decode(&body, 0, &layout());
        assert!(
            matches!(result, Err(DecodeError::Zstd { .. })),
            "{result:?}"
        );
    }
    // A frame that hides its length, and frames that add up, do no better.
    let mut hidden = zstd::bulk::Compressor::new(1).unwrap();
    hidden.include_contentsize(false).unwrap();
    let hidden = hidden.compress(&vec![0x60; 8 << 20]).unwrap();
    let small = zstd::bulk::compress(&vec![0x60; GROUP_MAX / 2 + 1], 1).unwrap();
    for bomb in [hidden, small.repeat(2)] {
        let body = body(&[group(GROUP_MAX, &bomb)], 0);
        let result = decoder.decode(&body, 0, &layout());
        assert!(
            matches!(result, Err(DecodeError::Zstd { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_group_that_is_shorter_than_it_says_or_no_frame_is_refused() {
    let short = zstd::bulk::compress(&[0x60; 10], 1).unwrap();
    let mut decoder = Decoder::new();
    let refused = refusal(decoder.decode(&body(&[group(11, &short)], 0), 0, &layout()));
    let other = Refusal::OtherRawLength {
        expected: 11,
        found: 10,
    };
    assert_eq!(refused, other);
    for bytes in [&[7; 40][..], &short[..short.len() - 1]] {
        let result = decoder.decode(&body(&[group(10, bytes)], 0), 0, &layout());
        assert!(
            matches!(result, Err(DecodeError::Zstd { .. })),
            "{result:?}"
        );
    }
    // What failed leaves nothing behind in the worker's context.
    let good = body(&[group(10, &short)], 0);
    assert!(decoder.decode(&good, 0, &layout()).is_ok());
}

#[test]
fn a_batch_has_so_many_records_whatever_they_are() {
    let mut decoder = Decoder::new();
    let barriers = vec![0x60; RECORDS_MAX];
    let plain = [&body(&[], 0)[..], &barriers].concat();
    let decoded = decoder.decode(&plain, 0, &layout()).unwrap();
    assert!(!decoded.needs_others());
    let one_more = [&plain[..], &[0x60]].concat();
    let refused = refusal(decoder.decode(&one_more, 0, &layout()));
    assert_eq!(refused, Refusal::TooManyRecords);
    // The group is a record too.
    for (inside, fits) in [(RECORDS_MAX - 1, true), (RECORDS_MAX, false)] {
        let packed = zstd::bulk::compress(&barriers[..inside], 1).unwrap();
        let result = decoder.decode(&body(&[group(inside, &packed)], 0), 0, &layout());
        assert_eq!(result.is_ok(), fits);
    }
    let packed = zstd::bulk::compress(&vec![0x60; RAW_MAX], 1).unwrap();
    let refused = refusal(decoder.decode(&body(&[group(RAW_MAX, &packed)], 0), 0, &layout()));
    assert_eq!(refused, Refusal::TooManyRecords);
}

#[test]
fn pages_other_than_those_that_were_read_are_found_out() {
    let literal = Record::Literal {
        page: at(0),
        content: &noise(1),
    };
    let result = Decoder::new().decode(&body(&[literal], 4), 4, &layout());
    let altered = Altered { number: 4 };
    assert_eq!(result.unwrap_err(), DecodeError::Altered(altered));

    // Also when the content comes from another batch.
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let mut draft = Draft::new(size());
    draft.page(at(0), &noise(1)).unwrap();
    let (_, first, _) = source.send(0, draft);
    receiver.take(0, &first).unwrap();
    let origin = Origin {
        page: at(0),
        age: 1,
    };
    let same = Record::SameAs {
        page: at(1),
        origin,
    };
    let decoded = receiver
        .decoder
        .decode(&body(&[same], 1), 1, &layout())
        .unwrap();
    assert!(decoded.needs_others());
    let resolved = receiver.mirror.resolve(decoded, &mut Nowhere).unwrap();
    assert_eq!(resolved.verify(), Err(Altered { number: 1 }));
}

#[test]
fn a_reference_to_what_is_not_there_is_refused() {
    let zeros = Record::Zero {
        first: at(5),
        run: 3,
    };
    let page = noise(1);
    let literal = Record::Literal {
        page: at(9),
        content: &page,
    };
    let same = |from, age| Record::SameAs {
        page: at(1),
        origin: Origin {
            page: at(from),
            age,
        },
    };
    let cases = [
        // Not in this batch, only behind, and no content but zeros.
        vec![same(3, 0)],
        vec![same(9, 0), literal],
        vec![zeros, same(6, 0)],
        // Nor in others.
        vec![same(9, 1)],
    ];
    for records in cases {
        let result = Receiver::new(layout()).take(7, &body(&records, 7));
        let unresolvable = matches!(
            result,
            Err(DecodeError::Unresolvable(Unresolvable::Unknown {
                batch: 7,
                ..
            }))
        );
        assert!(unresolvable, "{result:?}");
    }
}

#[test]
fn a_patch_is_applied_to_what_it_names() {
    let layout = layout();
    let (base, mut page) = (text(1), text(1));
    page[100..110].fill(0xee);
    let mut patch = vec![];
    let diff = Patch::diff(&base, &page, size(), usize::MAX, &mut patch).unwrap();
    assert!(matches!(diff, Diff::Patched { .. }));
    let delta = |to, from, age| Record::Delta {
        page: at(to),
        origin: Origin {
            page: at(from),
            age,
        },
        patch: Patch::parse(&patch, size()).unwrap(),
    };
    let mut receiver = Receiver::new(layout.clone());
    let mut send = |number, records: &[Record<'_>], pages: &[(u64, &[u8])]| {
        let mut digest = PageDigest::new(sealift_pages::Algorithm::Blake3, size());
        for &(page, content) in pages {
            digest.page(at(page), content).unwrap();
        }
        let mut bytes = vec![];
        let mut writer = BodyWriter::new(&mut bytes, &layout, number);
        for record in records {
            writer.append(record).unwrap();
        }
        writer.finish(&digest.finish()).unwrap();
        let resolved = receiver.take(number, &bytes).unwrap();
        let expected: Vec<_> = pages
            .iter()
            .map(|&(page, content)| Said::Page(0, at(page), content.to_vec()))
            .collect();
        assert_eq!(said(resolved.entries()), expected);
    };
    let literal = Record::Literal {
        page: at(0),
        content: &base,
    };
    send(
        0,
        &[literal, delta(1, 0, 0), delta(2, 1, 0)],
        &[(0, &base), (1, &page), (2, &page)],
    );
    send(
        1,
        &[delta(3, 0, 1), delta(0, 0, 1)],
        &[(3, &page), (0, &page)],
    );
}

#[test]
fn a_few_bytes_put_no_more_than_a_batch_may() {
    // A mebibyte by 255 references of a few bytes, and not one more.
    let mut draft = Draft::new(size());
    for page in 0..256 {
        draft.page(at(page), &noise(1)).unwrap();
    }
    assert!(draft.page(at(256), &noise(1)).is_err());
    let (_, bytes, _) = Source::new(layout()).send(0, draft);
    assert!(bytes.len() < 2 * PAGE_SIZE_MIN);
    let resolved = Receiver::new(layout()).take(0, &bytes).unwrap();
    assert_eq!(resolved.content_len(), 1 << 20);
    let parsed = Body::parse(&bytes, &layout()).unwrap();
    assert!(parsed.records(&layout(), 0).all(|record| record.is_ok()));
}
