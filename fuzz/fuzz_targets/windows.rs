//! Batches that go on windows, one after the other. What each says does not depend on what else was decoded, is the same as without compression, and comes
//! out of windows again when it is drafted and encoded once more.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::decoding::{OLDEST, Placed, drafted, flat};
use sealift_fuzz::windows::{self, Inflater, WINDOWS};
use sealift_pages::{
    Body, CONTENT_MAX, DecodeError, Decoded, Decoder, Encoder, Layout, Mirror, Nowhere, Packing,
    Place, RECORDS_MAX, Resolved, Unpacking,
};

/// A receiver, up to where it keeps what it decodes.
struct Receiver {
    layout: Layout,
    decoder: Decoder,
    windows: Vec<Unpacking>,
    mirror: Mirror,
}

impl Receiver {
    fn new() -> Self {
        Self {
            layout: windows::layout(),
            decoder: Decoder::new(),
            windows: (1..=WINDOWS).map(Unpacking::new).collect(),
            mirror: Mirror::new(OLDEST),
        }
    }

    fn decode(&mut self, body: &[u8], number: u64) -> Result<Decoded, DecodeError> {
        let place = Body::parse(body, &self.layout)?.window(&self.layout, number);
        let Some(Place { window, .. }) = place else {
            return self.decoder.decode(body, number, &self.layout);
        };
        let window = usize::try_from(window - 1).expect("one of two");
        let window = self.windows.get_mut(window).expect("an agreed window");
        self.decoder
            .decode_within(body, number, &self.layout, window)
    }

    fn take(&mut self, body: &[u8], number: u64) -> Option<Arc<Resolved>> {
        let decoded = self.decode(body, number).ok()?;
        let memory = decoded.memory();
        let resolved = self.mirror.resolve(decoded, &mut Placed).ok()?;
        assert_eq!(resolved.memory(), memory, "filling holes takes no memory");
        resolved.verify().ok()?;
        Some(resolved)
    }
}

fuzz_target!(|input: &[u8]| {
    let (mut receiver, mut other, mut again) = (Receiver::new(), Receiver::new(), Receiver::new());
    let layout = windows::layout();
    let mut inflater = Inflater::default();
    let (mut encoder, mut packing) = (Encoder::new(1), Packing::new(1, 3));
    for (number, body) in windows::bodies(input) {
        let (body, plain) = inflater.complete(body, number, &layout);
        // What this one decodes in between leaves no trace.
        let _ = other
            .decoder
            .decode(body.get(1..).unwrap_or_default(), 0, &layout);
        let resolved = receiver.take(&body, number);
        let same = other.take(&body, number);
        let said = |resolved: &Resolved| flat(resolved.entries());
        assert!(
            resolved.as_deref().map(said) == same.as_deref().map(said),
            "two receivers read the same"
        );
        if let Some(plain) = plain.and_then(|plain| without_group(&plain, number, &layout)) {
            let same = resolved
                .as_deref()
                .is_some_and(|it| said(it) == said(&plain));
            assert!(same, "a window changes nothing");
        }
        // A session ends here.
        let Some(resolved) = resolved else { return };
        assert!(resolved.content_len() as u64 <= CONTENT_MAX);
        let Some(draft) = drafted(&resolved, &layout) else {
            continue;
        };
        let mut body = Vec::new();
        encoder
            .encode_within(&draft, number, &layout, &mut packing, &mut body)
            .expect("what was decoded can be encoded");
        let back = again.take(&body, number);
        assert!(
            back.as_deref().map(said) == Some(said(&resolved)),
            "what arrives is what was drafted"
        );
    }
});

/// What the same records say without a group around them, if they are well-formed, name no other batch, and leave room for one record more.
fn without_group(body: &[u8], number: u64, layout: &Layout) -> Option<Arc<Resolved>> {
    let decoded = Decoder::new().decode(body, number, layout).ok()?;
    let records = Body::parse(body, layout).ok()?.records(layout, number);
    if decoded.needs_others() || records.count() >= RECORDS_MAX {
        return None;
    }
    Mirror::new(0).resolve(decoded, &mut Nowhere).ok()
}
