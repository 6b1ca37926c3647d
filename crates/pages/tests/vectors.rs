//! `proto/vectors/records.json`, made by a second implementation in Python from WIRE.md alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use std::collections::HashMap;

use sealift_pages::{
    Address, Agreed, Algorithm, Body, BodyWriter, Codec, Codecs, Layout, Origin, PageDigest,
    PageSize, Record, Refused,
};
use serde_json::{Value, json};

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../proto/vectors/records.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The vectors of a list, which has some.
fn list<'v>(vectors: &'v Value, name: &str) -> &'v [Value] {
    let list = vectors[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name}");
    list
}

fn size(value: &Value) -> PageSize {
    PageSize::new(usize::try_from(value.as_u64().unwrap()).unwrap()).unwrap()
}

fn layout(vectors: &Value, vector: &Value, size: PageSize) -> Layout {
    let blocks = list(vectors, "blocks").iter();
    let blocks = blocks.map(|pages| pages.as_u64().unwrap()).collect();
    let agreed = &vector["agreed"];
    let number = |field: &str| agreed[field].as_u64().unwrap();
    let codecs = agreed["codecs"].as_array().unwrap().iter();
    let agreed = Agreed {
        digest: match number("digest") {
            1 => Algorithm::Sha256,
            2 => Algorithm::Blake3,
            other => panic!("digest {other}"),
        },
        codecs: codecs.fold(Codecs::NONE, |codecs, number| {
            assert_eq!(number, 1);
            codecs.and(Codec::Zstd)
        }),
        windows: number("windows"),
        ..Agreed::default()
    };
    Layout::new(size, blocks).unwrap().with_agreed(agreed)
}

/// The page that a seed stands for.
fn page(seed: u64, size: PageSize) -> Vec<u8> {
    (0..size.bytes() as u64)
        .map(|i| (seed + 7 * i + 13 * (i >> 8)).to_le_bytes()[0])
        .collect()
}

/// What a group holds whose frame's blocks are all stored as they are: RFC 8878.
fn inflate(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[..5], [0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    let (mut raw, mut rest) = (vec![], &frame[9..]);
    loop {
        let head = u32::from_le_bytes([rest[0], rest[1], rest[2], 0]);
        let (stored, behind) = rest[3..].split_at(usize::try_from(head >> 3).unwrap());
        assert_eq!(head >> 1 & 3, 0, "a stored block");
        raw.extend_from_slice(stored);
        rest = behind;
        if head & 1 == 1 {
            assert!(rest.is_empty());
            return raw;
        }
    }
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

fn body(pieces: &Value, size: PageSize) -> Vec<u8> {
    let pieces = pieces.as_array().unwrap().iter();
    pieces
        .flat_map(|piece| {
            piece
                .as_u64()
                .map_or_else(|| unhex(piece.as_str().unwrap()), |seed| page(seed, size))
        })
        .collect()
}

/// The words of a page whose bytes were taken apart.
fn together(planes: &[u8]) -> Vec<u8> {
    let words = planes.len() / 8;
    let byte = |at: usize| planes[at % 8 * words + at / 8];
    (0..planes.len()).map(byte).collect()
}

/// A record as the vectors write it; `inside` are those of a group.
fn describe(record: &Record<'_>, inside: &[Value], size: PageSize) -> Value {
    let at = |address: Address| json!([address.block, address.page]);
    match *record {
        Record::Zero { first, run } => json!({"record": "zero", "page": at(first), "run": run}),
        Record::Literal {
            page: address,
            content,
        } => {
            assert!(content == page(content[0].into(), size));
            json!({"record": "literal", "page": at(address), "seed": content[0]})
        }
        Record::Planes {
            page: address,
            planes,
        } => {
            assert!(together(planes) == page(planes[0].into(), size));
            json!({"record": "planes", "page": at(address), "seed": planes[0]})
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
            "raw_len": group.raw_len, "records": inside,
        }),
    }
}

#[test]
fn every_body_reads_as_the_vector_says_and_writes_to_the_same_bytes() {
    let vectors = vectors();
    for vector in list(&vectors, "accepted") {
        let name = vector["name"].as_str().unwrap();
        let batch = vector["batch"].as_u64().unwrap();
        let size = size(&vector["page_size"]);
        let layout = layout(&vectors, vector, size);
        let bytes = body(&vector["body"], size);

        let parsed = Body::parse(&bytes, &layout).unwrap();
        let mut again = vec![];
        let mut writer = BodyWriter::new(&mut again, &layout, batch);
        let mut described = vec![];
        let mut reader = parsed.records(&layout, batch);
        while let Some(record) = reader.next() {
            let record = record.unwrap();
            let mut inside = vec![];
            if let Record::Group(group) = record {
                let raw = inflate(group.bytes);
                let mut raw_again = vec![];
                let mut writer = writer.group(&mut raw_again);
                for record in reader.group(&group, &raw).unwrap() {
                    let record = record.unwrap();
                    inside.push(describe(&record, &[], size));
                    writer.append(&record).unwrap();
                }
                assert!(raw_again == raw, "{name}");
            }
            described.push(describe(&record, &inside, size));
            writer.append(&record).unwrap();
        }
        assert_eq!(Value::Array(described), vector["records"], "{name}");
        writer.finish(parsed.digest()).unwrap();
        assert!(again == bytes, "{name}");
    }
}

/// What earlier batches, and this one so far, put where. Origins are looked up by age, block and page.
struct Memory<'v> {
    earlier: &'v Value,
    now: HashMap<Address, Vec<u8>>,
    size: PageSize,
    digest: PageDigest,
}

