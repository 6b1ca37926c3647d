//! What a source names of what it has sent: nothing that its receiver cannot have.

use sealift_net::outbound::{Feed, Outbound};
use sealift_pages::{Address, Draft};

use crate::ends::{Arriving, Out, joined};
use crate::guest::{OLDEST, noise, page_size, small};

/// The block that the receiver places.
const BLOCK: u16 = 1;

fn content_at(page: u64) -> Draft {
    let mut draft = Draft::new(page_size());
    let at = Address { block: BLOCK, page };
    draft.page(at, &noise(7)).unwrap();
    draft
}

/// Sends a content, and once the mirror has forgotten it the same again. Returns how many pages were sent by their names.
fn sent_again(outbound: &Outbound, arriving: &Arriving, between: impl FnOnce(&Feed)) -> u64 {
    let feed = outbound.feed(0);
    feed.submit(&mut content_at(0)).unwrap();
    arriving.next();
    for seed in 0..=OLDEST {
        feed.submit(&mut small(100 + seed)).unwrap();
        arriving.next();
    }
    between(&feed);
    let last = feed.submit(&mut content_at(1)).unwrap();
    crate::ends::until("it is made", || {
        let made = outbound.standing().tally;
        made.literal.pages + made.same_as.pages == last + 1
    });
    outbound.standing().tally.same_as.pages
}

#[test]
fn an_old_content_is_named_where_the_receiver_has_it_in_its_guests_memory() {
    let (outbound, _told, arriving) = joined(1, Out::default());
    assert_eq!(sent_again(&outbound, &arriving, |_| {}), 0);
    let (outbound, _told, arriving) = joined(1, Out::default());
    outbound.placed(&[BLOCK]);
    assert_eq!(sent_again(&outbound, &arriving, |_| {}), 1);
}

#[test]
fn once_its_qemu_has_to_load_pages_itself_nothing_is_named_there_any_more() {
    let (outbound, _told, arriving) = joined(1, Out::default());
    outbound.placed(&[BLOCK]);
    let named = sent_again(&outbound, &arriving, Feed::pages_are_qemus);
    assert_eq!(named, 0);

    // The receiver had said so before it saw why not: its word comes late.
    let (outbound, _told, arriving) = joined(1, Out::default());
    let named = sent_again(&outbound, &arriving, |feed| {
        feed.pages_are_qemus();
        outbound.placed(&[BLOCK]);
    });
    assert_eq!(named, 0);
}
