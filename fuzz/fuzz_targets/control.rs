//! Control messages: whatever arrives, in whatever pieces, is a message, is passed over or is refused; a message that was taken can be sent
//! again and then means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_session::control::{Decoder, Frame, Message};

fuzz_target!(|input: &[u8]| {
    let (whole, whole_error) = decode(input, usize::MAX);
    let (pieces, pieces_error) = decode(
        input,
        1 + usize::from(input.first().copied().unwrap_or(0) % 61),
    );
    assert_eq!(whole, pieces, "it depends on the pieces");
    assert_eq!(whole_error, pieces_error, "it depends on the pieces");
    for message in whole {
        let frame = Frame::of(message.clone());
        let mut decoder = Decoder::new();
        decoder.accept_hello();
        let again = decoder
            .next(&mut frame.as_bytes())
            .expect("what was taken can be sent")
            .expect("all of it");
        assert_eq!(again.message, message);
    }
});

/// The messages, and how it ended if not well. The hello is accepted as soon as one has come.
fn decode(input: &[u8], piece: usize) -> (Vec<Message>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for mut arriving in input.chunks(piece.max(1)) {
        while !arriving.is_empty() {
            match decoder.next(&mut arriving) {
                Ok(Some(received)) => {
                    if matches!(received.message, Message::Hello(_)) {
                        decoder.accept_hello();
                    }
                    messages.push(received.message);
                }
                Ok(None) => assert!(arriving.is_empty(), "it wants more but leaves some"),
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }
    (messages, None)
}
