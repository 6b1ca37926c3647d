//! Batches that go on a window: they find what the batches before had, and are inflated in their order.

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::{
    Agreed, Body, BodyWriter, Codec, DecodeError, Decoder, Digest, Draft, Encoder, Group, Layout,
    Mirror, Nowhere, OutOfTurn, Packing, Place, Record, Refusal, Unpacking,
};

use crate::support::{at, layout, noise, said, size, text};

const LEVEL: i32 = 2;

/// Two windows are agreed on.
fn windowed() -> Layout {
    let agreed = Agreed {
        windows: 2,
        ..*layout().agreed()
    };
    layout().with_agreed(agreed)
}

fn draft(pages: &[Vec<u8>], first: u64) -> Draft {
    let mut draft = Draft::new(size());
    for (page, content) in (first..).zip(pages) {
        draft.page(at(page), content).unwrap();
    }
    draft
}

/// Pages half of which are of something that comes again, wherever it stands, and half of something new.
fn like(seeds: &[u64], shift: usize) -> Vec<Vec<u8>> {
    seeds
        .iter()
        .map(|&seed| {
            let (old, new) = (noise(seed), noise(seed ^ 0xffff << 20));
            let mut page = new[..shift].to_vec();
            page.extend_from_slice(&old[..2048]);
            page.resize(size().bytes(), 7);
            page
        })
        .collect()
}

struct Ends {
    layout: Layout,
    encoder: Encoder,
    decoder: Decoder,
    packing: Packing,
    unpacking: Unpacking,
}

impl Ends {
    fn new() -> Self {
        Self {
            layout: windowed(),
            encoder: Encoder::new(LEVEL),
            decoder: Decoder::new(),
            packing: Packing::new(1, LEVEL),
            unpacking: Unpacking::new(1),
        }
    }

    fn encode(&mut self, draft: &Draft, number: u64) -> Vec<u8> {
        let (mut body, window) = (vec![], &mut self.packing);
        self.encoder
            .encode_within(draft, number, &self.layout, window, &mut body)
            .unwrap();
        body
    }

    fn place(&self, body: &[u8], number: u64) -> Option<Place> {
        let body = Body::parse(body, &self.layout).unwrap();
        body.window(&self.layout, number)
    }

    fn decode(
        &mut self,
        body: &[u8],
        number: u64,
    ) -> Result<Vec<crate::support::Said>, DecodeError> {
        let window = &mut self.unpacking;
        let decoded = self
            .decoder
            .decode_within(body, number, &self.layout, window)?;
        let resolved = Mirror::new(0).resolve(decoded, &mut Nowhere).unwrap();
        resolved.verify().unwrap();
        Ok(said(resolved.entries()))
    }
}

