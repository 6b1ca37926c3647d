//! A draft never takes more than a body holds, threads can share what they must, and warm workers take no memory.

use std::sync::Arc;

use sealift_pages::{
    BODY_MAX, CONTENT_MAX, Decoded, Decoder, Draft, EncodeError, Encoder, Finder, Full, Layout,
    PAGE_SIZE_MIN, RECORDS_MAX, Resolved, Store, Unwritable, WrongLength, ZEROS_MAX,
};

use crate::support::{Receiver, Source, at, layout, noise, said, size, text};

#[test]
fn what_threads_share_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Layout>();
    sent::<Draft>();
    sent::<Store>();
    sent::<Finder>();
    shared::<Arc<Resolved>>();
    sent::<Encoder>();
    sent::<Decoder>();
    sent::<Decoded>();
}

#[test]
fn a_draft_that_is_full_of_pages_still_fits_a_body() {
    let mut draft = Draft::new(size());
    // Backwards, so that each address is spelled out; noise, so that nothing shrinks.
    let pages = CONTENT_MAX / PAGE_SIZE_MIN as u64;
    for page in (1..=pages).rev() {
        draft.page(at(page), &noise(page)).unwrap();
    }
    assert_eq!(draft.page(at(0), &noise(0)), Err(Full));
    let taken = draft.opaque(65_535, &vec![7; BODY_MAX]).unwrap();
    assert!(taken > 32 << 10, "{taken}");
    assert_eq!(draft.opaque(65_535, &[7]), Err(Full));
    assert_eq!(draft.zero(at(0)), Err(Full));
    assert_eq!(draft.barrier(), Err(Full));
    let (draft, body, _) = Source::new(layout()).send(0, draft);
    assert!(body.len() <= BODY_MAX);
    let resolved = Receiver::new(layout()).take(0, &body).unwrap();
    assert_eq!(said(resolved.entries()), said(draft.entries()));
}

#[test]
fn a_draft_takes_as_many_zeros_and_records_as_a_batch_may_have() {
    let mut draft = Draft::new(size());
    for page in 0..ZEROS_MAX {
        draft.zero(at(page)).unwrap();
    }
    assert_eq!(draft.zero(at(ZEROS_MAX)), Err(Full));
    assert_eq!(draft.page(at(ZEROS_MAX), &[0; PAGE_SIZE_MIN]), Err(Full));
    assert_eq!(draft.zero_pages(), ZEROS_MAX);
    let (_, body, _) = Source::new(layout()).send(0, draft);
    Receiver::new(layout()).take(0, &body).unwrap();

    let mut draft = Draft::new(size());
    let mut page = 0;
    while draft.zero(at(page)).is_ok() {
        page += 2;
    }
    assert_eq!(page, 2 * (RECORDS_MAX as u64 - 1));
    // The run that is there can still grow.
    draft.zero(at(page - 1)).unwrap();
    let (_, body, tally) = Source::new(layout()).send(0, draft);
    assert!(tally.group_bytes > 0);
    Receiver::new(layout()).take(0, &body).unwrap();
}

#[test]
fn opaque_bytes_are_taken_as_far_as_there_is_room() {
    let mut draft = Draft::new(size());
    let long: Vec<u8> = (0..BODY_MAX / 4096 + 1)
        .flat_map(|n| noise(n as u64))
        .collect();
    let taken = draft.opaque(1, &long).unwrap();
    assert!(taken < BODY_MAX && taken > BODY_MAX - 64);
    assert_eq!(draft.opaque(1, &long), Err(Full));
    assert_eq!(draft.opaque(1, &[]), Ok(0));
    let (draft, body, _) = Source::new(layout()).send(0, draft);
    let resolved = Receiver::new(layout()).take(0, &body).unwrap();
    assert_eq!(said(resolved.entries()), said(draft.entries()));
    assert_eq!(resolved.opaque_len(), taken);
}

