//! The store stays within its budget, and what is likely to be rewritten stays in it.

use sealift_pages::{Address, Draft, Sent, Store, Tally};

use crate::support::{Source, at, layout, noise, size, touched};

/// What a page takes in the store: prints of 64 parts, an entry, and its share of the tables.
const EACH: u64 = 512 + 64 + 16;

/// Room for so many pages.
const fn room(pages: u64) -> u64 {
    pages * EACH
}

/// A layout whose receiver has everything in guest memory, so that only the store decides.
fn source(budget: u64) -> Source {
    let mut source = Source::with_budget(layout(), budget);
    source.history.placed = vec![0, 1];
    source
}

/// Sends pages, in as many batches as it takes.
fn send(
    source: &mut Source,
    number: &mut u64,
    pages: impl IntoIterator<Item = (u64, Vec<u8>)>,
) -> Tally {
    let mut all = Tally::default();
    let mut draft = Draft::new(size());
    let mut flush = |draft: &mut Draft| {
        let full = std::mem::replace(draft, Draft::new(size()));
        all += source.send(*number, full).2;
        *number += 1;
    };
    for (page, content) in pages {
        if draft.room() == 0 {
            flush(&mut draft);
        }
        draft.page(at(page), &content).unwrap();
    }
    flush(&mut draft);
    all
}

fn once(pages: std::ops::Range<u64>) -> impl Iterator<Item = (u64, Vec<u8>)> {
    pages.map(|page| (page, noise(page)))
}

/// Pages in their `round`-th content, each a little other than the one before.
fn rewritten(pages: std::ops::Range<u64>, round: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    pages.map(move |page| {
        let start = noise(page);
        let content = (0..round).fold(start, |content, round| touched(&content, round + 1, 4));
        (page, content)
    })
}

/// Nothing may be named: only what is kept counts.
struct Unknown;

impl Sent for Unknown {
    fn newest(&mut self, _: Address) -> Option<u64> {
        None
    }

    fn reaches(&mut self, _: Address, _: u64) -> bool {
        false
    }
}

#[test]
fn it_takes_no_more_than_its_budget() {
    let draft = |number: u64| {
        let mut draft = Draft::new(size());
        for page in 0..256 {
            let page = 256 * number + page;
            draft.page(at(page), &noise(page)).unwrap();
        }
        draft
    };
    let mut drafts: Vec<_> = (0..12).map(draft).collect();
    // A finder's own buffers are its worker's, and a draft's its own: warm before.
    let mut other = Store::new(1 << 20, 1, size());
    let mut finder = other.finder();
    for (number, draft) in (0..).zip(&mut drafts) {
        finder.find(number, draft, &mut Unknown, || &mut other);
    }
    for budget in [0, 500, 4000, 10_000, room(256), 1 << 20, 5_000_000, 1 << 30] {
        let mut store = None;
        let empty = allocation_counter::measure(|| {
            store = Some(Store::new(budget, 1, size()));
        });
        let mut store = store.unwrap();
        assert!(
            empty.bytes_current.unsigned_abs() <= budget / 40,
            "{empty:?}"
        );
        let full = allocation_counter::measure(|| {
            for (number, draft) in (0..).zip(&mut drafts) {
                finder.find(number, draft, &mut Unknown, || &mut store);
            }
        });
        let taken = empty.bytes_current + full.bytes_current;
        assert!(taken.unsigned_abs() <= budget, "{taken} of {budget}");
        let fits = usize::try_from(budget).unwrap() / usize::try_from(EACH).unwrap();
        let pages = store.pages();
        assert!(pages >= fits.min(256), "{pages}");
        assert!(pages <= 12 * 256);
    }
}

#[test]
fn pages_that_are_rewritten_survive_those_that_are_sent_once() {
    let mut source = source(room(250));
    let mut number = 0;
    let hot = 0..100;
    send(&mut source, &mut number, rewritten(hot.clone(), 0));
    assert_eq!(
        send(&mut source, &mut number, rewritten(hot.clone(), 1))
            .delta
            .pages,
        100
    );
    // Ten times what the store holds.
    send(&mut source, &mut number, once(1000..3500));
    let tally = send(&mut source, &mut number, rewritten(hot, 2));
    assert_eq!(tally.delta.pages, 100);
}

#[test]
fn a_working_set_larger_than_the_store_does_not_push_itself_out() {
    let mut source = source(room(250));
    let fits = 250;
    let mut number = 0;
    let mut deltas = 0;
    for round in 0..12 {
        deltas = send(&mut source, &mut number, rewritten(0..2 * fits, round))
            .delta
            .pages;
    }
    assert!(deltas > fits / 3, "{deltas} of {fits}");
}

#[test]
fn pages_that_came_first_are_kept_as_likely_as_those_that_came_last() {
    let mut source = source(room(500));
    let mut number = 0;
    // Some 500 have room, of 2,000.
    send(&mut source, &mut number, rewritten(0..2000, 0));
    // A quarter of any, but for those that make room for what has come again by then.
    let first = send(&mut source, &mut number, rewritten(0..200, 1)).delta;
    assert!((30..60).contains(&first.pages), "{first:?}");
}

#[test]
fn pages_that_change_too_much_make_room() {
    let mut source = source(room(250));
    let mut number = 0;
    for round in 0..6 {
        let churn = (0..250).map(|page| (page, noise(page + 1000 * round)));
        assert_eq!(send(&mut source, &mut number, churn).delta.pages, 0);
    }
    for round in 0..5 {
        send(&mut source, &mut number, rewritten(1000..1100, round));
    }
    let tally = send(&mut source, &mut number, rewritten(1000..1100, 5));
    assert!(tally.delta.pages > 90, "{}", tally.delta.pages);
}

#[test]
fn a_content_of_many_pages_takes_the_room_of_one() {
    let mut source = source(room(250));
    let mut number = 0;
    let same = (0..5000).map(|page| (page, noise(7)));
    let tally = send(&mut source, &mut number, same);
    assert_eq!((tally.literal.pages, tally.same_as.pages), (1, 4999));
    assert_eq!(source.store.pages(), 1);
}
