//! What the main channel's parser understands, and what it leaves alone.

use crate::support::{Main, Run, Writer, run};
use sealift_stream::main_channel::{Content, Emitter, Item, Parser, Section, Setting};
use sealift_stream::{Cause, Found, PageSize, Surprise};

const KIB: u64 = 1024;

pub(crate) fn parse(writer: &Writer) -> Run {
    let whole = run(Main::default(), &writer.0, &[]);
    assert_eq!(whole.emitted, writer.0, "lossless");
    let bytewise = run(Main::default(), &writer.0, &[1]);
    assert_eq!(whole.items, bytewise.items, "whatever the chunking");
    assert_eq!(whole.surprise, bytewise.surprise);
    whole
}

#[track_caller]
pub(crate) fn surprise(run: &Run) -> &Surprise {
    run.surprise.as_ref().expect("a surprise")
}

#[test]
fn a_whole_migration_is_understood_up_to_its_device_state() {
    let head = Writer::start("pc-q35-10.0")
        .setting("configuration/uuid", &[7; 16])
        .command(1, &[])
        .command(2, &[0, 0, 0, 1])
        .section(1, 2, "ram", 4)
        .be64((32 * KIB) | 4)
        .name("pc.ram")
        .be64(28 * KIB)
        .name("rom")
        .be64(4 * KIB)
        .end_of_ram()
        .footer(2)
        .part(2)
        .page(0, Some("pc.ram"), 1)
        .zero(4 * KIB, None)
        .page(0, Some("rom"), 2)
        .be64(0x200)
        .end_of_ram()
        .footer(2)
        .command(11, &[])
        .bytes(&[3])
        .be32(2)
        .page(0, None, 3)
        .end_of_ram()
        .footer(2)
        .section(4, 0, "timer", 2);
    let at = head.0.len();
    let stream = head.bytes(b"whatever a timer says \x7e\0\0\0\0 and so on \0");
    let run = parse(&stream);
    assert_eq!(run.items.len(), 24);
    assert_eq!(
        run.surprise,
        Some(Surprise {
            offset: at as u64,
            cause: Cause::DeviceState,
            expected: "a section with a known body",
            found: Found::Name(sealift_stream::Name::new(b"timer").unwrap().into()),
        })
    );
}

#[test]
fn pages_are_borrowed_not_copied() {
    let stream = Writer::with_ram(&[("pc.ram", 8 * KIB)])
        .page(0, Some("pc.ram"), 9)
        .0;
    let mut parser = Parser::new();
    let mut input = &stream[..];
    let bytes = std::iter::from_fn(|| parser.pull(&mut input))
        .find_map(|item| match item {
            Item::Page(page) => match page.content {
                Content::Whole(bytes) => Some(bytes),
                _ => None,
            },
            _ => None,
        })
        .unwrap();
    assert_eq!(bytes.as_ptr(), stream[stream.len() - 4096..].as_ptr());
}

#[test]
fn the_block_of_the_last_record_outlives_its_section() {
    let stream = Writer::with_ram(&[("a", 4 * KIB), ("b", 4 * KIB)])
        .page(0, Some("b"), 1)
        .end_of_ram()
        .footer(2)
        .part(2)
        .zero(0, None)
        .end_of_ram();
    let run = parse(&stream);
    assert!(
        run.items
            .iter()
            .any(|item| item.contains("BlockId(1), offset: 0, named: false"))
    );
}

#[test]
fn a_record_whose_named_predecessor_is_left_out_gets_the_name() {
    let with = |pages: Writer| pages.end_of_ram().0;
    let blocks = [("a", 16 * KIB), ("b", 16 * KIB)];
    let stream = with(
        Writer::with_ram(&blocks)
            .page(0, Some("a"), 1)
            .page(4 * KIB, Some("b"), 2)
            .page(8 * KIB, None, 3)
            .zero(12 * KIB, None),
    );
    let expected = with(
        Writer::with_ram(&blocks)
            .page(0, Some("a"), 1)
            .page(8 * KIB, Some("b"), 3)
            .zero(12 * KIB, None),
    );
    let (mut parser, mut emitter, mut out) = (Parser::new(), Emitter::new(), Vec::new());
    let mut input = &stream[..];
    while let Some(item) = parser.pull(&mut input) {
        let left_out =
            matches!(item, Item::Page(page) if page.content == Content::Whole(&[2; 4096]));
        if !left_out {
            emitter.emit(&item, &mut out);
        }
    }
    assert_eq!(out, expected);
}

