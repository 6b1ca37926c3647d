//! A saved guest's file: whatever stands at its beginning is a header or is refused, and a header that was taken can be written again and
//! then means the same. The same for its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_session::saved::{End, Header, PREAMBLE};

fuzz_target!(|input: &[u8]| {
    if let Ok(header) = Header::decode(input) {
        let file = header.encode();
        let preamble = file.first_chunk::<PREAMBLE>().expect("it has one");
        let length = Header::length(preamble).expect("what was taken can be written");
        assert_eq!(length, file.len() - PREAMBLE);
        assert_eq!(Header::decode(&file[PREAMBLE..]).as_ref(), Ok(&header));
        // What was checked makes a layout.
        header.layout().expect("its blocks were checked");
    }
    if let Some(preamble) = input.first_chunk() {
        let _ = Header::length(preamble);
    }
    if let Ok(end) = End::decode(input) {
        assert_eq!(end.encode().as_slice(), input);
    }
});
