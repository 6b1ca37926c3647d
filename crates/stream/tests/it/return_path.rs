//! What the return path's parser understands, and what it leaves alone.

use crate::support::{Return, Run, Writer, run};
use sealift_stream::Cause;

fn parse(stream: &Writer) -> Run {
    let whole = run(Return::default(), &stream.0, &[]);
    assert_eq!(whole.emitted, stream.0, "lossless");
    let bytewise = run(Return::default(), &stream.0, &[1]);
    assert_eq!(whole.items, bytewise.items, "whatever the chunking");
    assert_eq!(whole.surprise, bytewise.surprise);
    whole
}

fn message(kind: usize, payload: &[u8]) -> Writer {
    Writer::default()
        .be16(kind)
        .be16(payload.len())
        .bytes(payload)
}

#[test]
fn every_message_is_understood() {
    let stream = message(2, &[0, 0, 0, 1])
        .bytes(&message(7, &[]).0)
        .bytes(&message(3, b"\0\0\0\0\0\x10\0\0\0\0\x10\0\x06pc.ram").0)
        .bytes(&message(4, b"\0\0\0\0\0\x20\0\0\0\0\x10\0").0)
        .bytes(&message(5, b"\x06pc.ram").0)
        .be64(3)
        .bytes(b"map")
        .be64(0x0123_4567_89ab_cdef)
        .bytes(&message(6, &[0, 0, 0, 1]).0)
        .bytes(&message(1, &[0, 0, 0, 0]).0);
    let run = parse(&stream);
    assert_eq!(run.surprise, None);
    assert_eq!(
        run.items,
        [
            "Pong(1)",
            "SwitchoverAck",
            "RequestPages { block: Some(\"pc.ram\"), start: 1048576, len: 4096 }",
            "RequestPages { block: None, start: 2097152, len: 4096 }",
            "ReceivedBitmap { block: \"pc.ram\", len: 3 }",
            "BitmapEnd",
            "ResumeAck(1)",
            "Shut(0)",
        ]
    );
}

#[test]
fn what_is_not_known_turns_the_path_opaque() {
    let cases = [
        (message(9, &[]), Cause::Unknown, "a known message"),
        (
            message(1, &[0]),
            Cause::Malformed,
            "the length of this message's payload",
        ),
        (
            message(5, b"\x01a").be64(0).be64(7),
            Cause::Malformed,
            "the mark after a bitmap",
        ),
        (
            message(1, &[0; 4]).bytes(&[0]),
            Cause::Truncated,
            "the rest of a message",
        ),
    ];
    for (stream, cause, expected) in cases {
        let surprise = parse(&stream).surprise.unwrap();
        assert_eq!((surprise.cause, surprise.expected), (cause, expected));
    }
}
