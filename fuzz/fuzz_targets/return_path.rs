//! The return path is emitted as it was, whatever it holds and however it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::whole_and_in_pieces;
use sealift_stream::return_path::{MAX_ITEM, Parser};

fuzz_target!(|input: &[u8]| {
    let emitted = whole_and_in_pieces(input, Parser::new, |parser, at_hand, end, out| {
        while let Some(item) = parser.pull(at_hand) {
            item.emit(out);
        }
        assert!(at_hand.len() < MAX_ITEM, "nothing was taken");
        if end && let Some(item) = parser.finish(std::mem::take(at_hand)) {
            item.emit(out);
        }
    });
    for emitted in emitted {
        assert!(emitted == input, "not lossless");
    }
});
