//! What no QEMU sends, and what is too much, is said with its place, what was expected and what was found.

use sealift_stream::main_channel::MAX_SECTIONS;
use sealift_stream::{Blocks, Cause, Found};

use crate::main_channel::{parse, surprise};
use crate::support::Writer;

const KIB: u64 = 1024;

#[track_caller]
fn assert_surprise(writer: &Writer, offset: usize, cause: Cause, expected: &str, found: &Found) {
    let run = parse(writer);
    let surprise = surprise(&run);
    assert_eq!(
        (
            surprise.offset,
            surprise.cause,
            surprise.expected,
            &surprise.found
        ),
        (offset as u64, cause, expected, found),
    );
}

#[test]
fn what_no_qemu_sends_is_said_with_place_expectation_and_finding() {
    let ram = || Writer::with_ram(&[("pc.ram", 8 * KIB)]);
    let at = ram().0.len();
    assert_surprise(
        &Writer::default().bytes(b"QEMU    "),
        0,
        Cause::Malformed,
        "QEMU's magic, \"QEVM\"",
        &Found::Number(0x5145_4d55),
    );
    assert_surprise(
        &ram().page(8 * KIB, Some("pc.ram"), 1),
        at,
        Cause::Malformed,
        "the offset of a page in its block",
        &Found::Number(8 * KIB),
    );
    assert_surprise(
        &ram().page(0, None, 1),
        at,
        Cause::Malformed,
        "a record that names its block",
        &Found::Number(0x28),
    );
    assert_surprise(
        &ram().be64(0x80),
        at,
        Cause::Unknown,
        "a RAM record",
        &Found::Number(0x80),
    );
    assert_surprise(
        &ram().page(0, Some("other"), 1),
        at + 8,
        Cause::Unknown,
        "the name of a listed RAM block",
        &Found::Name(sealift_stream::Name::new(b"other").unwrap().into()),
    );
    assert_surprise(
        &ram().be64(0x2).name("pc.ram").bytes(&[5]),
        at + 8 + 7,
        Cause::Malformed,
        "the zero that a zero page is filled with",
        &Found::Number(5),
    );
    assert_surprise(
        &ram().end_of_ram().footer(3),
        at + 9,
        Cause::Malformed,
        "the id of the section before",
        &Found::Number(3),
    );
    assert_surprise(
        &ram().end_of_ram().part(7),
        at + 9,
        Cause::Malformed,
        "the id of a section that has started",
        &Found::Number(7),
    );
    assert_surprise(
        &ram().end_of_ram().command(99, &[]),
        at + 9,
        Cause::Unknown,
        "a known command",
        &Found::Number(99),
    );
    assert_surprise(
        &ram().end_of_ram().command(2, &[0]),
        at + 11,
        Cause::Malformed,
        "the length of this command's payload",
        &Found::Number(1),
    );
    assert_surprise(
        &ram().bytes(&[0, 0, 0]),
        at,
        Cause::Truncated,
        "a RAM record",
        &Found::End(3),
    );
}

#[test]
fn a_surprise_reads_well() {
    let run = parse(&Writer::with_ram(&[("pc.ram", 4 * KIB)]).be64(0x80));
    assert_eq!(
        surprise(&run).to_string(),
        "at byte 64: expected a RAM record, found 0x80"
    );
}

#[test]
fn lists_from_the_wire_are_bounded() {
    let mut many = Writer::start("pc-q35-10.0")
        .section(1, 2, "ram", 4)
        .be64((1 << 40) | 4);
    for number in 0..=Blocks::MAX {
        many = many.name(&format!("block {number}")).be64(4 * KIB);
    }
    let run = parse(&many);
    let listed = run
        .items
        .iter()
        .filter(|item| item.starts_with("Block("))
        .count();
    assert_eq!(listed, Blocks::MAX);

    let mut many = Writer::start("pc-q35-10.0");
    for id in 0..=MAX_SECTIONS {
        many = many
            .section(1, id, &format!("{id}/vfio"), 1)
            .be64(0xffff_ffff_ef10_0001)
            .footer(id);
    }
    let run = parse(&many);
    let started = run
        .items
        .iter()
        .filter(|item| item.contains("Start("))
        .count();
    assert_eq!(started, MAX_SECTIONS);
}
