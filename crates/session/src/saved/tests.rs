use alloc::vec;

use super::*;
use crate::control::{Bytes, RamBlock, RamBlocks};

fn header() -> Header {
    let block = |name: &[u8], length| {
        RamBlock::new(Bytes::new("name", name.to_vec()).unwrap(), length, 4096).unwrap()
    };
    Header {
        id: SessionId([1; 16]),
        recipient: Recipient {
            key: [4; POINT],
            certificate: [2; DIGEST],
            name: Text::cut("host-b.example"),
        },
        share: [5; POINT],
        salt: [3; DIGEST],
        digest: Algorithm::Blake3,
        codecs: Distinct::new("codecs", vec![1]).unwrap(),
        slots: 64 << 20,
        page_size: PageSize::new(4096).unwrap(),
        guest: Admission {
            name: Text::cut("web1").unwrap(),
            uuid: [7; 16],
            machine: Text::cut("pc-q35-10.0").unwrap(),
            blocks: RamBlocks::new(vec![block(b"pc.ram", 1 << 30), block(b"vga", 1 << 24)])
                .unwrap(),
            memory_needed: 1 << 30,
        },
        software: None,
        saved_ns: 1,
    }
}

fn taken(file: &[u8]) -> Result<Header, NotSaved> {
    let (preamble, rest) = file.split_first_chunk().unwrap();
    Header::decode(&rest[..Header::length(preamble)?])
}

#[test]
fn a_header_comes_out_as_it_went_in() {
    assert_eq!(taken(&header().encode()), Ok(header()));
}

#[test]
fn another_file_is_told_from_a_later_version_of_this_one() {
    let mut file = header().encode();
    file[9] = 2;
    assert_eq!(taken(&file), Err(NotSaved::Version { found: 2 }));
    file[0] = b'x';
    assert_eq!(taken(&file), Err(NotSaved::Magic));
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_is_read() {
    let mut preamble: [u8; PREAMBLE] = *header().encode().first_chunk().unwrap();
    for found in [0, 512 * 1024 + 1, u32::MAX] {
        preamble[12..].copy_from_slice(&found.to_be_bytes());
        assert_eq!(
            Header::length(&preamble),
            Err(NotSaved::HeaderLength { found })
        );
    }
}

#[test]
fn a_field_that_is_not_allowed_is_named() {
    type Spoil = fn(&mut wire::Header);
    let spoilt: [(&str, Spoil); 7] = [
        ("Header.id", |header| header.id.truncate(15)),
        ("Header.share", |header| header.share.push(0)),
        ("Header.salt", |header| header.salt.clear()),
        ("Header.digest", |header| header.digest = 3),
        ("Header.page_size", |header| header.page_size = 4097),
        ("Header.guest", |header| header.guest = None),
        ("Header.slots", |header| header.slots = u64::MAX),
    ];
    for (field, spoil) in spoilt {
        let file = header().encode();
        let mut wire = wire::Header::decode(&file[PREAMBLE..]).unwrap();
        spoil(&mut wire);
        match Header::decode(&wire.encode_to_vec()) {
            Err(NotSaved::Invalid(invalid)) => assert_eq!(invalid.field, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn a_list_without_end_takes_no_memory() {
    // Two bytes for each block.
    let mut guest = vec![];
    for _ in 0..10_000 {
        guest.extend_from_slice(&[0x22, 0]);
    }
    let mut bytes = vec![0x5a];
    prost::encoding::encode_varint(guest.len() as u64, &mut bytes);
    bytes.extend_from_slice(&guest);
    assert_eq!(Header::decode(&bytes), Err(NotSaved::Malformed));
}

#[test]
fn an_end_comes_out_as_it_went_in_and_no_other_length_is_one() {
    let end = End {
        batches: 12,
        at: 345_678,
        versions: [9; DIGEST],
        run_state: RunState::Paused,
    };
    let bytes = end.encode();
    assert_eq!(End::decode(&bytes), Ok(end));
    assert_eq!(End::decode(&bytes[..End::LENGTH - 1]), Err(NotSaved::End));
    assert_eq!(
        End::decode(&[bytes.as_slice(), &[0]].concat()),
        Err(NotSaved::End)
    );
    let mut unknown = bytes;
    unknown[End::LENGTH - 1] = 200;
    assert!(matches!(End::decode(&unknown), Err(NotSaved::Invalid(_))));
}
