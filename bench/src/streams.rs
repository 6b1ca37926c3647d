//! The stream codec.
//!
//! The streams are those of a guest whose pages are all literal, the largest that a record gets. They are parsed from buffers of
//! 1 MiB, as a connection's bytes are, once out of main memory and once out of the cache, where a socket's bytes are found.

use sealift_stream::main_channel::{self, Emitter};
use sealift_stream::{PageSize, multifd};

use crate::guest::{self, PAGE};
use crate::raw::name;
use crate::{Case, Target};

/// Guest memory in the streams that come out of main memory: far more than any cache holds.
const COLD: usize = 256 << 20;
/// Guest memory in those that come out of the cache.
const WARM: usize = 512 << 10;
/// Bytes at hand at once.
const AT_HAND: usize = 1 << 20;
/// Records in a section, about as many as QEMU writes in one.
const RECORDS: usize = 4096;

/// All cases of the codec.
#[must_use]
pub fn cases() -> Vec<Case> {
    let (cold, warm) = (main_stream(COLD), main_stream(WARM));
    vec![
        parse("parse main channel", cold.clone(), COLD, Some(16.0)),
        parse("parse main channel, in cache", warm.clone(), WARM, None),
        parse_and_emit("parse and emit main channel", cold, COLD, Some(6.0)),
        parse_and_emit("parse and emit, in cache", warm, WARM, None),
        parse_multifd("parse multifd", multifd_stream(COLD), COLD, Some(16.0)),
        parse_multifd("parse multifd, in cache", multifd_stream(WARM), WARM, None),
    ]
}

fn case(
    name: &'static str,
    bytes: usize,
    target: Option<f64>,
    mut run: impl FnMut() -> usize + 'static,
) -> Case {
    Case {
        name,
        against: Some(name::MEMCPY),
        target: target.map(Target::Speed),
        bytes,
        run: Box::new(move |watch| {
            let pages = watch.time(&mut run);
            assert_eq!(pages, bytes / PAGE, "every page was found");
        }),
    }
}

fn parse(name: &'static str, stream: Vec<u8>, bytes: usize, target: Option<f64>) -> Case {
    case(name, bytes, target, move || {
        let mut parser = main_channel::Parser::new();
        let mut pages = 0;
        each_piece(&stream, |input| {
            while let Some(item) = parser.pull(input) {
                pages += usize::from(matches!(item, main_channel::Item::Page(_)));
            }
        });
        pages
    })
}

fn parse_and_emit(name: &'static str, stream: Vec<u8>, bytes: usize, target: Option<f64>) -> Case {
    let mut out = Vec::with_capacity(AT_HAND + main_channel::MAX_ITEM);
    case(name, bytes, target, move || {
        let mut parser = main_channel::Parser::new();
        let mut emitter = Emitter::new();
        let mut pages = 0;
        each_piece(&stream, |input| {
            out.clear();
            while let Some(item) = parser.pull(input) {
                pages += usize::from(matches!(item, main_channel::Item::Page(_)));
                emitter.emit(&item, &mut out);
            }
            std::hint::black_box(&out);
        });
        pages
    })
}

fn parse_multifd(name: &'static str, stream: Vec<u8>, bytes: usize, target: Option<f64>) -> Case {
    case(name, bytes, target, move || {
        let mut parser = multifd::Parser::new(PageSize::KIB_4);
        let mut pages = 0;
        each_piece(&stream, |input| {
            while let Some(item) = parser.pull(input) {
                pages += usize::from(matches!(item, multifd::Item::Page { .. }));
            }
        });
        pages
    })
}

/// Shows the stream as it is at hand: at most 1 MiB, from the first byte that was not taken.
fn each_piece(stream: &[u8], mut pull: impl FnMut(&mut &[u8])) {
    let mut at = 0;
    while at < stream.len() {
        let end = stream.len().min(at + AT_HAND);
        let mut input = &stream[at..end];
        pull(&mut input);
        let next = end - input.len();
        assert!(next > at, "the parser went on");
        at = next;
    }
}

fn main_stream(bytes: usize) -> Vec<u8> {
    let memory = guest::memory(bytes);
    let mut stream = Vec::with_capacity(bytes + bytes / 400 + 4096);
    let be64 = |stream: &mut Vec<u8>, word: u64| stream.extend_from_slice(&word.to_be_bytes());
    stream.extend_from_slice(b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0");
    stream.extend_from_slice(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
    be64(&mut stream, bytes as u64 | 4);
    stream.extend_from_slice(b"\x06pc.ram");
    be64(&mut stream, bytes as u64);
    for (number, page) in memory.chunks_exact(PAGE).enumerate() {
        let offset = (number * PAGE) as u64;
        if number % RECORDS == 0 {
            be64(&mut stream, 0x10);
            stream.extend_from_slice(b"\x7e\0\0\0\x02\x02\0\0\0\x02");
        }
        if number == 0 {
            be64(&mut stream, offset | 0x08);
            stream.extend_from_slice(b"\x06pc.ram");
        } else {
            be64(&mut stream, offset | 0x28);
        }
        stream.extend_from_slice(page);
    }
    stream
}

fn multifd_stream(bytes: usize) -> Vec<u8> {
    const PAGES: usize = 128;
    let memory = guest::memory(bytes);
    let mut stream = Vec::with_capacity(bytes + bytes / 300 + 4096);
    let be32 = |stream: &mut Vec<u8>, words: &[u32]| {
        for word in words {
            stream.extend_from_slice(&word.to_be_bytes());
        }
    };
    be32(&mut stream, &[0x1122_3344, 1]);
    stream.extend_from_slice(&[0; 56]);
    for (number, pages) in memory.chunks_exact(PAGES * PAGE).enumerate() {
        be32(&mut stream, &[0x1122_3344, 1, 0, 128, 128, 128 * 4096]);
        stream.extend_from_slice(&(number as u64).to_be_bytes());
        stream.extend_from_slice(&[0; 32]);
        stream.extend_from_slice(b"pc.ram");
        stream.extend_from_slice(&[0; 250]);
        for page in 0..PAGES {
            let offset = ((number * PAGES + page) * PAGE) as u64;
            stream.extend_from_slice(&offset.to_be_bytes());
        }
        stream.extend_from_slice(pages);
    }
    stream
}
