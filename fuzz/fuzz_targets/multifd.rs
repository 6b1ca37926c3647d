//! A multifd channel is emitted as it was, whatever it holds and however it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::whole_and_in_pieces;
use sealift_stream::PageSize;
use sealift_stream::multifd::{Item, MAX_ITEM, Parser};

fuzz_target!(|input: &[u8]| {
    let new = || Parser::new(PageSize::KIB_4);
    let emitted = whole_and_in_pieces(input, new, |parser, at_hand, end, out| {
        while let Some(item) = parser.pull(at_hand) {
            if let Item::Ram(packet) = item {
                let offsets = packet.normal_pages().chain(packet.zero_pages());
                assert!(offsets.fold(0, |all, offset| all | offset) % 4096 == 0);
                packet.block();
            }
            if let Item::Device(packet) = item {
                packet.device();
            }
            assert!(!item.as_bytes().is_empty(), "an item of no bytes");
            out.extend_from_slice(item.as_bytes());
        }
        assert!(at_hand.len() < MAX_ITEM, "nothing was taken");
        if end && let Some(item) = parser.finish(std::mem::take(at_hand)) {
            out.extend_from_slice(item.as_bytes());
        }
    });
    for emitted in emitted {
        assert!(emitted == input, "not lossless");
    }
});