#[test]
fn what_a_batch_before_had_costs_next_to_nothing() {
    let mut ends = Ends::new();
    let seeds: Vec<u64> = (0..200).collect();
    let first = ends.encode(&draft(&like(&seeds, 64), 0), 0);
    // The same again, elsewhere in each page: no page of it was sent before.
    let again = draft(&like(&seeds, 1001), 1000);
    let second = ends.encode(&again, 1);
    let mut alone = vec![];
    ends.encoder
        .encode(&again, 1, &ends.layout, &mut alone)
        .unwrap();
    assert!(
        second.len() * 10 < alone.len() * 7,
        "{} of {}",
        second.len(),
        alone.len()
    );
    let place = |slot| Some(Place { window: 1, slot });
    assert_eq!(ends.place(&first, 0), place(1));
    assert_eq!(ends.place(&second, 1), place(2));
    assert_eq!(ends.place(&alone, 1), None);
    ends.decode(&first, 0).unwrap();
    assert_eq!(ends.decode(&second, 1).unwrap(), said(again.entries()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_batch_comes_out_whatever_went_before(
        batches in vec((vec((0u64..40, 0usize..3), 0..40), any::<bool>()), 1..12),
        level in 1i32..4,
    ) {
        let mut ends = Ends::new();
        ends.packing = Packing::new(1, level);
        let mut slot = 0;
        for (number, (pages, alone)) in (0..).zip(batches) {
            let pages: Vec<_> = pages
                .iter()
                .map(|&(seed, kind)| match kind {
                    0 => noise(seed),
                    1 => text(seed),
                    _ => like(&[seed], usize::try_from(seed).unwrap() * 13).remove(0),
                })
                .collect();
            let draft = draft(&pages, number * 40);
            let mut body = vec![];
            if alone {
                ends.encoder.encode(&draft, number, &ends.layout, &mut body).unwrap();
            } else {
                body = ends.encode(&draft, number);
            }
            // What does not become shorter is not sent in the window, and the window goes on.
            if let Some(place) = ends.place(&body, number) {
                slot += 1;
                prop_assert_eq!(place, Place { window: 1, slot });
            }
            prop_assert_eq!(ends.decode(&body, number).unwrap(), said(draft.entries()));
        }
    }
}

#[test]
fn a_group_whose_turn_it_is_not_is_refused() {
    let mut ends = Ends::new();
    let bodies: Vec<_> = (0..3)
        .map(|number| ends.encode(&draft(&[text(number), text(7)], number * 2), number))
        .collect();
    let place = |slot| Place { window: 1, slot };
    let out_of_turn = |expected, found| {
        let (expected, found) = (place(expected), place(found));
        Err(DecodeError::OutOfTurn(OutOfTurn { expected, found }))
    };
    ends.decode(&bodies[0], 0).unwrap();
    assert_eq!(ends.decode(&bodies[2], 2), out_of_turn(2, 3));
    assert_eq!(ends.decode(&bodies[0], 0), out_of_turn(2, 1));
    assert_eq!(ends.unpacking.next(), place(2));
    ends.decode(&bodies[1], 1).unwrap();
    let alone = ends.decoder.decode(&bodies[2], 2, &ends.layout);
    assert_eq!(alone.unwrap_err(), DecodeError::NoWindow);
    ends.decode(&bodies[2], 2).unwrap();
}

/// A body with one group.
fn body(layout: &Layout, bytes: &[u8], raw_len: usize) -> Vec<u8> {
    let mut body = vec![];
    let mut writer = BodyWriter::new(&mut body, layout, 0);
    writer
        .append(&Record::Group(Group {
            codec: Codec::Zstd,
            slot: 1,
            window: 1,
            raw_len,
            bytes,
        }))
        .unwrap();
    let digest = Digest {
        algorithm: layout.agreed().digest,
        value: [0; 32],
    };
    writer.finish(&digest).unwrap();
    body
}

#[test]
fn a_hostile_window_is_refused_and_takes_no_more_than_was_agreed() {
    let barriers = |many: usize| vec![0x60; many];
    // A frame that looks back 64 MiB: its head, and an empty block that is not the last.
    let far = [0x28, 0xb5, 0x2f, 0xfd, 0, 16 << 3, 0, 0, 0];
    // The same with 2^25 bytes, and then a block of 200 bytes, run-length encoded: it says that it is 100.
    let mut longer = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 15 << 3];
    let [head @ .., _] = (200_u32 << 3 | 1 << 1).to_le_bytes();
    longer.extend_from_slice(&head);
    longer.push(0x60);
    let mut shorter = Vec::new();
    shorter.extend_from_slice(&longer);
    for (bytes, raw_len) in [(&far[..], 100), (&longer, 100), (&barriers(40), 40)] {
        let mut ends = Ends::new();
        let body = body(&ends.layout, bytes, raw_len);
        let found = ends.decode(&body, 0);
        assert!(
            matches!(
                found,
                Err(DecodeError::Zstd { .. } | DecodeError::Altered(_))
            ),
            "{found:?}"
        );
    }
    let mut ends = Ends::new();
    let short = body(&ends.layout, &shorter, 300);
    let found = ends.decode(&short, 0);
    let Err(DecodeError::Refused(refused)) = found else {
        panic!("{found:?}");
    };
    let (expected, found) = (300, 200);
    assert_eq!(refused.refusal, Refusal::OtherRawLength { expected, found });
}
