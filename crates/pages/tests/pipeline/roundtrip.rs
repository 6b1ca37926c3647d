//! What goes in comes out, in order, whatever it is made of.

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::{Address, Agreed, Algorithm, Draft, Full};

use crate::support::{Receiver, Said, Source, at, layout, noise, said, size, text};

/// One thing that QEMU hands over.
#[derive(Clone, Debug)]
enum Step {
    Page(Address, Fill),
    Zero(Address),
    Opaque(u16, Vec<u8>),
    Barrier,
}

#[derive(Clone, Copy, Debug)]
enum Fill {
    Zero,
    Noise(u64),
    Text(u64),
}

fn fill(fill: Fill) -> Vec<u8> {
    match fill {
        Fill::Zero => vec![0; size().bytes()],
        Fill::Noise(seed) => noise(seed),
        Fill::Text(seed) => text(seed),
    }
}

fn put(draft: &mut Draft, step: &Step) -> Result<(), Full> {
    match step {
        Step::Page(at, what) => draft.page(*at, &fill(*what)),
        Step::Zero(at) => draft.zero(*at),
        Step::Opaque(channel, bytes) => draft.opaque(*channel, bytes).map(|taken| {
            assert_eq!(taken, bytes.len(), "a small batch has room");
        }),
        Step::Barrier => draft.barrier(),
    }
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        (0u64..64).prop_map(|page| Address { block: 0, page }),
        (0u64..40).prop_map(at),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fill = prop_oneof![
        1 => Just(Fill::Zero),
        // Few seeds, so that contents come again.
        4 => (0u64..12).prop_map(Fill::Noise),
        4 => (0u64..12).prop_map(Fill::Text),
    ];
    prop_oneof![
        8 => (address(), fill).prop_map(|(at, fill)| Step::Page(at, fill)),
        3 => address().prop_map(Step::Zero),
        2 => (0u16..4, vec(any::<u8>(), 1..200)).prop_map(|(channel, bytes)| Step::Opaque(channel, bytes)),
        1 => Just(Step::Barrier),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_drafted_is_what_arrives(
        batches in vec(vec(step(), 0..60), 1..8),
        gaps in vec(1u64..3, 8),
        digest in prop_oneof![Just(Algorithm::Sha256), Just(Algorithm::Blake3)],
        compressed: bool,
    ) {
        let mut agreed = Agreed { digest, oldest: crate::support::OLDEST, ..Agreed::default() };
        if compressed {
            agreed.codecs = sealift_pages::Codecs::ALL;
        }
        let layout = layout().with_agreed(agreed);
        let (mut source, mut receiver) = (Source::new(layout.clone()), Receiver::new(layout));
        let mut number = 0;
        for (steps, gap) in batches.iter().zip(gaps) {
            let mut draft = Draft::new(size());
            for step in steps {
                put(&mut draft, step).unwrap();
            }
            let (draft, body, tally) = source.send(number, draft);
            let resolved = receiver.take(number, &body).unwrap();
            prop_assert_eq!(resolved.number(), number);
            let arrived = said(resolved.entries());
            prop_assert_eq!(&arrived, &said(draft.entries()));
            let pages = arrived.iter().filter(|said| matches!(said, Said::Page(..))).count();
            prop_assert_eq!(tally.memory_bytes, (pages * size().bytes()) as u64);
            let same = tally.same_as.pages + tally.delta.pages;
            let by_kind = tally.zero.pages + tally.literal.pages + same;
            prop_assert_eq!(by_kind, pages as u64);
            let stamped: u64 = draft.addresses().map(|(_, run)| run).sum();
            prop_assert_eq!(stamped, pages as u64);
            number += gap;
        }
    }
}

#[test]
fn a_page_belongs_to_the_channel_of_the_opaque_bytes_before_it() {
    let mut draft = Draft::new(size());
    draft.page(at(0), &text(0)).unwrap();
    draft.opaque(2, b"head").unwrap();
    draft.page(at(1), &text(1)).unwrap();
    draft.zero(at(2)).unwrap();
    draft.barrier().unwrap();
    draft.page(at(3), &noise(3)).unwrap();
    draft.opaque(0, b"main").unwrap();
    draft.zero(at(4)).unwrap();
    let (_, body, tally) = Source::new(layout()).send(0, draft);
    assert!(tally.group_bytes > 0, "the channel goes into a group");
    let resolved = Receiver::new(layout()).take(0, &body).unwrap();
    let channels: Vec<_> = said(resolved.entries())
        .into_iter()
        .filter_map(|said| match said {
            Said::Page(channel, at, _) => Some((channel, at.page)),
            _ => None,
        })
        .collect();
    assert_eq!(channels, [(0, 0), (2, 1), (2, 2), (2, 3), (0, 4)]);
}

#[test]
fn pages_of_text_shrink_and_pages_of_noise_stay_as_they_are() {
    let batch = |page: fn(u64) -> Vec<u8>| {
        let mut draft = Draft::new(size());
        for number in 0..64 {
            draft.page(at(number), &page(number)).unwrap();
        }
        Source::new(layout()).send(0, draft).2
    };
    let shrunk = batch(text);
    assert!(shrunk.group_bytes > 0 && shrunk.body_bytes < shrunk.memory_bytes / 10);
    let stayed = batch(noise);
    assert_eq!((stayed.group_bytes, stayed.group_raw_bytes), (0, 0));
    // A tag for each page, the first one's address, and the digest.
    assert_eq!(stayed.body_bytes, stayed.memory_bytes + 64 + 2 + 33);
}

#[test]
fn tallies_add_up() {
    let mut source = Source::new(layout());
    let mut all = sealift_pages::Tally::default();
    for number in 0..3 {
        let mut draft = Draft::new(size());
        draft.page(at(0), &noise(7)).unwrap();
        draft.zero(at(1)).unwrap();
        draft.opaque(0, b"abc").unwrap();
        all += source.send(number, draft).2;
    }
    assert_eq!(all.batches, 3);
    assert_eq!(
        (all.literal.pages, all.same_as.pages, all.zero.pages),
        (1, 2, 3)
    );
    assert_eq!(all.raw_bytes(), 6 * 4096 + 9);
}

#[test]
fn a_batch_that_is_not_to_be_compressed_has_no_group() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    for (number, level) in [(0, Some(1)), (1, None), (2, Some(1))] {
        source.encoder.set_level(level);
        let pages: Vec<_> = (0..50)
            .map(|page| (page, text(100 * number + page)))
            .collect();
        let mut draft = Draft::new(size());
        for (page, content) in &pages {
            draft.page(at(*page), content).unwrap();
        }
        let (_, body, tally) = source.send(number, draft);
        assert_eq!(tally.group_raw_bytes > 0, level.is_some());
        let resolved = receiver.take(number, &body).unwrap();
        let expected = pages
            .into_iter()
            .map(|(page, content)| Said::Page(0, at(page), content));
        assert_eq!(said(resolved.entries()), expected.collect::<Vec<_>>());
    }
}