#[test]
fn xbzrle_and_zlib_records_are_carried_as_they_are() {
    let stream = Writer::with_ram(&[("pc.ram", 8 * KIB)])
        .be64(0x40)
        .name("pc.ram")
        .bytes(&[1])
        .be16(5)
        .bytes(b"delta")
        .be64((4 * KIB) | 0x120)
        .be32(7)
        .bytes(b"deflate")
        .end_of_ram();
    let run = parse(&stream);
    assert_eq!(surprise(&run).cause, Cause::Truncated);
    assert!(run.items.iter().any(|item| item.contains("Xbzrle")));
    assert!(run.items.iter().any(|item| item.contains("Zlib")));
}

#[test]
fn host_page_sizes_are_found_where_post_copy_was_advised() {
    let advised = || {
        Writer::start("pc-q35-10.0")
            .command(
                3,
                &[0, 0, 0, 0, 0, 0x20, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0],
            )
            .section(1, 2, "ram", 4)
            .be64((12 << 20) | 4)
    };
    let huge = 2 << 20;
    let run = parse(
        &advised()
            .name("first")
            .be64(4 << 20)
            .be64(huge)
            .name("usual")
            .be64(4 << 20)
            .name("last")
            .be64(4 << 20)
            .be64(huge)
            .end_of_ram()
            .footer(2),
    );
    let sizes: Vec<_> = run
        .items
        .iter()
        .filter(|item| item.starts_with("Block("))
        .collect();
    assert!(sizes[0].contains("host_page: Some(2097152)"), "{sizes:?}");
    assert!(sizes[1].contains("host_page: None"));
    assert!(sizes[2].contains("host_page: Some(2097152)"));

    let run = parse(&advised().name("only").be64(12 << 20).end_of_ram().footer(2));
    assert!(
        run.items
            .iter()
            .any(|item| item.contains("host_page: None"))
    );
    assert!(run.items.iter().any(|item| item == "RamEnd"));
}

#[test]
fn blocks_have_addresses_with_ignore_shared() {
    let stream = Writer::start("microvm")
        .setting(
            "configuration/capabilities",
            b"\0\0\0\x01\x0fx-ignore-shared",
        )
        .section(1, 2, "ram", 4)
        .be64((8 * KIB) | 4)
        .name("a")
        .be64(4 * KIB)
        .be64(0)
        .name("b")
        .be64(4 * KIB)
        .be64(0xfffc_0000)
        .end_of_ram();
    let run = parse(&stream);
    assert!(
        run.items
            .iter()
            .any(|item| item.contains("address: Some(0)"))
    );
    assert!(
        run.items
            .iter()
            .any(|item| item.contains("address: Some(4294705152)"))
    );
    assert!(run.items.iter().any(|item| item == "RamEnd"));
}

#[test]
fn mapped_ram_is_left_alone() {
    let stream = Writer::start("microvm")
        .setting("configuration/capabilities", b"\0\0\0\x01\x0amapped-ram")
        .section(1, 2, "ram", 4)
        .bytes(&[0xaa; 100]);
    let run = parse(&stream);
    assert_eq!(surprise(&run).cause, Cause::Unknown);
}

#[test]
fn virtio_mem_stands_before_ram_and_is_read_by_its_own_lengths() {
    let stream = Writer::start("pc-q35-10.0")
        .section(4, 51, "0000:00:03.0/virtio-mem-device-early", 1)
        .be64(0x1_4000_0000)
        .be64(256 << 20)
        .be64(2 << 20)
        .be32(0)
        .be64(64 << 20)
        .bytes(&[0xff; 16])
        .footer(51)
        .section(1, 2, "ram", 4);
    let run = parse(&stream);
    assert!(run.items.iter().any(|item| item == "Footer(51)"));
    assert!(run.items.last().unwrap().contains("\"ram\""));
}

#[test]
fn vfio_data_is_read_by_its_own_lengths() {
    let mark = |low: u64| 0xffff_ffff_ef10_0000 | low;
    let stream = Writer::with_ram(&[("pc.ram", 4 * KIB)])
        .end_of_ram()
        .footer(2)
        .section(1, 9, "0000:00:02.0/vfio", 1)
        .be64(mark(3))
        .be64(mark(1))
        .footer(9)
        .part(9)
        .be64(mark(4))
        .be64(5)
        .bytes(b"state")
        .be64(mark(5))
        .footer(9)
        .part(2)
        .zero(0, Some("pc.ram"));
    let run = parse(&stream);
    assert!(run.items.iter().any(|item| item == "Vfio(InitialDataSent)"));
    assert!(run.items.last().unwrap().contains("Zero"));
}

