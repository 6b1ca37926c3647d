//! The numbers that are shown are those of the stream, counted again another way.

use std::collections::{BTreeMap, HashSet};

use sealift_lab::fixtures::{Channel, fixtures};
use sealift_stream::PageSize;
use sealift_stream::main_channel::{self, Content};
use sealift_stream::multifd::{self, Compression};

use crate::json;

/// Counted again from the records themselves, for every fixture and block.
#[test]
fn page_counts_are_those_of_the_stream() {
    let mut compared = 0;
    for fixture in fixtures().unwrap() {
        let stream = fixture.main().unwrap();
        let (mut parser, mut input) = (main_channel::Parser::new(), &stream[..]);
        let mut counts: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        let (mut seen, mut contents) = (HashSet::new(), HashSet::new());
        while let Some(item) = parser.pull(&mut input) {
            let main_channel::Item::Page(page) = item else {
                continue;
            };
            let kind = match page.content {
                Content::Zero => "zero",
                Content::Whole(_) => "literal",
                Content::Xbzrle(_) => "xbzrle",
                Content::Zlib(_) => "compressed",
            };
            let block = page.block.index();
            *counts.entry((block, kind)).or_default() += 1;
            if !seen.insert((block, page.offset)) {
                *counts.entry((block, "resent")).or_default() += 1;
            }
            if let Content::Whole(bytes) = page.content
                && !contents.insert(bytes)
            {
                *counts.entry((block, "duplicate")).or_default() += 1;
            }
        }
        let report = json(&stream);
        for (block, line) in report["ram"]["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            for kind in [
                "zero",
                "literal",
                "xbzrle",
                "compressed",
                "resent",
                "duplicate",
            ] {
                let counted = counts.get(&(block, kind)).copied().unwrap_or(0);
                assert_eq!(line[kind], counted, "{kind} of {line} in {}", fixture.name);
                compared += u64::from(counted > 0);
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn multifd_counts_are_those_of_the_channel() {
    for fixture in fixtures().unwrap() {
        for file in &fixture.files {
            let Channel::Multifd(number) = file.channel else {
                continue;
            };
            let bytes = file.bytes().unwrap();
            let (mut parser, mut input) = (multifd::Parser::new(PageSize::KIB_4), &bytes[..]);
            let (mut packets, mut syncs, mut compressed) = (0u64, 0u64, 0u64);
            let (mut zero, mut literal, mut zipped) = (0, 0, 0);
            while let Some(item) = parser.pull(&mut input) {
                match item {
                    multifd::Item::Ram(packet) => {
                        packets += 1;
                        syncs += u64::from(packet.is_sync());
                        zero += packet.zero_pages().len();
                        if packet.compression() == Some(Compression::None) {
                            literal += packet.normal_pages().len();
                        } else {
                            zipped += packet.normal_pages().len();
                        }
                    }
                    multifd::Item::Payload(bytes) => compressed += bytes.len() as u64,
                    _ => {}
                }
            }
            let report = json(&bytes);
            assert_eq!(report["number"], number);
            assert_eq!(
                (&report["packets"], &report["syncs"]),
                (&packets.into(), &syncs.into())
            );
            assert_eq!(report["compressed_bytes"], compressed);
            let sum = |kind: &str| -> u64 {
                let blocks = report["ram"]["blocks"].as_array().unwrap();
                blocks
                    .iter()
                    .map(|block| block[kind].as_u64().unwrap())
                    .sum()
            };
            let told = (sum("zero"), sum("literal"), sum("compressed"));
            assert_eq!(
                told,
                (zero as u64, literal as u64, zipped as u64),
                "{}",
                file.path
            );
        }
    }
}
