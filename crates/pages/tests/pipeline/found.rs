//! Pages whose content was sent before, or most of it, are named instead of sent again, as long as both ends have it.

use sealift_pages::{Address, Draft, Origin, Unresolvable, Unresolved};

use crate::support::{
    OLDEST, Receiver, Said, Source, at, layout, noise, said, size, touched, unresolvable,
};

/// A batch of one page.
fn one(page: u64, seed: u64) -> Draft {
    let mut draft = Draft::new(size());
    draft.page(at(page), &noise(seed)).unwrap();
    draft
}

#[test]
fn a_page_sent_lately_is_named() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let (_, first, tally) = source.send(0, one(1, 9));
    assert_eq!(tally.literal.pages, 1);
    receiver.take(0, &first).unwrap();
    for number in 1..10 {
        // Always the same content, each time for another page.
        let (_, body, tally) = source.send(number, one(1 + number, 9));
        assert_eq!(tally.same_as.pages, 1);
        assert!(body.len() < 50);
        let resolved = receiver.take(number, &body).unwrap();
        let expected = [Said::Page(0, at(1 + number), noise(9))];
        assert_eq!(said(resolved.entries()), expected);
    }
}

#[test]
fn a_page_of_the_same_batch_is_named() {
    let mut draft = Draft::new(size());
    for page in 0..4 {
        draft.page(at(page), &noise(1)).unwrap();
    }
    let (_, body, tally) = Source::new(layout()).send(0, draft);
    assert_eq!((tally.literal.pages, tally.same_as.pages), (1, 3));
    let resolved = Receiver::new(layout()).take(0, &body).unwrap();
    assert_eq!(said(resolved.entries()).len(), 4);
}

#[test]
fn a_page_that_was_written_again_in_its_batch_means_its_last_content() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let mut draft = one(1, 5);
    draft.page(at(1), &noise(6)).unwrap();
    let (_, body, _) = source.send(0, draft);
    receiver.take(0, &body).unwrap();
    let mut draft = one(2, 5);
    draft.page(at(3), &noise(6)).unwrap();
    let (_, body, tally) = source.send(1, draft);
    // What it held first can no longer be named.
    assert_eq!((tally.literal.pages, tally.same_as.pages), (1, 1));
    let resolved = receiver.take(1, &body).unwrap();
    let expected = [
        Said::Page(0, at(2), noise(5)),
        Said::Page(0, at(3), noise(6)),
    ];
    assert_eq!(said(resolved.entries()), expected);
}

#[test]
fn a_page_that_did_not_change_is_named_by_itself() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    for number in 0..3 {
        let (_, body, tally) = source.send(number, one(1, 5));
        assert_eq!(tally.same_as.pages, u64::from(number > 0));
        receiver.take(number, &body).unwrap();
    }
    // Not twice in one batch, though: the wire has no way to say it.
    let mut draft = one(8, 77);
    draft.page(at(8), &noise(77)).unwrap();
    let (_, body, tally) = source.send(3, draft);
    assert_eq!(tally.literal.pages, 2);
    receiver.take(3, &body).unwrap();
}

#[test]
fn a_content_is_named_as_long_as_both_ends_keep_it() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let (_, body, _) = source.send(0, one(1, 9));
    receiver.take(0, &body).unwrap();
    let (_, body, tally) = source.send(OLDEST, one(2, 9));
    assert_eq!(tally.same_as.pages, 1);
    receiver.take(OLDEST, &body).unwrap();
    let late = 2 * OLDEST + 1;
    assert_eq!(source.send(late, one(3, 9)).2.literal.pages, 1);
}

#[test]
fn batches_are_resolved_in_turn() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let (_, body, _) = source.send(4, one(1, 9));
    receiver.take(4, &body).unwrap();
    for number in [0, 4] {
        let turn = Unresolvable::OutOfTurn { number, next: 5 };
        assert_eq!(unresolvable(receiver.take(number, &body)), turn);
    }
}

#[test]
fn a_batch_names_none_with_a_higher_number() {
    let mut source = Source::new(layout());
    let drafts = [one(1, 9), one(2, 9), one(3, 9), one(3, 8)];
    for (number, draft) in drafts.iter().enumerate() {
        source.history.stamp(number as u64, draft);
    }
    let [zero, first, second, third] = drafts;
    // Workers are done in another order than they began.
    assert_eq!(source.send_numbered(2, second).2.literal.pages, 1);
    assert_eq!(source.send_numbered(0, zero).2.literal.pages, 1);
    let (_, body, tally) = source.send_numbered(1, first);
    assert_eq!(tally.same_as.pages, 1);
    assert_eq!(source.send_numbered(3, third).2.same_as.pages, 0);
    let mut receiver = Receiver::new(layout());
    let (_, zero, _) = Source::new(layout()).send(0, one(1, 9));
    receiver.take(0, &zero).unwrap();
    receiver.take(1, &body).unwrap();
}

#[test]
fn an_older_content_does_not_replace_a_newer_one() {
    let mut source = Source::new(layout());
    let (old, new) = (one(1, 8), one(1, 9));
    source.history.stamp(0, &old);
    source.history.stamp(1, &new);
    source.send_numbered(1, new);
    source.send_numbered(0, old);
    assert_eq!(source.send(2, one(2, 9)).2.same_as.pages, 1);
    assert_eq!(source.send(3, one(3, 8)).2.literal.pages, 1);
}

