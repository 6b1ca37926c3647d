//! A body that is accepted has one encoding: writing its records gives it again. Groups and patches are held to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_pages::{
    Agreed, Algorithm, Body, BodyWriter, Codec, Codecs, Group, Layout, PAGE_SIZE_MIN, PageSize,
    Record,
};

const BATCH: u64 = 300;

fuzz_target!(|input: &[u8]| {
    let page_size = PageSize::new(PAGE_SIZE_MIN).expect("the least page size");
    let agreed = Agreed {
        digest: Algorithm::Sha256,
        codecs: Codecs::ALL,
        windows: 200,
        oldest: BATCH,
    };
    let layouts = [
        Layout::new(page_size, vec![8, 1000]).expect("two blocks"),
        Layout::widest(page_size, Algorithm::Sha256).with_agreed(agreed),
    ];
    for layout in &layouts {
        body(input, layout);
        group(input, layout);
    }
});

fn body(input: &[u8], layout: &Layout) {
    let Ok(body) = Body::parse(input, layout) else {
        return;
    };
    let mut again = Vec::new();
    let mut writer = BodyWriter::new(&mut again, layout, BATCH);
    for record in body.records(layout, BATCH) {
        let Ok(record) = record else { return };
        look(&record);
        writer
            .append(&record)
            .expect("what was read can be written");
    }
    writer
        .finish(body.digest())
        .expect("the digest that was read");
    assert!(again == input, "a second encoding");
}

fn group(input: &[u8], layout: &Layout) {
    let Some(empty) = [[1; 33], [2; 33]]
        .into_iter()
        .find(|header| Body::parse(header, layout).is_ok())
    else {
        return;
    };
    let mut again = Vec::new();
    let group = Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len: input.len(),
        bytes: &[7],
    };
    let mut body = Body::parse(&empty, layout)
        .expect("a body without records")
        .records(layout, BATCH);
    let Ok(reader) = body.group(&group, input) else {
        return;
    };
    let mut around = Vec::new();
    let mut around = BodyWriter::new(&mut around, layout, BATCH);
    let mut writer = around.group(&mut again);
    for record in reader {
        let Ok(record) = record else { return };
        assert!(
            !matches!(record, Record::Group(_)),
            "a group within a group"
        );
        look(&record);
        writer
            .append(&record)
            .expect("what was read can be written");
    }
    assert!(again == input, "a second encoding");
}

fn look(record: &Record<'_>) {
    if let Record::Delta { patch, .. } = record {
        let base = [0x5a; PAGE_SIZE_MIN];
        let mut page = [0; PAGE_SIZE_MIN];
        patch.apply(&base, &mut page).expect("both are a page");
        let listed: usize = patch.runs().map(|run| run.bytes.len()).sum();
        let changed = page
            .iter()
            .zip(&base)
            .filter(|(new, old)| new != old)
            .count();
        assert!(changed <= listed, "a patch changes what it lists");
    }
}
