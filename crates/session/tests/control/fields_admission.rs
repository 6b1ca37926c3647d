//! The bounds of each field of an admission and of the verdict on it.

use sealift_session::control::wire::{self, envelope::Kind};
use sealift_session::control::{Admission, Frame, Invalid, Message, Offer, Text, Why};

use super::{accepted, invalid, offer};

fn admission() -> wire::Admission {
    wire::Admission {
        name: "web-1".into(),
        uuid: vec![1; 16],
        machine: "pc-q35-10.0".into(),
        blocks: vec![block("pc.ram")],
        memory_needed: 5,
    }
}

fn block(name: &str) -> wire::RamBlock {
    wire::RamBlock {
        name: name.into(),
        length: 8192,
        page_size: 4096,
    }
}

#[test]
fn admissions() {
    let with = |change: fn(&mut wire::Admission)| {
        let mut admission = admission();
        change(&mut admission);
        Kind::Admission(admission)
    };
    let length = |found| Why::Length {
        least: 1,
        most: 255,
        found,
    };
    invalid(
        with(|guest| guest.name.clear()),
        "Admission.name",
        length(0),
    );
    invalid(
        with(|guest| guest.name = "ä".repeat(128)),
        "Admission.name",
        length(256),
    );
    invalid(
        with(|guest| guest.machine.clear()),
        "Admission.machine",
        length(0),
    );
    let uuid = Why::Length {
        least: 16,
        most: 16,
        found: 0,
    };
    invalid(with(|guest| guest.uuid.clear()), "Admission.uuid", uuid);
    let blocks = |found| Why::Count {
        least: 0,
        most: 1024,
        found,
    };
    let many = with(|guest| guest.blocks = (0..=1024).map(|n| block(&n.to_string())).collect());
    invalid(many, "Admission.blocks", blocks(1025));
    let twice = with(|guest| guest.blocks = vec![block("a"), block("b"), block("a")]);
    invalid(twice, "Admission.blocks", Why::Repeated { index: 2 });
    invalid(
        with(|guest| guest.blocks[0].name.clear()),
        "RamBlock.name",
        length(0),
    );
    let aligned = |found| Why::Alignment { found };
    invalid(
        with(|guest| guest.blocks[0].length = 0),
        "RamBlock.length",
        aligned(0),
    );
    invalid(
        with(|guest| guest.blocks[0].length = 6000),
        "RamBlock.length",
        aligned(6000),
    );
    invalid(
        with(|guest| guest.blocks[0].page_size = 2048),
        "RamBlock.page_size",
        aligned(2048),
    );
    invalid(
        with(|guest| guest.blocks[0].page_size = 2 << 30),
        "RamBlock.page_size",
        aligned(2 << 30),
    );
    let memory = |found, most| Why::Number {
        least: 1,
        most,
        found,
    };
    invalid(
        with(|guest| guest.blocks[0].length = (1 << 52) + 4096),
        "RamBlock.length",
        Why::Number {
            least: 4096,
            most: 1 << 52,
            found: (1 << 52) + 4096,
        },
    );
    let much = with(|guest| {
        guest.blocks.push(block("more"));
        guest.blocks[0].length = (1 << 52) - 4096;
    });
    invalid(much, "RamBlock.length", memory(8192, 4096));
    invalid(
        Kind::Verdict(wire::Verdict::default()),
        "Verdict.verdict",
        Why::Missing,
    );
}

#[test]
fn a_stream_that_was_not_understood_has_no_blocks() {
    let guest = wire::Admission {
        blocks: vec![],
        ..admission()
    };
    let frame = Frame::of(Message::Admission(guest.try_into().unwrap()));
    let received = accepted().next(&mut frame.as_bytes()).unwrap().unwrap();
    assert!(matches!(
        received.message,
        Message::Admission(guest) if guest.blocks.as_slice().is_empty()
    ));
}

#[test]
fn the_largest_admission_fits() {
    let mut largest = admission();
    largest.name = "n".repeat(255);
    largest.machine = "m".repeat(255);
    largest.memory_needed = u64::MAX;
    largest.blocks = (0..1024)
        .map(|n| wire::RamBlock {
            length: 1 << 42,
            page_size: 1 << 30,
            ..block(&format!("{n:0>255}"))
        })
        .collect();
    let message = Message::Admission(largest.try_into().unwrap());
    let frame = Frame::of(message.clone());
    assert!(frame.as_bytes().len() < 300 << 10, "{frame:?}");
    let received = accepted().next(&mut frame.as_bytes()).unwrap().unwrap();
    assert_eq!(received.message, message);
}

#[test]
fn an_admission_has_the_offers_pages() {
    let offer: Offer = wire::Offer {
        page_size: 16384,
        ..offer()
    }
    .try_into()
    .unwrap();
    let check = |length, page_size| {
        let mut guest = admission();
        guest.blocks.push(wire::RamBlock {
            length,
            page_size,
            ..block("vga.vram")
        });
        guest.blocks[0].length = 16384;
        guest.blocks[0].page_size = 16384;
        Admission::try_from(guest).unwrap().check_within(&offer)
    };
    let refused = |field, why| Err(Invalid { field, why });
    assert_eq!(check(32768, 1 << 30), Ok(()));
    let aligned = Why::Alignment { found: 20480 };
    assert_eq!(check(20480, 16384), refused("RamBlock.length", aligned));
    let small = Why::Number {
        least: 16384,
        most: 1 << 30,
        found: 8192,
    };
    assert_eq!(check(32768, 8192), refused("RamBlock.page_size", small));
}

#[test]
fn text_has_no_control_characters() {
    for (name, index) in [("\0", 0), ("web\n1", 3), ("a\u{1b}[2J", 1), ("\u{9b}", 0)] {
        let guest = wire::Admission {
            name: name.into(),
            ..admission()
        };
        invalid(
            Kind::Admission(guest),
            "Admission.name",
            Why::ControlCharacter { index },
        );
    }
    let cut = Text::<8>::cut("two\nlines\u{9b}").unwrap();
    assert_eq!(cut.as_str(), "two line");
}
