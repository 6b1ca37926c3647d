//! No stream makes a parser take more memory than its lists may have.

use allocation_counter::measure;
use sealift_stream::{PageSize, main_channel, multifd, return_path};

use crate::support::Writer;

/// What the lists may hold: 1,024 blocks with names of 255 bytes, 1,024 sections; doubled, as a growing vector has both its old and its new
/// buffer for a moment.
const BOUND: u64 = 2 * (1024 * (255 + 40) + 1024 * 8);

fn peak_of_main(stream: &[u8]) -> u64 {
    let taken = measure(|| {
        let mut parser = main_channel::Parser::new();
        let mut input = stream;
        while parser.pull(&mut input).is_some() {}
        parser.finish(input);
    });
    taken.bytes_max
}

#[test]
fn claimed_lengths_cost_nothing() {
    let ram = || Writer::with_ram(&[("pc.ram", 1 << 40)]);
    let claims = [
        Writer::default()
            .bytes(b"QEVM\0\0\0\x03\x07")
            .bytes(&[0xff; 4]),
        Writer::start("microvm").setting("configuration/capabilities", &[0xff; 4]),
        Writer::start("microvm")
            .bytes(&[0, 6])
            .bytes(&[0xff; 4])
            .bytes(b"{"),
        ram().end_of_ram().command(7, &[0xff; 4]).bytes(b"blob"),
        ram().be64(0x100).name("pc.ram").bytes(&[0xff; 4]),
        ram().be64(0x40).name("pc.ram").bytes(&[1, 0xff, 0xff]),
        Writer::start("pc-q35-10.0")
            .section(4, 1, "virtio-mem-device-early", 1)
            .bytes(&[0x7f; 36]),
    ];
    for claim in claims {
        assert!(peak_of_main(&claim.0) < 4096);
    }
}

#[test]
fn the_longest_lists_stay_within_their_bound() {
    let mut blocks = Writer::start("pc-q35-10.0")
        .section(1, 2, "ram", 4)
        .be64((1 << 50) | 4);
    let mut sections = Writer::start("pc-q35-10.0");
    for number in 0..5000 {
        blocks = blocks.name(&format!("{number:0>255}")).be64(4096);
        sections = sections
            .section(1, number, &format!("{number}/vfio"), 1)
            .be64(0xffff_ffff_ef10_0001)
            .footer(number);
    }
    let blocks = peak_of_main(&blocks.0);
    assert!((1024 * 255..BOUND).contains(&blocks), "{blocks}");
    let sections = peak_of_main(&sections.0);
    assert!((1024..BOUND).contains(&sections), "{sections}");
}

#[test]
fn pages_cost_nothing() {
    let head = Writer::with_ram(&[("pc.ram", 1 << 20)])
        .page(0, Some("pc.ram"), 1)
        .0;
    let more = Writer(head.clone()).page(4096, None, 2).zero(8192, None).0;
    assert_eq!(peak_of_main(&head), peak_of_main(&more));
}

#[test]
fn the_other_channels_take_a_fixed_amount() {
    let hello = Writer::default().be32(0x1122_3344).be32(1).bytes(&[0; 56]);
    let packet = hello.be32(0x1122_3344).be32(1).bytes(&[0xff; 4000]).0;
    let taken = measure(|| {
        let mut parser = multifd::Parser::new(PageSize::KIB_4);
        let mut input = &packet[..];
        while parser.pull(&mut input).is_some() {}
    });
    // The offsets of one packet.
    assert_eq!(taken.bytes_max, 1024);
    let bitmap = Writer::default()
        .be16(5)
        .be16(2)
        .name("a")
        .bytes(&[0xff; 8])
        .bytes(b"bits")
        .0;
    let taken = measure(|| {
        let mut parser = return_path::Parser::new();
        let mut input = &bitmap[..];
        while parser.pull(&mut input).is_some() {}
    });
    assert_eq!(taken.count_total, 0);
}
