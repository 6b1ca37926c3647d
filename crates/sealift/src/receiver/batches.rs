//! Batches for tests, as they come out of the network.

use std::sync::Arc;

use sealift_pages::{
    Agreed, Codecs, Decoder, Draft, Encoder, Layout, Mirror, Nowhere, PAGE_SIZE_MIN, PageSize,
    Resolved,
};

/// The pages of all guests here.
pub(super) fn page_size() -> PageSize {
    PageSize::new(PAGE_SIZE_MIN).unwrap()
}

/// A batch of a guest whose blocks have so many pages.
pub(super) fn batch(number: u64, pages: &[u64], fill: impl FnOnce(&mut Draft)) -> Arc<Resolved> {
    let agreed = Agreed {
        codecs: Codecs::ALL,
        ..Agreed::default()
    };
    let layout = Layout::new(page_size(), pages.to_vec())
        .unwrap()
        .with_agreed(agreed);
    let mut draft = Draft::new(page_size());
    fill(&mut draft);
    let mut body = Vec::new();
    Encoder::new(1)
        .encode(&draft, number, &layout, &mut body)
        .unwrap();
    let decoded = Decoder::new().decode(&body, number, &layout).unwrap();
    Mirror::new(0).resolve(decoded, &mut Nowhere).unwrap()
}
