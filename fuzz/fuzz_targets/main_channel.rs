//! The main channel is emitted as it was, whatever it holds and however it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::whole_and_in_pieces;
use sealift_stream::PageSize;
use sealift_stream::main_channel::{Emitter, MAX_ITEM, Parser};

fuzz_target!(|input: &[u8]| {
    // The page size comes from the machine type; most inputs that libFuzzer makes have none that is known.
    let new = || (Parser::with_page_size(PageSize::KIB_4), Emitter::new());
    let emitted = whole_and_in_pieces(input, new, |(parser, emitter), at_hand, end, out| {
        while let Some(item) = parser.pull(at_hand) {
            let before = out.len();
            emitter.emit(&item, out);
            assert!(out.len() > before, "an item of no bytes");
        }
        assert!(at_hand.len() < MAX_ITEM, "nothing was taken");
        if end && let Some(item) = parser.finish(std::mem::take(at_hand)) {
            emitter.emit(&item, out);
        }
    });
    for emitted in emitted {
        assert!(emitted == input, "not lossless");
    }
});