impl Memory<'_> {
    fn content(&self, origin: Origin) -> Vec<u8> {
        let Address {
            block,
            page: number,
        } = origin.page;
        match origin.age {
            0 => self.now[&origin.page].clone(),
            age => {
                let seed = &self.earlier[format!("{age}/{block}/{number}")];
                page(seed.as_u64().unwrap(), self.size)
            }
        }
    }

    fn put(&mut self, record: &Record<'_>) {
        let (address, content) = match *record {
            Record::Zero { first, run } => {
                self.digest.zero(first, run);
                return;
            }
            Record::Literal { page, content } => (page, content.to_vec()),
            Record::Planes { page, planes } => (page, together(planes)),
            Record::SameAs { page, origin } => (page, self.content(origin)),
            Record::Delta {
                page,
                origin,
                patch,
            } => {
                let mut out = vec![0; self.size.bytes()];
                patch.apply(&self.content(origin), &mut out).unwrap();
                (page, out)
            }
            Record::Opaque { .. } | Record::Barrier | Record::Group(_) => return,
        };
        let short = &content[1..];
        assert!(self.digest.page(address, short).is_err());
        self.digest.page(address, &content).unwrap();
        self.now.insert(address, content);
    }
}

#[test]
fn every_digest_is_what_the_vector_says() {
    let vectors = vectors();
    for vector in list(&vectors, "accepted") {
        let size = size(&vector["page_size"]);
        let layout = layout(&vectors, vector, size);
        let bytes = body(&vector["body"], size);
        let parsed = Body::parse(&bytes, &layout).unwrap();
        let mut memory = Memory {
            earlier: &vector["earlier"],
            now: HashMap::new(),
            size,
            digest: PageDigest::new(parsed.digest().algorithm, size),
        };
        let mut reader = parsed.records(&layout, vector["batch"].as_u64().unwrap());
        while let Some(record) = reader.next() {
            let record = record.unwrap();
            memory.put(&record);
            if let Record::Group(group) = record {
                let raw = inflate(group.bytes);
                for record in reader.group(&group, &raw).unwrap() {
                    memory.put(&record.unwrap());
                }
            }
        }
        let digest = memory.digest.finish();
        assert_eq!(&digest, parsed.digest(), "{}", vector["name"]);
        assert_eq!(hex(&digest.value), vector["digest"], "{}", vector["name"]);
    }
}

#[test]
fn every_refusal_has_the_vectors_reason_and_offset() {
    let vectors = vectors();
    let size = size(&vectors["refused_page_size"]);
    let batch = vectors["refused_batch"].as_u64().unwrap();
    for vector in list(&vectors, "refused") {
        let layout = layout(&vectors, vector, size);
        let bytes = body(&vector["body"], size);
        let refused = refused(&bytes, &layout, batch).unwrap_err();
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

/// Reads a body and what its groups hold, as far as they are frames.
fn refused(bytes: &[u8], layout: &Layout, batch: u64) -> Result<(), Refused> {
    let mut reader = Body::parse(bytes, layout)?.records(layout, batch);
    while let Some(record) = reader.next() {
        match record? {
            Record::Group(group) if group.bytes.starts_with(&[0x28]) => {
                let raw = inflate(group.bytes);
                reader
                    .group(&group, &raw)?
                    .try_for_each(|record| record.map(drop))?;
            }
            _ => {}
        }
    }
    Ok(())
}
