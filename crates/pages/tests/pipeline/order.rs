//! Whatever is rewritten, in whichever order workers come to it, however little is kept: the receiver gets each content exactly.

use proptest::collection::vec;
use proptest::prelude::*;
use sealift_pages::{Address, Draft};

use crate::support::{Receiver, Source, layout, noise, said, size, text, touched};

/// What a guest does to a page before it is sent.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    Zero,
    Noise(u64),
    Text(u64),
    Words(u64, usize),
    /// It gets the content of another one.
    Copy(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Nothing),
        1 => Just(Change::Zero),
        3 => (0u64..6).prop_map(Change::Noise),
        2 => (0u64..4).prop_map(Change::Text),
        6 => (0u64..1000, 1usize..120).prop_map(|(seed, words)| Change::Words(seed, words)),
        2 => (0u64..PAGES).prop_map(Change::Copy),
    ]
}

/// Few, so that each is sent often.
const PAGES: u64 = 24;

fn address(page: u64) -> Address {
    // Some in a block that may be placed, some in one that may not.
    Address {
        block: u16::from(page >= PAGES / 2),
        page: page % (PAGES / 2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_content_arrives(
        batches in vec(vec((0..PAGES, change()), 1..20), 1..14),
        // Where in a queue of workers a batch comes to the store.
        order in vec(0usize..4, 14),
        budget in prop_oneof![Just(0u64), 4200u64..60_000, Just(16 << 20)],
        placed in vec(any::<bool>(), 2),
        twice: bool,
    ) {
        let layout = layout();
        let mut source = Source::with_budget(layout.clone(), budget);
        let mut receiver = Receiver::new(layout);
        let placed: Vec<u16> = (0..2).filter(|&block| placed[usize::from(block)]).collect();
        receiver.guest.placed.clone_from(&placed);
        source.history.placed = placed;

        let mut guest = vec![vec![0; size().bytes()]; usize::try_from(PAGES).unwrap()];
        let mut taken = Vec::new();
        for (number, changes) in (0u64..).zip(batches) {
            let mut draft = Draft::new(size());
            let mut drafted = Vec::new();
            for (page, change) in changes {
                let at = usize::try_from(page).unwrap();
                // With direct access a page is in a batch once; QEMU's stream may have it again.
                if !twice && drafted.contains(&page) {
                    continue;
                }
                drafted.push(page);
                guest[at] = match change {
                    Change::Nothing => guest[at].clone(),
                    Change::Zero => vec![0; size().bytes()],
                    Change::Noise(seed) => noise(seed),
                    Change::Text(seed) => text(seed),
                    Change::Words(seed, words) => touched(&guest[at], seed, words),
                    Change::Copy(from) => guest[usize::try_from(from).unwrap()].clone(),
                };
                let content = guest[at].clone();
                draft.read(address(page), 1, |into| {
                    into.copy_from_slice(&content);
                    Ok::<_, ()>(())
                }).unwrap();
            }
            source.history.stamp(number, &draft);
            taken.push((number, draft));
        }

        let mut turns: Vec<usize> = (0..taken.len()).collect();
        turns.sort_by_key(|&turn| (turn + order[turn], turn));
        let mut sent: Vec<_> = taken.iter().map(|_| None).collect();
        let mut taken: Vec<_> = taken.into_iter().map(Some).collect();
        for turn in turns {
            let (number, draft) = taken[turn].take().unwrap();
            sent[turn] = Some(source.send_numbered(number, draft));
        }

        for (number, sent) in (0u64..).zip(sent) {
            let (draft, body, _) = sent.unwrap();
            let resolved = receiver.take(number, &body).unwrap();
            prop_assert_eq!(said(resolved.entries()), said(draft.entries()));
        }
    }
}
