//! What a multifd channel's parser understands, and what it leaves alone.

use crate::support::{Multifd, Run, Writer, run};
use sealift_stream::multifd::{Compression, Item, Parser};
use sealift_stream::{Cause, PageSize};

const PAGE: u64 = 4096;

fn channel() -> Multifd {
    Multifd(Parser::new(PageSize::KIB_4))
}

fn parse(stream: &Writer) -> Run {
    let whole = run(channel(), &stream.0, &[]);
    assert_eq!(whole.emitted, stream.0, "lossless");
    let bytewise = run(channel(), &stream.0, &[1]);
    assert_eq!(whole.items, bytewise.items, "whatever the chunking");
    assert_eq!(whole.surprise, bytewise.surprise);
    whole
}

fn hello() -> Writer {
    Writer::default()
        .be32(0x1122_3344)
        .be32(1)
        .bytes(&[0xab; 16])
        .bytes(&[1])
        .bytes(&[0; 39])
}

struct Head<'a> {
    flags: usize,
    alloc: usize,
    normal: &'a [u64],
    payload: usize,
    zero: &'a [u64],
    left_over: u8,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            flags: 0,
            alloc: 128,
            normal: &[],
            payload: 0,
            zero: &[],
            left_over: 0,
        }
    }
}

trait Packet {
    fn packet(self, head: &Head<'_>) -> Self;
}

impl Packet for Writer {
    fn packet(self, head: &Head<'_>) -> Self {
        let mut writer = self
            .be32(0x1122_3344)
            .be32(1)
            .be32(head.flags)
            .be32(head.alloc)
            .be32(head.normal.len())
            .be32(head.payload)
            .be64(42)
            .be32(head.zero.len())
            .bytes(&[0; 28])
            .bytes(b"pc.ram")
            .bytes(&[0; 250]);
        for offset in head.normal.iter().chain(head.zero) {
            writer = writer.be64(*offset);
        }
        writer.bytes(&vec![
            head.left_over;
            8 * (128 - head.normal.len() - head.zero.len())
        ])
    }
}

#[test]
fn pages_come_with_their_offsets() {
    let stream = hello()
        .packet(&Head {
            normal: &[3 * PAGE, 0],
            payload: 8192,
            zero: &[5 * PAGE],
            left_over: 0xee,
            ..Head::default()
        })
        .bytes(&[1; 4096])
        .bytes(&[2; 4096])
        .packet(&Head {
            flags: 1,
            ..Head::default()
        });
    assert_eq!(parse(&stream).surprise, None);

    let mut parser = Parser::new(PageSize::KIB_4);
    let mut input = &stream.0[..];
    let mut pages = Vec::new();
    let mut zero = Vec::new();
    let mut syncs = 0;
    while let Some(item) = parser.pull(&mut input) {
        match item {
            Item::Ram(packet) => {
                assert_eq!(packet.block().unwrap().as_bytes(), b"pc.ram");
                assert_eq!(packet.number(), 42);
                zero.extend(packet.zero_pages());
                syncs += usize::from(packet.is_sync());
            }
            Item::Page { offset, bytes } => pages.push((offset, bytes[0])),
            Item::Hello(hello) => assert_eq!((hello.channel, hello.uuid), (1, [0xab; 16])),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pages, [(3 * PAGE, 1), (0, 2)]);
    assert_eq!(zero, [5 * PAGE]);
    assert_eq!(syncs, 1);
}

#[test]
fn a_packet_without_pages_may_keep_the_size_of_the_one_before() {
    let stream = hello()
        .packet(&Head {
            flags: 1,
            payload: 77,
            ..Head::default()
        })
        .packet(&Head {
            flags: 1,
            alloc: 0,
            ..Head::default()
        });
    assert_eq!(parse(&stream).surprise, None);
}

#[test]
fn compressed_pages_are_carried_as_they_are() {
    let packet = Head {
        flags: 4,
        normal: &[0, PAGE],
        payload: 11,
        ..Head::default()
    };
    let stream = hello()
        .packet(&packet)
        .bytes(b"compressed!")
        .packet(&Head::default());
    assert_eq!(parse(&stream).surprise, None);
    let mut parser = Parser::new(PageSize::KIB_4);
    let mut input = &stream.0[..];
    let mut payload = Vec::new();
    while let Some(item) = parser.pull(&mut input) {
        match item {
            Item::Ram(head) if head.payload_len() > 0 => {
                assert_eq!(head.compression(), Some(Compression::Zstd));
            }
            Item::Payload(bytes) => payload.extend_from_slice(bytes),
            _ => {}
        }
    }
    assert_eq!(payload, b"compressed!");
}

#[test]
fn every_compression_has_its_flag() {
    for (flags, compression) in [
        (2, Compression::Zlib),
        (4, Compression::Zstd),
        (8, Compression::Qpl),
        (16, Compression::Uadk),
        (32, Compression::Qatzip),
    ] {
        let packet = Head {
            flags,
            normal: &[PAGE],
            payload: 3,
            ..Head::default()
        };
        let stream = hello()
            .packet(&packet)
            .bytes(b"abc")
            .packet(&Head::default());
        assert_eq!(parse(&stream).surprise, None);
        let mut parser = Parser::new(PageSize::KIB_4);
        let mut input = &stream.0[..];
        parser.pull(&mut input);
        let Some(Item::Ram(head)) = parser.pull(&mut input) else {
            panic!("a packet of RAM");
        };
        assert_eq!(head.compression(), Some(compression));
    }
}

#[test]
fn a_head_is_shorter_where_pages_are_larger() {
    let stream = hello()
        .be32(0x1122_3344)
        .be32(1)
        .be32(0)
        .be32(8)
        .be32(1)
        .be32(64 << 10)
        .be64(0)
        .be32(0)
        .bytes(&[0; 28])
        .bytes(b"ram")
        .bytes(&[0; 253])
        .be64(128 << 10)
        .bytes(&[0; 56])
        .bytes(&[7; 64 << 10]);
    let run = run(Multifd(Parser::new(PageSize::MAX)), &stream.0, &[5000]);
    assert_eq!(run.surprise, None);
    assert!(
        run.items[2].starts_with("Page(131072, 65536 bytes"),
        "{:?}",
        run.items
    );
}

#[test]
fn device_state_is_carried_by_its_length() {
    let stream = hello()
        .be32(0x1122_3344)
        .be32(1)
        .be32(0x40)
        .bytes(b"0000:00:02.0/vfio")
        .bytes(&[0; 256 - 17])
        .be32(0)
        .be32(5)
        .bytes(b"state")
        .packet(&Head::default());
    let run = parse(&stream);
    assert_eq!(run.surprise, None);
    assert!(run.items[1].starts_with("Device("));
    let mut parser = Parser::new(PageSize::KIB_4);
    let mut input = &stream.0[..];
    parser.pull(&mut input);
    let Some(Item::Device(head)) = parser.pull(&mut input) else {
        panic!("a device packet");
    };
    assert_eq!(head.device().unwrap().to_string(), "0000:00:02.0/vfio");
    assert_eq!(head.payload_len(), 5);
}

#[test]
fn what_does_not_add_up_turns_the_channel_opaque() {
    let many: Vec<u64> = (0..128).map(|page| page * PAGE).collect();
    let cases: [(Head<'_>, Cause, &str); 6] = [
        (
            Head {
                flags: 0x80,
                ..Head::default()
            },
            Cause::Unknown,
            "known flags of a multifd packet",
        ),
        (
            Head {
                flags: 6,
                normal: &[0],
                payload: 9,
                ..Head::default()
            },
            Cause::Malformed,
            "one compression",
        ),
        (
            Head {
                alloc: 64,
                ..Head::default()
            },
            Cause::Malformed,
            "the number of pages in 512 KiB",
        ),
        (
            Head {
                normal: &[0],
                payload: 4095,
                ..Head::default()
            },
            Cause::Malformed,
            "the size of this packet's pages",
        ),
        (
            Head {
                normal: &[1],
                payload: 4096,
                ..Head::default()
            },
            Cause::Malformed,
            "the offset of a page",
        ),
        (
            Head {
                normal: &many,
                zero: &[],
                alloc: 127,
                ..Head::default()
            },
            Cause::Malformed,
            "the number of pages in 512 KiB",
        ),
    ];
    for (head, cause, expected) in cases {
        let run = parse(&hello().packet(&head).bytes(&[9; 100]));
        let surprise = run.surprise.unwrap();
        assert_eq!((surprise.cause, surprise.expected), (cause, expected));
    }
}

#[test]
fn more_pages_than_fit_are_refused() {
    let mut stream = hello().packet(&Head::default()).0;
    let normal_at = 64 + 16;
    stream[normal_at..normal_at + 4].copy_from_slice(&129u32.to_be_bytes());
    let run = parse(&Writer(stream));
    assert_eq!(
        run.surprise.unwrap().expected,
        "normal and zero pages that fit a packet"
    );
}

#[test]
fn a_channel_may_end_only_between_packets() {
    let packet = Head {
        normal: &[0],
        payload: 4096,
        ..Head::default()
    };
    let cut = hello().packet(&packet).bytes(&[1; 4000]);
    let surprise = parse(&cut).surprise.unwrap();
    assert_eq!(
        (surprise.cause, surprise.expected),
        (Cause::Truncated, "a page")
    );
}
