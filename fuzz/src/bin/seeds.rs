//! Writes the inputs that fuzzing starts from: `seeds FOLDER` fills `FOLDER/<target>/`.
//!
//! Streams are cut from the fixtures: everything but most of their pages, so that an input stays small and a mutation likely meets
//! something else than a page's content.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sealift_fuzz::{decoding, seed};
use sealift_lab::fixtures::{Channel, Direction, fixtures};
use sealift_pages::Algorithm;
use sealift_seal::{Initiator, Share, Suite, respond};
use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{
    Admission, Bytes, Distinct, RamBlock, RamBlocks, RunState, SessionId, Text,
};
use sealift_session::saved::{End, Header, PREAMBLE, Recipient};
use sealift_stream::main_channel::{Content, Emitter, Item, Parser};
use sealift_stream::{PageSize, multifd};

/// Whole pages that a seed keeps.
const WHOLE: usize = 4;
/// Other page records that it keeps.
const OTHER: usize = 24;
/// Bytes of device state that it keeps.
const OPAQUE: usize = 512;
/// Pages of a multifd packet that is kept.
const PACKET: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?);
    streams(&folder)?;
    records(&folder)?;
    decode(&folder)?;
    windows(&folder)?;
    control(&folder)?;
    saved(&folder)?;
    shares(&folder)?;
    open(&folder)?;
    Ok(())
}

fn saved(folder: &Path) -> Result<(), Box<dyn Error>> {
    let block = RamBlock::new(Bytes::new("name", b"pc.ram".to_vec())?, 1 << 30, 4096)?;
    let header = Header {
        id: SessionId([1; 16]),
        recipient: Recipient {
            key: [4; 65],
            certificate: [2; 32],
            name: Text::cut("host-b.example"),
        },
        share: [4; 65],
        salt: [3; 32],
        digest: Algorithm::Blake3,
        codecs: Distinct::new("codecs", vec![1])?,
        slots: 64 << 20,
        page_size: sealift_pages::PageSize::new(4096)?,
        guest: Admission {
            name: Text::explaining("web1"),
            uuid: [7; 16],
            machine: Text::explaining("pc-q35-10.0"),
            blocks: RamBlocks::new(vec![block])?,
            memory_needed: 1 << 30,
        },
        software: Text::cut("sealift"),
        saved_ns: 1,
    };
    let end = End {
        batches: 12,
        at: 345_678,
        versions: [9; 32],
        run_state: RunState::Running,
    };
    let file = header.encode();
    write(folder, "saved", "header", &file[PREAMBLE..])?;
    write(folder, "saved", "preamble", &file[..PREAMBLE])?;
    write(folder, "saved", "end", &end.encode())
}

fn write(folder: &Path, target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), bytes)?;
    Ok(())
}

fn streams(folder: &Path) -> Result<(), Box<dyn Error>> {
    for fixture in fixtures()? {
        for file in &fixture.files {
            let bytes = file.bytes()?;
            let name = format!("{}-{}", fixture.name, file.connection);
            match (&file.channel, file.direction) {
                (_, Direction::Return) => write(folder, "return_path", &name, &bytes)?,
                (Channel::Multifd(_), _) => {
                    write(folder, "multifd", &name, &fewer_packets(&bytes))?;
                }
                (Channel::Main, _) => write(folder, "main_channel", &name, &fewer_pages(&bytes))?,
                (Channel::PostcopyPreempt, _) => {}
            }
        }
    }
    Ok(())
}

fn fewer_pages(mut stream: &[u8]) -> Vec<u8> {
    let (mut parser, mut emitter, mut out) = (Parser::new(), Emitter::new(), Vec::new());
    let (mut whole, mut other, mut opaque) = (WHOLE, OTHER, OPAQUE);
    while let Some(item) = parser.pull(&mut stream) {
        let left = match &item {
            Item::Page(page) if matches!(page.content, Content::Whole(_)) => &mut whole,
            Item::Page(_) => &mut other,
            Item::Opaque(bytes) => {
                let kept = &bytes[..bytes.len().min(opaque)];
                opaque -= kept.len();
                out.extend_from_slice(kept);
                continue;
            }
            _ => {
                emitter.emit(&item, &mut out);
                continue;
            }
        };
        if *left > 0 {
            *left -= 1;
            emitter.emit(&item, &mut out);
        }
    }
    out
}

fn fewer_packets(mut channel: &[u8]) -> Vec<u8> {
    let (mut parser, mut out) = (multifd::Parser::new(PageSize::KIB_4), Vec::new());
    let mut keep = true;
    while let Some(item) = parser.pull(&mut channel) {
        if let multifd::Item::Ram(packet) = &item {
            keep = packet.normal_pages().len() <= PACKET;
        }
        if keep {
            out.extend_from_slice(item.as_bytes());
        }
    }
    out
}

