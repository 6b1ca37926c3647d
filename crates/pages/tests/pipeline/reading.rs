//! Pages are read straight into a draft, by their addresses.

use sealift_pages::{Address, CONTENT_MAX, Draft, PAGE_SIZE_MIN, Unread};

use crate::support::{Said, at, noise, said, size};

/// A guest's page: every third is zeros.
fn content(page: u64) -> Vec<u8> {
    if page.is_multiple_of(3) {
        vec![0; PAGE_SIZE_MIN]
    } else {
        noise(page)
    }
}

fn fill(into: &mut [u8], pages: impl IntoIterator<Item = u64>) {
    let mut room = into.chunks_exact_mut(PAGE_SIZE_MIN);
    for page in pages {
        room.next().unwrap().copy_from_slice(&content(page));
    }
    assert!(room.next().is_none(), "room for these pages and no more");
}

fn expected(pages: impl IntoIterator<Item = u64>) -> Vec<Said> {
    let said = |page| Said::Page(0, at(page), content(page));
    pages.into_iter().map(said).collect()
}

#[test]
fn a_run_is_read_at_once_and_its_zeros_are_told_apart() {
    let mut draft = Draft::new(size());
    let mut calls = 0;
    let read = draft.read(at(3), 20, |into| {
        calls += 1;
        fill(into, 3..23);
        Ok::<_, ()>(())
    });
    assert_eq!((read, calls), (Ok(()), 1));
    assert_eq!(said(draft.entries()), expected(3..23));
    assert_eq!(draft.zero_pages(), 7);
    assert_eq!(draft.content_len(), 13 * PAGE_SIZE_MIN);
}

#[test]
fn scattered_pages_stay_in_the_order_given() {
    let pages = [9, 4, 5, 6, 1, 30, 31, 3, 2];
    let addresses = pages.map(at);
    let mut draft = Draft::new(size());
    draft.page(at(100), &noise(100)).unwrap();
    let read = draft.read_scattered(&addresses, |into| {
        fill(into, pages);
        Ok::<_, ()>(())
    });
    assert_eq!(read, Ok(()));
    draft.page(at(101), &noise(101)).unwrap();
    let all = expected([100].into_iter().chain(pages).chain([101]));
    assert_eq!(said(draft.entries()), all);
}

#[test]
fn a_draft_that_is_used_again_shows_nothing_of_what_was_there() {
    let mut draft = Draft::new(size());
    for round in 0..5 {
        draft.clear();
        assert!(draft.is_empty());
        let first = round * 7;
        draft
            .read(at(first), 9, |into| {
                fill(into, first..first + 9);
                Ok::<_, ()>(())
            })
            .unwrap();
        draft.page(at(1), &noise(1)).unwrap();
        let all = expected((first..first + 9).chain([1]));
        assert_eq!(said(draft.entries()), all);
    }
}

#[test]
fn what_cannot_be_read_leaves_the_draft_as_it_was() {
    let mut draft = Draft::new(size());
    draft.page(at(1), &noise(1)).unwrap();
    let before = (draft.room(), draft.memory());
    let read = draft.read(at(5), 4, |into| {
        into.fill(7);
        Err("gone")
    });
    assert_eq!(read, Err(Unread::Failed("gone")));
    assert_eq!((draft.room(), draft.memory()), before);
    draft.page(at(2), &noise(2)).unwrap();
    assert_eq!(said(draft.entries()), expected(1..3));
}

#[test]
fn as_many_pages_are_read_as_there_is_room_for() {
    let mut draft = Draft::new(size());
    let pages = CONTENT_MAX / PAGE_SIZE_MIN as u64;
    let none = |_: &mut [u8]| -> Result<(), ()> { panic!("nothing is read without room") };
    assert_eq!(draft.room() as u64, pages);
    assert_eq!(draft.read(at(0), draft.room() + 1, none), Err(Unread::Full));
    draft
        .read(at(0), draft.room(), |into| {
            fill(into, 0..pages);
            Ok::<_, ()>(())
        })
        .unwrap();
    // The zeros among them have left their room.
    let zeros = usize::try_from(draft.zero_pages()).unwrap();
    assert_eq!(draft.room(), zeros);
    assert_eq!(said(draft.entries()), expected(0..pages));
}

#[test]
fn addresses_beyond_the_guest_do_not_wrap() {
    let mut draft = Draft::new(size());
    let last = Address {
        block: 0,
        page: u64::MAX,
    };
    let read = draft.read(last, 2, |into| {
        into.fill(1);
        Ok::<_, ()>(())
    });
    assert_eq!(read, Ok(()));
    assert!(draft.addresses().all(|(at, _)| at == last));
}