#[test]
fn a_page_that_changed_a_little_travels_as_its_difference() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let mut page = noise(1);
    for number in 0..20 {
        let mut draft = Draft::new(size());
        draft.page(at(1), &page).unwrap();
        let (_, body, tally) = source.send(number, draft);
        assert_eq!(tally.delta.pages, u64::from(number > 0));
        if number > 0 {
            // Of each byte that changed the 64 around it.
            assert!(body.len() < 8 * (64 + 4) + 100, "{}", body.len());
        }
        let resolved = receiver.take(number, &body).unwrap();
        assert_eq!(
            said(resolved.entries()),
            [Said::Page(0, at(1), page.clone())]
        );
        page = touched(&page, 100 + number, 8);
    }
    // All of it is new: sent as it is, and the base of what follows.
    for (number, page, deltas) in [(20, noise(77), 0), (21, touched(&noise(77), 5, 8), 1)] {
        let mut draft = Draft::new(size());
        draft.page(at(1), &page).unwrap();
        let (_, body, tally) = source.send(number, draft);
        assert_eq!(tally.delta.pages, deltas);
        receiver.take(number, &body).unwrap();
    }
}

#[test]
fn a_difference_that_is_hardly_shorter_than_the_page_is_not_worth_it() {
    let mut source = Source::new(layout());
    let page = noise(1);
    let changed = |bytes: usize| {
        let mut page = page.clone();
        page[..bytes].iter_mut().for_each(|byte| *byte ^= 1);
        let mut draft = Draft::new(size());
        draft.page(at(1), &page).unwrap();
        draft
    };
    source.send(0, changed(0));
    assert_eq!(source.send(1, changed(1900)).2.delta.pages, 1);
    assert_eq!(source.send(2, changed(0)).2.delta.pages, 1);
    assert_eq!(source.send(3, changed(2100)).2.literal.pages, 1);
}

#[test]
fn a_page_that_became_zero_has_no_content_to_name() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let (_, body, _) = source.send(0, one(1, 9));
    receiver.take(0, &body).unwrap();
    let mut draft = Draft::new(size());
    draft.zero(at(1)).unwrap();
    let (_, body, _) = source.send(1, draft);
    receiver.take(1, &body).unwrap();
    assert_eq!(source.send(2, one(1, 9)).2.literal.pages, 1);

    // Nor when it did so in the same batch, whichever came first.
    for (number, zero_first) in [(10, true), (12, false)] {
        let mut draft = Draft::new(size());
        if zero_first {
            draft.zero(at(5)).unwrap();
        }
        draft.page(at(5), &noise(number)).unwrap();
        if !zero_first {
            draft.zero(at(5)).unwrap();
        }
        source.send(number, draft);
        assert_eq!(source.send(number + 1, one(6, number)).2.literal.pages, 1);
    }
}

#[test]
fn what_is_placed_in_guest_memory_can_be_named_however_old() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    receiver.guest.placed = vec![1];
    let mut batch = |number: u64, page: u64, content: &[u8], told: bool| {
        if told {
            source.history.placed = vec![1];
        }
        let mut draft = Draft::new(size());
        draft.page(at(page), content).unwrap();
        let (draft, body, tally) = source.send(number, draft);
        let resolved = receiver.take(number, &body).unwrap();
        assert_eq!(said(resolved.entries()), said(draft.entries()));
        [tally.literal, tally.same_as, tally.delta].map(|share| share.pages)
    };
    let (page, changed) = (noise(9), touched(&noise(9), 5, 8));
    assert_eq!(batch(0, 1, &page, false), [1, 0, 0]);
    // Only once the source was told.
    assert_eq!(batch(10 * OLDEST, 2, &page, false), [1, 0, 0]);
    assert_eq!(batch(20 * OLDEST, 3, &page, true), [0, 1, 0]);
    assert_eq!(batch(30 * OLDEST, 1, &changed, true), [0, 0, 1]);
    assert_eq!(batch(40 * OLDEST, 4, &changed, true), [0, 1, 0]);
}

#[test]
fn what_is_neither_kept_nor_placed_is_refused() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    source.history.placed = vec![1];
    let (_, body, _) = source.send(0, one(1, 9));
    receiver.take(0, &body).unwrap();
    let late = OLDEST + 1;
    let (_, body, tally) = source.send(late, one(2, 9));
    assert_eq!(tally.same_as.pages, 1);
    let origin = Origin {
        page: at(1),
        age: late,
    };
    let unknown = Unresolvable::Unknown {
        batch: late,
        origin,
    };
    assert_eq!(unresolvable(receiver.take(late, &body)), unknown);
}

#[test]
fn a_content_that_cannot_be_read_back_is_this_hosts_trouble() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    receiver.guest.placed = vec![1];
    source.history.placed = vec![1];
    let (_, body, _) = source.send(0, one(1, 9));
    receiver.take(0, &body).unwrap();
    // What the mirror has need not be read back.
    let late = OLDEST + 1;
    let (_, body, _) = source.send(late, one(2, 9));
    receiver.guest.lost = true;
    let decoded = receiver
        .decoder
        .decode(&body, late, &receiver.layout)
        .unwrap();
    let unresolved = receiver.mirror.resolve(decoded, &mut receiver.guest);
    assert_eq!(
        unresolved.unwrap_err(),
        Unresolved::Lost("the guest is gone")
    );
}

#[test]
fn pages_of_different_blocks_and_channels_name_each_other() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    let (_, body, _) = source.send(0, one(7, 9));
    receiver.take(0, &body).unwrap();
    let mut draft = Draft::new(size());
    draft.opaque(3, b"head").unwrap();
    let there = Address { block: 0, page: 7 };
    draft.page(there, &noise(9)).unwrap();
    let (_, body, tally) = source.send(1, draft);
    assert_eq!(tally.same_as.pages, 1);
    let resolved = receiver.take(1, &body).unwrap();
    let expected = [
        Said::Opaque(3, b"head".to_vec()),
        Said::Page(3, there, noise(9)),
    ];
    assert_eq!(said(resolved.entries()), expected);
}
