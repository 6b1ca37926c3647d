//! A body that is decoded says the same again when it is drafted, encoded and decoded once more, and takes no more than a batch may. It comes to the
//! same whether what it names is in the mirror or in guest memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::decoding;
use sealift_pages::{
    CONTENT_MAX, DecodeError, Decoder, Encoder, Entry, Mirror, Nowhere, RECORDS_MAX, Resolved,
    Unresolvable, ZEROS_MAX,
};

/// The batch that the input is; the one before it is always the same.
const BATCH: u64 = decoding::BATCH;

fuzz_target!(|input: &[u8]| {
    let layout = decoding::layout();
    let mut decoder = Decoder::new();
    // With the digest that its pages have, most inputs get beyond it; what they came with is tried as well.
    for body in [input.to_vec(), decoding::with_digest(input, &layout)] {
        let mut mirror = Mirror::new(decoding::OLDEST);
        let before = decoding::before(&layout);
        let before = decoder
            .decode(&before, BATCH - 1, &layout)
            .expect("the batch before");
        mirror
            .resolve(before, &mut Nowhere)
            .expect("the batch before");
        let Ok(decoded) = decoder.decode(&body, BATCH, &layout) else {
            continue;
        };
        let needs_others = decoded.needs_others();
        let memory = decoded.memory();
        let again_decoded = decoder.decode(&body, BATCH, &layout);
        let again_decoded = again_decoded.expect("what decoded once");
        let placed = Mirror::new(0).resolve(again_decoded, &mut decoding::Placed);
        let Ok(resolved) = mirror.resolve(decoded, &mut Nowhere) else {
            assert!(needs_others, "what names no other batch resolves");
            assert!(placed.is_err(), "what is nowhere is found nowhere");
            continue;
        };
        assert_eq!(resolved.memory(), memory, "filling holes takes no memory");
        let placed = placed.expect("what the mirror has is in the guest's memory");
        assert!(
            placed.entries().eq(resolved.entries()),
            "wherever it is kept, it is the same"
        );
        if resolved.verify().is_err() {
            continue;
        }
        bounded(&resolved);
        again(&resolved, &mut decoder).expect("what was drafted again decodes");
    }
});

fn bounded(resolved: &Resolved) {
    assert!(resolved.content_len() as u64 <= CONTENT_MAX);
    let (mut entries, mut zeros) = (0, 0);
    for entry in resolved.entries() {
        entries += 1;
        if let Entry::Zero { run, .. } = entry {
            zeros += run;
        }
    }
    assert!(entries <= RECORDS_MAX && zeros <= ZEROS_MAX);
}

/// Drafts what arrived. Pages of zeros may have come as literals, so only what the guest gets is compared.
fn again(resolved: &Resolved, decoder: &mut Decoder) -> Result<(), DecodeError> {
    let layout = decoding::layout();
    let Some(draft) = decoding::drafted(resolved, &layout) else {
        return Ok(());
    };
    let mut body = Vec::new();
    Encoder::new(1)
        .encode(&draft, BATCH, &layout, &mut body)
        .expect("what was decoded can be encoded");
    let decoded = decoder.decode(&body, BATCH, &layout)?;
    let found = Mirror::new(0).resolve(decoded, &mut Nowhere);
    let found = found.map_err(Unresolvable::from)?;
    assert!(
        decoding::flat(found.entries()) == decoding::flat(resolved.entries()),
        "what arrives is what was drafted"
    );
    Ok(())
}