#[test]
fn what_fits_can_be_asked_before() {
    let mut draft = Draft::new(size());
    assert!(draft.fits(256, 1344) && !draft.fits(257, 0) && !draft.fits(0, BODY_MAX));
    for page in 0..129 {
        draft.page(at(page), &noise(page)).unwrap();
    }
    assert!(draft.fits(127, 1344) && !draft.fits(128, 0));
    draft.opaque(1, &[1; 1344]).unwrap();
    for page in 0..127 {
        draft.page(at(2 * page), &noise(page)).unwrap();
    }
    assert!(draft.fits(0, 1344) && !draft.fits(1, 0));
    draft.clear();
    assert!(draft.is_empty() && draft.fits(256, 1344));
}

#[test]
fn what_no_peer_would_take_is_not_encoded() {
    let mut out = vec![1, 2, 3];
    let mut encoder = Encoder::new(1);
    let mut draft = Draft::new(size());
    draft.page(at(0), &[1; 100]).unwrap();
    let wrong = WrongLength {
        expected: PAGE_SIZE_MIN,
        found: 100,
    };
    let error = encoder.encode(&draft, 0, &layout(), &mut out);
    assert_eq!(error, Err(EncodeError::Page(wrong)));
    draft.clear();
    draft.page(at(1 << 40), &text(1)).unwrap();
    let error = encoder.encode(&draft, 0, &layout(), &mut out);
    assert!(matches!(
        error,
        Err(EncodeError::Unwritable(Unwritable::Refused(_)))
    ));
    assert_eq!(out, [1, 2, 3], "nothing is left behind");
}

#[test]
fn a_warm_encoder_takes_no_memory() {
    let mut drafts = vec![];
    for page in [noise as fn(u64) -> Vec<u8>, text] {
        let mut draft = Draft::new(size());
        for number in 0..256 {
            draft.page(at(number), &page(number)).unwrap();
        }
        draft.opaque(0, &[1; 1000]).unwrap();
        drafts.push(draft);
    }
    let layout = layout();
    let mut encoder = Encoder::new(1);
    let mut out = Vec::with_capacity(BODY_MAX);
    let mut round = || {
        for draft in &drafts {
            out.clear();
            encoder.encode(draft, 0, &layout, &mut out).unwrap();
        }
    };
    round();
    let taken = allocation_counter::measure(|| {
        for _ in 0..20 {
            round();
        }
    });
    assert_eq!(taken.count_total, 0);
}

#[test]
fn decoding_takes_no_more_than_a_batch_whatever_the_body_asks_for() {
    let mut receiver = Receiver::new(layout());
    let mut draft = Draft::new(size());
    for page in 0..256 {
        draft.page(at(page), &text(1)).unwrap();
    }
    let mut page = 1000;
    while draft.zero(at(page)).is_ok() {
        page += 2;
    }
    let (_, body, _) = Source::new(layout()).send(0, draft);
    assert!(body.len() < 32 << 10, "{}", body.len());
    // Contents, and as they grow the records' 16 bytes each.
    let most = CONTENT_MAX + 64 * RECORDS_MAX as u64;
    let taken = allocation_counter::measure(|| {
        receiver.take(0, &body).unwrap();
    });
    assert!(taken.bytes_max < most, "{}", taken.bytes_max);
}

#[test]
fn a_batch_that_waits_takes_the_memory_that_it_says() {
    let mut one_page = Draft::new(size());
    one_page.page(at(0), &noise(1)).unwrap();
    let mut many_runs = Draft::new(size());
    let mut page = 0;
    while many_runs.zero(at(page)).is_ok() {
        page += 2;
    }
    for draft in [one_page, many_runs] {
        let mut receiver = Receiver::new(layout());
        let at_source = draft.memory() as u64;
        let (_, body, _) = Source::new(layout()).send(0, draft);
        let mut decoded = None;
        let taken = allocation_counter::measure(|| {
            decoded = Some(receiver.decoder.decode(&body, 0, &receiver.layout).unwrap());
        });
        let memory = decoded.unwrap().memory() as u64;
        assert_eq!(
            memory, at_source,
            "the source counts what the receiver will"
        );
        // Beside it the places of pages, twice, and what the allocator rounds up to.
        assert!(
            taken.bytes_current.unsigned_abs() < memory + (4 << 10),
            "{taken:?} for {memory}"
        );
    }
}
