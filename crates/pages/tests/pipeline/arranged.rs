//! Pages of one kind stand next to each other, and nothing is lost by it.

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::Draft;

use crate::support::{Receiver, Said, Source, at, layout, noise, said, size, text};

/// A page of pointers and small numbers, as heaps have them.
fn words(seed: u64) -> Vec<u8> {
    let chance = noise(seed);
    let (chance, _) = chance.as_chunks::<8>();
    let word = |(place, bytes): (usize, &[u8; 8])| match place % 4 {
        0 => 0x7f31_4a00_0000 | u64::from_le_bytes(*bytes) & 0xf_fff8,
        _ => u64::from(bytes[0]),
    };
    let words = chance.iter().enumerate().map(word);
    words.flat_map(u64::to_le_bytes).collect()
}

/// A page with little in it.
fn sparse(seed: u64) -> Vec<u8> {
    let mut page = noise(seed);
    let (words, _) = page.as_chunks_mut::<8>();
    for (place, word) in words.iter_mut().enumerate() {
        if place % 20 > 0 {
            *word = [0; 8];
        }
    }
    page
}

fn page(kind: u64, seed: u64) -> Vec<u8> {
    match kind {
        0 => noise(seed),
        1 => text(seed),
        2 => words(seed),
        3 => sparse(seed),
        _ => vec![0; size().bytes()],
    }
}

/// What is said between two things that are not pages, in any order.
fn in_any_order(draft: &Draft) -> Vec<Vec<Said>> {
    let said = said(draft.entries());
    let mut parts: Vec<Vec<Said>> = said
        .split_inclusive(|said| !matches!(said, Said::Page(..)))
        .map(<[_]>::to_vec)
        .collect();
    for part in &mut parts {
        part.sort_by_key(|said| match said {
            Said::Page(channel, at, _) => (false, *channel, at.page),
            Said::Opaque(..) | Said::Barrier => (true, 0, 0),
        });
    }
    parts
}

#[derive(Clone, Debug)]
enum Step {
    Page { page: u64, kind: u64, seed: u64 },
    Opaque(u16),
    Barrier,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Now and then the same page again.
        20 => (0u64..400, 0u64..5, 0u64..6)
            .prop_map(|(page, kind, seed)| Step::Page { page, kind, seed }),
        1 => Just(Step::Opaque(0)),
        1 => (0u16..3).prop_map(Step::Opaque),
        1 => Just(Step::Barrier),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_arranged_says_the_same_and_arrives(batches in vec(vec(step(), 0..60), 1..5)) {
        let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
        let mut spare = vec![];
        for (number, steps) in (0..).zip(&batches) {
            let mut draft = Draft::new(size());
            for step in steps {
                match *step {
                    Step::Page { page: place, kind, seed } => draft.page(at(place), &page(kind, seed)).unwrap(),
                    Step::Opaque(channel) => { draft.opaque(channel, b"between").unwrap(); }
                    Step::Barrier => draft.barrier().unwrap(),
                }
            }
            let before = in_any_order(&draft);
            let memory = draft.memory();
            draft.arrange(&mut spare);
            prop_assert_eq!(&in_any_order(&draft), &before);
            prop_assert_eq!(draft.memory(), memory);
            let (draft, body, _) = source.send(number, draft);
            let resolved = receiver.take(number, &body).unwrap();
            prop_assert_eq!(said(resolved.entries()), said(draft.entries()));
        }
    }
}

/// A batch in which kinds take turns.
fn mixed() -> Draft {
    let mut draft = Draft::new(size());
    for number in 0..240 {
        draft.page(at(number), &page(number % 4, number)).unwrap();
    }
    draft
}

#[test]
fn kinds_that_stand_together_are_smaller() {
    let send = |draft| Source::new(layout()).send(0, draft).2;
    let before = send(mixed());
    let mut draft = mixed();
    draft.arrange(&mut vec![]);
    let after = send(draft);
    assert!(after.body_bytes < before.body_bytes, "{after:?} {before:?}");
    // Sixty pages of noise are no zstd's work; addresses that do not follow each other are a little longer.
    let noise = 60 * size().bytes() as u64;
    assert!(after.group_raw_bytes + noise <= before.group_raw_bytes + 1000);
}

#[test]
fn a_page_that_comes_twice_keeps_its_order() {
    let mut draft = Draft::new(size());
    for (place, kind) in [(1, 0), (2, 3), (1, 1)] {
        draft.page(at(place), &page(kind, 9)).unwrap();
    }
    let before = said(draft.entries());
    draft.arrange(&mut vec![]);
    assert_eq!(said(draft.entries()), before);
}