#[test]
fn a_package_is_passed_over_by_its_length() {
    let stream = Writer::with_ram(&[("pc.ram", 4 * KIB)])
        .end_of_ram()
        .footer(2)
        .command(6, b"\0\x06pc.ram\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0")
        .command(7, &[0, 0, 0, 6])
        .bytes(b"\x04stuff")
        .command(5, &[])
        .part(2)
        .zero(0, Some("pc.ram"))
        .end_of_ram()
        .footer(2)
        .bytes(&[0]);
    let run = parse(&stream);
    assert_eq!(run.surprise, None);
    assert_eq!(run.items.last().unwrap(), "EndOfStream");
}

#[test]
fn the_description_ends_a_channel() {
    let stream = Writer::start("microvm").bytes(&[0, 6]).be32(2).bytes(b"{}");
    assert_eq!(parse(&stream).surprise, None);
    let more = stream.bytes(b"?");
    assert_eq!(surprise(&parse(&more)).expected, "the end of the channel");
}

#[test]
fn a_section_may_lack_its_footer() {
    let stream = Writer::with_ram(&[("pc.ram", 4 * KIB)])
        .end_of_ram()
        .part(2)
        .zero(0, Some("pc.ram"))
        .end_of_ram()
        .bytes(&[0]);
    assert_eq!(parse(&stream).surprise, None);
}

#[test]
fn the_page_size_is_known_or_pages_are_left_alone() {
    let ram = |writer: Writer| {
        writer
            .section(1, 2, "ram", 4)
            .be64((64 * KIB) | 4)
            .name("mach-virt.ram")
            .be64(64 * KIB)
    };
    let unknown = ram(Writer::start("virt-10.0")).page(0, Some("mach-virt.ram"), 1);
    let run = parse(&unknown);
    let surprise = surprise(&run);
    assert_eq!(
        (surprise.expected, surprise.found.to_string().as_str()),
        ("a machine type whose page size is known", "\"virt-10.0\"")
    );
    let told =
        ram(Writer::start("virt-10.0").setting("configuration/target-page-bits", &[0, 0, 0, 16]))
            .be64(0x8)
            .name("mach-virt.ram")
            .bytes(&[1; 64 * 1024])
            .end_of_ram();
    assert!(parse(&told).items.iter().any(|item| item == "RamEnd"));
    let mut parser = Parser::with_page_size(PageSize::KIB_4);
    let mut input = &unknown.0[..];
    let pages = std::iter::from_fn(|| parser.pull(&mut input))
        .filter(|item| matches!(item, Item::Page(_)))
        .count();
    assert_eq!(pages, 1);
}

#[test]
fn a_capability_list_can_be_walked() {
    let stream = Writer::start("microvm")
        .setting("configuration/capabilities", b"\0\0\0\x02\x01a\x02bc")
        .0;
    let mut parser = Parser::new();
    let mut input = &stream[..];
    let names = std::iter::from_fn(|| parser.pull(&mut input)).find_map(|item| match item {
        Item::Setting(Setting::Capabilities(capabilities)) => Some(
            capabilities
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>(),
        ),
        _ => None,
    });
    assert_eq!(names.unwrap(), ["a", "bc"]);
}

#[test]
fn a_section_says_what_it_is() {
    let stream = Writer::with_ram(&[("pc.ram", 4 * KIB)]).0;
    let mut parser = Parser::new();
    let mut input = &stream[..];
    let mut sections = Vec::new();
    while let Some(item) = parser.pull(&mut input) {
        if let Item::Section(Section::Start(described)) = item {
            sections.push((described.id, described.name.to_string(), described.version));
        }
    }
    assert_eq!(sections, [(2, "ram".into(), 4)]);
    let blocks: Vec<_> = parser
        .blocks()
        .iter()
        .map(|block| (block.name().to_string(), block.used()))
        .collect();
    assert_eq!(blocks, [("pc.ram".into(), 4 * KIB)]);
}

#[test]
fn a_page_size_from_elsewhere_counts_less_than_the_machine_type() {
    let stream = Writer::with_ram(&[("pc.ram", 64 * KIB)])
        .page(0, Some("pc.ram"), 1)
        .end_of_ram()
        .0;
    let mut parser = Parser::with_page_size(PageSize::MAX);
    let mut input = &stream[..];
    let items: Vec<_> = std::iter::from_fn(|| parser.pull(&mut input)).collect();
    assert_eq!(items.last(), Some(&Item::RamEnd));
    assert_eq!(parser.page_size(), Some(PageSize::KIB_4));
}
