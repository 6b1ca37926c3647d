//! `proto/vectors/records.json`, made by a second implementation in Python from WIRE.md alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use std::collections::HashMap;

use sealift_pages::{
    Address, Body, BodyWriter, Contexts, Layout, PageDigest, PageSize, Patch, Record,
};
use serde_json::{Value, json};

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../proto/vectors/records.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn layout(vectors: &Value) -> Layout {
    let size = usize::try_from(vectors["page_size"].as_u64().unwrap()).unwrap();
    let blocks = vectors["blocks"].as_array().unwrap();
    let blocks = blocks.iter().map(|pages| pages.as_u64().unwrap()).collect();
    Layout::new(PageSize::new(size).unwrap(), blocks).unwrap()
}

/// The page that a seed stands for.
fn page(seed: u64) -> Vec<u8> {
    (0..4096u64)
        .map(|i| (seed + 7 * i + 13 * (i >> 8)).to_le_bytes()[0])
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex
        .chars()
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}

fn body(pieces: &Value) -> Vec<u8> {
    let pieces = pieces.as_array().unwrap().iter();
    pieces
        .flat_map(|piece| {
            piece
                .as_u64()
                .map_or_else(|| unhex(piece.as_str().unwrap()), page)
        })
        .collect()
}

/// A record as the vectors write it.
fn describe(record: &Record<'_>) -> Value {
    let at = |address: Address| json!([address.block, address.page]);
    match *record {
        Record::Zero { first, run } => json!({"record": "zero", "page": at(first), "run": run}),
        Record::Literal {
            page: address,
            content,
        } => {
            assert_eq!(content, page(content[0].into()));
            json!({"record": "literal", "page": at(address), "seed": content[0]})
        }
        Record::SameAs { page, origin } => {
            json!({"record": "same-as", "page": at(page), "origin": at(origin.page), "age": origin.age})
        }
        Record::Delta {
            page,
            origin,
            patch,
        } => {
            let runs: Vec<_> = patch
                .runs()
                .map(|run| json!([run.offset, hex(run.bytes)]))
                .collect();
            json!({"record": "delta", "page": at(page), "origin": at(origin.page), "age": origin.age, "patch": runs})
        }
        Record::Opaque { channel, bytes } => {
            json!({"record": "opaque", "channel": channel, "bytes": hex(bytes)})
        }
        Record::Barrier => json!({"record": "barrier"}),
        Record::Group(group) => json!({
            "record": "group", "slot": group.slot, "window": group.window,
            "raw_len": group.raw_len, "bytes": hex(group.bytes),
        }),
    }
}

#[test]
fn every_body_reads_as_the_vector_says_and_writes_to_the_same_bytes() {
    let vectors = vectors();
    for vector in vectors["accepted"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let batch = vector["batch"].as_u64().unwrap();
        let agreed = |index: usize| vector["contexts"][index].as_u64().unwrap();
        let contexts = Contexts {
            slots: agreed(0),
            windows: agreed(1),
        };
        let layout = layout(&vectors).with_contexts(contexts);
        let bytes = body(&vector["body"]);

        let parsed = Body::parse(&bytes).unwrap();
        let records: Vec<_> = parsed.records(&layout, batch).map(Result::unwrap).collect();
        let described: Vec<_> = records.iter().map(describe).collect();
        assert_eq!(Value::Array(described), vector["records"], "{name}");

        let mut again = vec![];
        let mut writer = BodyWriter::new(&mut again, &layout, batch);
        for record in &records {
            writer.append(record).unwrap();
        }
        writer.finish(parsed.digest());
        assert!(again == bytes, "{name}");
    }
}

/// What earlier batches, and this one so far, put where. Origins are looked up by age, block and page.
struct Memory<'v> {
    earlier: &'v Value,
    now: HashMap<Address, Vec<u8>>,
}

impl Memory<'_> {
    fn content(&self, origin: sealift_pages::Origin) -> Vec<u8> {
        let Address {
            block,
            page: number,
        } = origin.page;
        match origin.age {
            0 => self.now[&origin.page].clone(),
            age => page(
                self.earlier[format!("{age}/{block}/{number}")]
                    .as_u64()
                    .unwrap(),
            ),
        }
    }
}

fn patched(base: &[u8], patch: Patch<'_>) -> Vec<u8> {
    let mut out = vec![0; base.len()];
    patch.apply(base, &mut out).unwrap();
    out
}

#[test]
fn every_digest_is_what_the_vector_says() {
    let vectors = vectors();
    let layout = layout(&vectors).with_contexts(Contexts {
        slots: 9,
        windows: 999,
    });
    for vector in vectors["accepted"].as_array().unwrap() {
        let bytes = body(&vector["body"]);
        let parsed = Body::parse(&bytes).unwrap();
        let mut memory = Memory {
            earlier: &vector["earlier"],
            now: HashMap::new(),
        };
        let mut digest = PageDigest::new(parsed.digest().algorithm);
        for record in parsed.records(&layout, vector["batch"].as_u64().unwrap()) {
            let (address, content) = match record.unwrap() {
                Record::Zero { first, run } => {
                    digest.zero(first, run);
                    continue;
                }
                Record::Literal { page, content } => (page, content.to_vec()),
                Record::SameAs { page, origin } => (page, memory.content(origin)),
                Record::Delta {
                    page,
                    origin,
                    patch,
                } => (page, patched(&memory.content(origin), patch)),
                Record::Opaque { .. } | Record::Barrier | Record::Group(_) => continue,
            };
            digest.page(address, &content);
            memory.now.insert(address, content);
        }
        let digest = digest.finish();
        assert_eq!(&digest, parsed.digest(), "{}", vector["name"]);
        assert_eq!(hex(&digest.value), vector["digest"], "{}", vector["name"]);
    }
}

#[test]
fn every_refusal_has_the_vectors_reason_and_offset() {
    let vectors = vectors();
    let layout = layout(&vectors);
    let batch = vectors["refused_batch"].as_u64().unwrap();
    for vector in vectors["refused"].as_array().unwrap() {
        let bytes = unhex(vector["body"].as_str().unwrap());
        let mut records = Body::parse(&bytes).unwrap().records(&layout, batch);
        let refused = records.find_map(Result::err).unwrap();
        let reason = format!("{:?}", refused.refusal);
        let (reason, _) = reason.split_once(' ').unwrap_or((&reason, ""));
        assert_eq!(
            (reason, refused.offset as u64),
            (
                vector["refusal"].as_str().unwrap(),
                vector["offset"].as_u64().unwrap()
            )
        );
    }
}
