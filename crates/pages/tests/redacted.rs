//! Nothing that can be printed holds guest memory.

#![allow(
    clippy::unwrap_used,
    reason = "tests; clippy.toml reaches only the functions marked so"
)]

use sealift_pages::{
    Address, Algorithm, Body, BodyWriter, Codec, Digest, Group, Layout, Origin, PAGE_SIZE_MIN,
    PageSize, Patch, Record,
};

/// A byte of content; as the last digits of nothing else here.
const SECRET: u8 = 0xe9;

#[track_caller]
fn tells_nothing(printed: &str) {
    for secret in ["233", "e9", "\u{e9}", "fa, ce"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn what_is_printed_holds_no_content() {
    let size = PageSize::new(PAGE_SIZE_MIN).unwrap();
    let layout = Layout::widest(size, Algorithm::Sha256);
    let content = [SECRET; PAGE_SIZE_MIN];
    let patch = [0, 2, SECRET, SECRET];
    let patch = Patch::parse(&patch, size).unwrap();
    let page = Address { block: 0, page: 1 };
    let origin = Origin {
        page: Address { block: 0, page: 2 },
        age: 1,
    };
    let group = Group {
        codec: Codec::Zstd,
        slot: 0,
        window: 0,
        raw_len: 4,
        bytes: &content,
    };
    let records = [
        Record::Zero {
            first: Address { block: 1, page: 0 },
            run: 1,
        },
        Record::Literal {
            page,
            content: &content,
        },
        Record::SameAs { page, origin },
        Record::Delta {
            page,
            origin,
            patch,
        },
        Record::Opaque {
            channel: 0,
            bytes: &content,
        },
        Record::Barrier,
        Record::Group(group),
    ];
    let digest = Digest {
        algorithm: Algorithm::Sha256,
        value: [SECRET; 32],
    };
    tells_nothing(&format!("{digest:?} {patch:?} {:?}", patch.runs()));
    tells_nothing(&format!("{:?}", patch.runs().next()));

    let (mut bytes, mut inner) = (vec![], vec![]);
    let mut writer = BodyWriter::new(&mut bytes, &layout, 5);
    for record in records {
        tells_nothing(&format!("{record:?} {record:#?}"));
        writer.append(&record).unwrap();
    }
    tells_nothing(&format!("{writer:?}"));
    let mut inside = writer.group(&mut inner);
    inside.append(&records[1]).unwrap();
    tells_nothing(&format!("{inside:?}"));
    inside.discard();
    writer.finish(&digest).unwrap();

    let body = Body::parse(&bytes, &layout).unwrap();
    tells_nothing(&format!("{body:?}"));
    let mut reader = body.records(&layout, 5);
    let printed = format!("{reader:?}");
    assert!(printed.len() < 100_000);
    tells_nothing(&printed[..printed.find("layout").unwrap()]);
    let inflated = [0x22, 0, 1, SECRET];
    let inside = format!("{:?}", reader.group(&group, &inflated).unwrap());
    tells_nothing(&inside[..inside.find("layout").unwrap()]);
}
