//! Pages put back into streams of real QEMUs, at their places and at others.

use std::collections::VecDeque;

use sealift_lab::fixtures::{Fixture, fixtures};
use sealift_stream::main_channel::{Command, Content, Item, Misplaced, Parser, Section, Weaver};
use sealift_stream::{BlockId, PageSize};

/// A page that was taken out of a stream.
struct Taken {
    block: BlockId,
    offset: u64,
    content: Option<Vec<u8>>,
}

/// What a stream is made of, with its pages apart.
enum Piece {
    Page(Taken),
    Between(Vec<u8>),
    /// The end mark of RAM's last section.
    LastEnd(Vec<u8>),
}

/// Streams whose pages all come plain through the main channel, and are not hidden behind something unknown.
fn plain() -> impl Iterator<Item = (Fixture, Vec<u8>)> {
    let all = fixtures().unwrap().into_iter();
    let plain = all.filter(|fixture| {
        let kinds = ["xbzrle", "compress"];
        !fixture.post_copy
            && !fixture.name.ends_with("dirty-bitmaps")
            && !kinds.iter().any(|kind| fixture.name.ends_with(kind))
    });
    plain.map(|fixture| {
        let bytes = fixture.main().unwrap();
        (fixture, bytes)
    })
}

fn parser() -> Parser {
    Parser::with_page_size(PageSize::KIB_4)
}

/// Takes the pages out.
fn apart(stream: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut parser = parser();
    let mut rest = stream;
    let mut last = false;
    loop {
        let before = rest;
        let Some(item) = parser.pull(&mut rest) else {
            break;
        };
        if let Item::Page(page) = item {
            pieces.push(Piece::Page(Taken {
                block: page.block,
                offset: page.offset,
                content: match page.content {
                    Content::Whole(bytes) => Some(bytes.to_vec()),
                    _ => None,
                },
            }));
        } else {
            let taken = before[..before.len() - rest.len()].to_vec();
            last |= matches!(item, Item::Section(Section::End(_)));
            pieces.push(match item {
                Item::RamEnd if last => Piece::LastEnd(taken),
                _ => Piece::Between(taken),
            });
        }
    }
    pieces.push(Piece::Between(rest.to_vec()));
    pieces
}

fn put(weaver: &mut Weaver, taken: &Taken, out: &mut Vec<u8>) {
    let content = taken
        .content
        .as_deref()
        .map_or(Content::Zero, Content::Whole);
    weaver
        .page(taken.block, taken.offset, content, out)
        .unwrap();
}

fn weaver() -> Weaver {
    Weaver::new(Some(PageSize::KIB_4))
}

/// The pages of a stream in order, and everything else but RAM's sections while the guest ran.
fn contents(stream: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut pages, mut others) = (Vec::new(), Vec::new());
    let mut parser = parser();
    let mut rest = stream;
    let mut within_part = false;
    while let Some(item) = parser.pull(&mut rest) {
        match item {
            Item::Page(page) => pages.push(format!(
                "{:?} {} {:?}",
                page.block, page.offset, page.content
            )),
            Item::Section(Section::Part(_)) => within_part = true,
            Item::RamEnd | Item::Footer(_) if within_part => {
                within_part = item == Item::RamEnd;
            }
            other => others.push(format!("{other:?}")),
        }
    }
    assert!(rest.is_empty());
    (pages, others)
}

#[test]
fn a_stream_whose_pages_come_at_their_places_is_as_it_was() {
    let mut tried = 0;
    for (fixture, stream) in plain() {
        // Bytes in whatever pieces.
        for size in [usize::MAX, 7] {
            let (mut weaver, mut out) = (weaver(), Vec::new());
            for piece in apart(&stream) {
                match piece {
                    Piece::Page(taken) => put(&mut weaver, &taken, &mut out),
                    Piece::Between(bytes) | Piece::LastEnd(bytes) => {
                        for bytes in bytes.chunks(size.min(bytes.len().max(1))) {
                            weaver.bytes(bytes, &mut out);
                        }
                    }
                }
            }
            assert!(out == stream, "{}", fixture.name);
        }
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}

/// Every page comes so many pieces of the stream later, in order; none behind the end of RAM's last section, where a source waits for them.
fn late(stream: &[u8], pieces: usize) -> Vec<u8> {
    let (mut weaver, mut out) = (weaver(), Vec::new());
    let mut waiting = VecDeque::new();
    for (at, piece) in apart(stream).into_iter().enumerate() {
        let (bytes, late) = match piece {
            Piece::Page(taken) => {
                waiting.push_back((at, taken));
                continue;
            }
            Piece::Between(bytes) => (bytes, pieces),
            Piece::LastEnd(bytes) => (bytes, 0),
        };
        while let Some((_, taken)) = waiting.pop_front_if(|(since, _)| at - *since >= late) {
            put(&mut weaver, &taken, &mut out);
        }
        weaver.bytes(&bytes, &mut out);
    }
    assert!(waiting.is_empty());
    out
}

#[test]
fn pages_that_come_between_sections_get_sections_of_their_own() {
    for (fixture, stream) in plain() {
        let (pages, others) = contents(&stream);
        for pieces in [1, 1000, 2100, 2500] {
            let woven = late(&stream, pieces);
            let (moved, same) = contents(&woven);
            assert!(moved == pages, "{}", fixture.name);
            assert_eq!(same, others, "{}", fixture.name);
        }
    }
}

#[test]
fn a_ping_goes_between_any_two_records_of_a_section_and_changes_nothing_else() {
    const OURS: u32 = 0x5ea1_0001;
    let mut pings = 0;
    for (fixture, stream) in plain() {
        let (pages, others) = contents(&stream);
        let (mut weaver, mut out) = (weaver(), Vec::new());
        for (at, piece) in apart(&stream).into_iter().enumerate() {
            match piece {
                Piece::Page(taken) => put(&mut weaver, &taken, &mut out),
                Piece::Between(bytes) | Piece::LastEnd(bytes) => weaver.bytes(&bytes, &mut out),
            }
            if at % 97 == 0 && weaver.takes_ping() {
                weaver.ping(OURS, &mut out).unwrap();
                pings += 1;
            }
        }
        let (same, mut rest) = contents(&out);
        assert!(same == pages, "{}", fixture.name);
        let ours = format!("{:?}", Item::Command(Command::Ping(OURS)));
        rest.retain(|item| *item != ours);
        assert_eq!(rest, others, "{}", fixture.name);
    }
    assert!(pings > 100, "{pings}");
}

#[test]
fn nothing_is_put_before_ram_or_behind_its_last_section() {
    let (_, stream) = plain().next().unwrap();
    let pieces = apart(&stream);
    let (mut weaver, mut out) = (weaver(), Vec::new());
    let (mut listed, mut last) = (false, false);
    for piece in &pieces {
        match piece {
            Piece::Page(taken) => put(&mut weaver, taken, &mut out),
            Piece::Between(bytes) | Piece::LastEnd(bytes) => {
                weaver.bytes(bytes, &mut out);
                listed |= !weaver.blocks().is_empty();
                last |= bytes.first() == Some(&3);
            }
        }
        if !listed || last {
            assert_eq!(weaver.ping(0, &mut out), Err(Misplaced));
        }
    }
    let Some(Piece::Page(taken)) = pieces.iter().find(|piece| matches!(piece, Piece::Page(_)))
    else {
        panic!("no page");
    };
    let content = Content::Zero;
    assert!(
        weaver
            .page(taken.block, taken.offset, content, &mut out)
            .is_err()
    );
}
