//! Pages whose content was sent before are named instead of sent again, as long as both ends keep it.

use sealift_pages::{Address, Draft, Origin, Unresolvable};

use crate::support::{OLDEST, Receiver, Said, Source, at, layout, noise, said, size, unresolvable};

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
fn nothing_names_a_batch_that_was_lost() {
    let (mut source, mut receiver) = (Source::new(layout()), Receiver::new(layout()));
    source.send(0, one(1, 9));
    let (_, names_the_lost, _) = source.send(1, one(2, 9));
    source.void(0);
    source.void(1);
    receiver.mirror.void(0);
    let (_, body, tally) = source.send(2, one(3, 9));
    assert_eq!(tally.literal.pages, 1);

    let origin = Origin {
        page: at(1),
        age: 1,
    };
    let unknown = Unresolvable::Unknown { batch: 1, origin };
    assert_eq!(unresolvable(receiver.take(1, &names_the_lost)), unknown);
    receiver.take(2, &body).unwrap();
    // Likewise when it had come.
    let (_, body, _) = source.send(3, one(4, 9));
    receiver.mirror.void(2);
    assert!(matches!(
        unresolvable(receiver.take(3, &body)),
        Unresolvable::Unknown { batch: 3, .. }
    ));
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
    // The source names nothing out of turn, and is not confused by it.
    assert_eq!(source.send(4, one(2, 9)).2.literal.pages, 1);
    assert_eq!(source.send(5, one(3, 9)).2.same_as.pages, 1);
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