fn records(folder: &Path) -> Result<(), Box<dyn Error>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors/records.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors)?)?;
    for list in ["accepted", "refused"] {
        for (number, vector) in vectors[list].as_array().into_iter().flatten().enumerate() {
            // Pieces that are pages, named by a number, would make long seeds: those bodies are left out.
            let pieces = vector["body"].as_array().into_iter().flatten();
            let Some(body) = pieces
                .map(|piece| piece.as_str())
                .collect::<Option<String>>()
            else {
                continue;
            };
            let body = unhex(&body)?;
            write(folder, "records", &format!("{list}-{number}"), &body)?;
        }
    }
    Ok(())
}

fn decode(folder: &Path) -> Result<(), Box<dyn Error>> {
    for (name, body) in decoding::seeds() {
        write(folder, "decode", name, &body)?;
    }
    Ok(())
}

fn windows(folder: &Path) -> Result<(), Box<dyn Error>> {
    for (name, bodies) in sealift_fuzz::windows::seeds() {
        write(folder, "windows", name, &bodies)?;
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.map(byte).collect()
}

fn control(folder: &Path) -> Result<(), Box<dyn Error>> {
    let hello = Kind::Hello(wire::Hello {
        wire_versions: vec![1],
        role: 1,
        session: vec![7; 16],
        peer_name: "host-b".into(),
        ..Default::default()
    });
    let range = wire::BatchRange { first: 1, last: 5 };
    let kinds = [
        ("hello", hello.clone()),
        (
            "offer",
            Kind::Offer(wire::Offer {
                suites: vec![0x0101, 0x0001],
                digests: vec![1, 2],
                codecs: vec![1],
                lanes: 4,
                page_size: 4096,
                mirror: Some(wire::MirrorBudget::default()),
                verify_full: true,
                resume_for_ms: 60_000,
            }),
        ),
        ("choice", Kind::Choice(wire::Choice::default())),
        ("admission", Kind::Admission(wire::Admission::default())),
        ("verdict", Kind::Verdict(wire::Verdict::default())),
        (
            "shares",
            Kind::Shares(wire::Shares {
                ecdh: vec![9; 32],
                ..Default::default()
            }),
        ),
        (
            "confirmation",
            Kind::Confirmation(wire::Confirmation { value: vec![1; 32] }),
        ),
        ("tokens", Kind::LaneTokens(wire::LaneTokens::default())),
        (
            "acknowledgement",
            Kind::Acknowledgement(wire::Acknowledgement {
                ranges: vec![range],
            }),
        ),
        (
            "resume",
            Kind::Resume(wire::Resume {
                heard: 3,
                lowest: 9,
                seen: vec![0b1011],
            }),
        ),
        ("stage", Kind::StageChange(wire::StageChange::default())),
        (
            "return-path",
            Kind::ReturnPath(wire::ReturnPath {
                data: vec![0, 2, 0, 4, 0, 0, 0, 1],
            }),
        ),
        ("progress", Kind::Progress(wire::Progress::default())),
        (
            "placing",
            Kind::Placing(wire::Placing { blocks: vec![0, 3] }),
        ),
        ("ping", Kind::Ping(wire::Ping::default())),
        ("pong", Kind::Pong(wire::Pong::default())),
        ("epoch", Kind::Epoch(wire::Epoch::default())),
        (
            "verification",
            Kind::Verification(wire::Verification {
                digest: vec![3; 32],
                ..Default::default()
            }),
        ),
        ("error", Kind::Error(wire::Error::default())),
    ];
    for (name, kind) in kinds {
        let mut stream = frame(hello.clone())?;
        stream.extend(frame(kind)?);
        write(folder, "control", name, &stream)?;
    }
    Ok(())
}

fn frame(kind: Kind) -> Result<Vec<u8>, Box<dyn Error>> {
    let envelope = wire::Envelope {
        critical: true,
        kind: Some(kind),
    }
    .encode_to_vec();
    let mut frame = u32::try_from(envelope.len())?.to_be_bytes().to_vec();
    frame.extend(envelope);
    Ok(frame)
}

fn shares(folder: &Path) -> Result<(), Box<dyn Error>> {
    for (number, suite) in Suite::ALL.into_iter().enumerate() {
        let initiator = Initiator::new(suite, seed(1)?)?;
        let receiver = respond(suite, seed(2)?, initiator.share())?;
        for (end, share) in [
            ("source", initiator.share()),
            ("receiver", receiver.share()),
        ] {
            let Share { ecdh, mlkem } = share;
            let mut input = vec![
                u8::try_from(number)?,
                if ecdh.len() == 32 { 0 } else { 100 },
            ];
            input.extend_from_slice(ecdh);
            input.extend_from_slice(mlkem);
            write(folder, "shares", &format!("{number}-{end}"), &input)?;
        }
    }
    Ok(())
}

fn open(folder: &Path) -> Result<(), Box<dyn Error>> {
    for stroke in 0..5 {
        let input = [3, 40, stroke, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        write(folder, "open", &format!("stroke-{stroke}"), &input)?;
    }
    Ok(())
}
