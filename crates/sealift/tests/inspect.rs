//! `sealift inspect` as its users meet it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use sealift_lab::fixtures::{Channel, Direction, File, Fixture, fixtures};
use sealift_stream::PageSize;
use sealift_stream::main_channel::{self, Content};
use sealift_stream::multifd::{self, Compression};
use serde_json::Value;

fn sealift() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sealift"))
}

fn inspect(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = sealift()
        .arg("inspect")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses does not read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(input: &[u8]) -> Value {
    let output = inspect(&["--json", "-"], input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fixture(name: &str) -> Fixture {
    let all = fixtures().unwrap();
    all.into_iter()
        .find(|fixture| fixture.name == name)
        .unwrap()
}

fn file(fixture: &Fixture, channel: &Channel, direction: Direction) -> File {
    fixture.file(channel, direction).unwrap().clone()
}

#[test]
fn a_main_channel_is_told_whole() {
    let fixture = fixture("10.0-i440fx");
    let stream = fixture.main().unwrap();
    let report = json(&stream);
    assert_eq!(report["channel"], "main");
    assert_eq!(report["machine"], Value::from(fixture.machine.clone()));
    assert_eq!(report["bytes"], stream.len());
    assert_eq!(report["opaque"], Value::Null);

    let sections = report["sections"]["list"].as_array().unwrap();
    let kinds: Vec<_> = sections
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("start", "end"));
    let devices = report["device_state"]["sections"]["list"]
        .as_array()
        .unwrap();
    assert_eq!(devices[0]["name"], "timer");
    assert_eq!(devices.last().unwrap()["name"], "globalstate");

    // All of it is accounted for: what stands before and between the sections is some commands.
    let sum = |list: &[Value]| -> u64 {
        list.iter()
            .map(|line| line["bytes"].as_u64().unwrap())
            .sum()
    };
    let described = report["device_state"]["description_bytes"]
        .as_u64()
        .unwrap();
    let listed = sum(sections) + sum(devices) + described;
    assert!(
        (1..200).contains(&(stream.len() as u64 - listed)),
        "{listed} of {}",
        stream.len()
    );

    let blocks = report["ram"]["blocks"].as_array().unwrap();
    assert_eq!(blocks[0]["name"], "pc.ram");
    let count = |key: &str| blocks[0][key].as_u64().unwrap();
    let pages = count("bytes") / 4096;
    // Every page came once, and what came more than once is counted as sent again.
    assert_eq!(count("zero") + count("literal") - count("resent"), pages);
    assert!(count("resent") > 0 && count("duplicate") > 0);
    assert!(report["ram"]["passes"].as_u64().unwrap() >= 3);
    let zstd = &report["ram"]["zstd"];
    assert!(zstd["bytes_out"].as_u64().unwrap() < zstd["bytes_in"].as_u64().unwrap());
}

#[test]
fn device_sections_are_named_for_every_machine_and_release() {
    for fixture in fixtures().unwrap() {
        let opaque = fixture.post_copy || fixture.name.ends_with("dirty-bitmaps");
        if !opaque {
            let report = json(&fixture.main().unwrap());
            let devices = report["device_state"]["sections"]["list"].as_array();
            assert!(
                devices.is_some_and(|list| list.len() > 5),
                "{}",
                fixture.name
            );
        }
    }
}

/// Counted again from the records themselves, for every fixture and block.
#[test]
fn page_counts_are_those_of_the_stream() {
    let mut compared = 0;
    for fixture in fixtures().unwrap() {
        let stream = fixture.main().unwrap();
        let (mut parser, mut input) = (main_channel::Parser::new(), &stream[..]);
        let mut counts: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        let (mut seen, mut contents) = (HashSet::new(), HashSet::new());
        while let Some(item) = parser.pull(&mut input) {
            let main_channel::Item::Page(page) = item else {
                continue;
            };
            let kind = match page.content {
                Content::Zero => "zero",
                Content::Whole(_) => "literal",
                Content::Xbzrle(_) => "xbzrle",
                Content::Zlib(_) => "compressed",
            };
            let block = page.block.index();
            *counts.entry((block, kind)).or_default() += 1;
            if !seen.insert((block, page.offset)) {
                *counts.entry((block, "resent")).or_default() += 1;
            }
            if let Content::Whole(bytes) = page.content
                && !contents.insert(bytes)
            {
                *counts.entry((block, "duplicate")).or_default() += 1;
            }
        }
        let report = json(&stream);
        for (block, line) in report["ram"]["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            for kind in [
                "zero",
                "literal",
                "xbzrle",
                "compressed",
                "resent",
                "duplicate",
            ] {
                let counted = counts.get(&(block, kind)).copied().unwrap_or(0);
                assert_eq!(line[kind], counted, "{kind} of {line} in {}", fixture.name);
                compared += u64::from(counted > 0);
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn multifd_counts_are_those_of_the_channel() {
    for fixture in fixtures().unwrap() {
        for file in &fixture.files {
            let Channel::Multifd(number) = file.channel else {
                continue;
            };
            let bytes = file.bytes().unwrap();
            let (mut parser, mut input) = (multifd::Parser::new(PageSize::KIB_4), &bytes[..]);
            let (mut packets, mut syncs, mut compressed) = (0u64, 0u64, 0u64);
            let (mut zero, mut literal, mut zipped) = (0, 0, 0);
            while let Some(item) = parser.pull(&mut input) {
                match item {
                    multifd::Item::Ram(packet) => {
                        packets += 1;
                        syncs += u64::from(packet.is_sync());
                        zero += packet.zero_pages().len();
                        if packet.compression() == Some(Compression::None) {
                            literal += packet.normal_pages().len();
                        } else {
                            zipped += packet.normal_pages().len();
                        }
                    }
                    multifd::Item::Payload(bytes) => compressed += bytes.len() as u64,
                    _ => {}
                }
            }
            let report = json(&bytes);
            assert_eq!(report["number"], number);
            assert_eq!(
                (&report["packets"], &report["syncs"]),
                (&packets.into(), &syncs.into())
            );
            assert_eq!(report["compressed_bytes"], compressed);
            let sum = |kind: &str| -> u64 {
                let blocks = report["ram"]["blocks"].as_array().unwrap();
                blocks
                    .iter()
                    .map(|block| block[kind].as_u64().unwrap())
                    .sum()
            };
            let told = (sum("zero"), sum("literal"), sum("compressed"));
            assert_eq!(
                told,
                (zero as u64, literal as u64, zipped as u64),
                "{}",
                file.path
            );
        }
    }
}

#[test]
fn other_channels_are_told_apart() {
    let multifd = fixture("10.0-multifd-zstd");
    let report = json(
        &file(&multifd, &Channel::Multifd(1), Direction::Forward)
            .bytes()
            .unwrap(),
    );
    assert_eq!(
        (&report["channel"], &report["number"]),
        (&"multifd".into(), &1.into())
    );
    assert_eq!(report["compression"], "zstd");
    let report = json(
        &file(&multifd, &Channel::Main, Direction::Return)
            .bytes()
            .unwrap(),
    );
    assert_eq!(report["channel"], "return-path");
    assert_eq!(report["messages"]["list"][0], "pong 1");
}

#[test]
fn people_get_a_table() {
    let stream = fixture("7.2-xbzrle").main().unwrap();
    let output = inspect(&["-"], &stream);
    let table = text(&output.stdout);
    for expected in [
        "main channel of microvm, ",
        "  start ram",
        "  full  timer",
        "  microvm.ram                           8,396,800",
        "passes over memory: ",
        "zstd -1 in batches of 1024 KiB: ",
    ] {
        assert!(table.contains(expected), "{expected:?} in\n{table}");
    }
}

#[test]
fn what_is_not_understood_is_said() {
    let stream = fixture("10.0-dirty-bitmaps").main().unwrap();
    let output = inspect(&["-"], &stream);
    assert!(text(&output.stdout).contains("not understood from byte 225 on"));
    assert!(text(&output.stdout).contains("found \"dirty-bitmap\""));
}

#[test]
fn refusals_name_the_file_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let cases: [(PathBuf, &str); 4] = [
        (folder.path().join("missing"), "cannot read"),
        (folder.path().to_owned(), "cannot read"),
        (make("empty", b""), "is empty"),
        (make("other", b"#!/bin/sh\n"), "is neither a main channel"),
    ];
    for (path, reason) in cases {
        let output = inspect(&[path.to_str().unwrap()], b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said.starts_with("sealift: ") && said.contains(reason),
            "{said}"
        );
        assert!(
            said.contains(path.file_name().unwrap().to_str().unwrap()),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let usage = inspect(&["--jsn", "x"], b"");
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).contains("--json"));
}

#[test]
fn compressed_and_saved_files_come_with_advice() {
    for (bytes, advice) in [
        (&b"\x28\xb5\x2f\xfd\x04"[..], "zstdcat"),
        (b"\x1f\x8b\x08\x00", "zcat"),
        (b"LibvirtQemudSave\x02", "virsh save"),
        (b"QEV", "too short"),
        // One message of a return path, and then none.
        (b"\0\x02\0\x04\0\0\0\x01not a message", "neither"),
    ] {
        let output = inspect(&["-"], bytes);
        let said = text(&output.stderr);
        assert!(
            said.contains("standard input") && said.contains(advice),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_stream_that_is_cut_off_is_said_to_be() {
    let stream = fixture("10.0-i440fx").main().unwrap();
    let in_ram = &stream[..1_000_000];
    assert_eq!(json(in_ram)["opaque"]["cause"], "truncated");
    assert!(text(&inspect(&["-"], in_ram).stdout).contains("cut off at byte 1,000,000"));
    let in_device_state = &stream[..stream.len() - 5000];
    let output = inspect(&["-"], in_device_state);
    assert!(text(&output.stdout).contains("device state, cut off or not described"));
}

#[test]
fn names_do_not_reach_the_terminal_raw() {
    let mut stream = b"QEVM\0\0\0\x03\x07\0\0\0\x07microvm\x04\0\0\0\x09".to_vec();
    let name = "\u{1b}[31mtimer\u{202e}";
    let json = r#"{"devices": [{"name": "\u001b[31mtimer\u202e", "instance_id": 0, "fields": [{"size": 2}]}]}"#;
    stream.push(u8::try_from(name.len()).unwrap());
    stream.extend_from_slice(name.as_bytes());
    stream.extend_from_slice(b"\0\0\0\0\0\0\0\x01ab\x7e\0\0\0\x09\0\x06");
    stream.extend_from_slice(&u32::try_from(json.len()).unwrap().to_be_bytes());
    stream.extend_from_slice(json.as_bytes());
    let output = inspect(&["-"], &stream);
    let table = text(&output.stdout);
    assert!(table.contains(r"full  \u{1b}[31mtimer\u{202e}"), "{table}");
    assert!(!table.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn parts_of_several_devices_take_a_line_each() {
    let vfio_mark = 0xffff_ffff_ef10_0001_u64.to_be_bytes();
    let mut stream = b"QEVM\0\0\0\x03\x07\0\0\0\x07microvm".to_vec();
    stream.extend_from_slice(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
    stream.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2]);
    stream.extend_from_slice(b"\x01\0\0\0\x03\x06a/vfio\0\0\0\0\0\0\0\x01");
    stream.extend_from_slice(&vfio_mark);
    let iteration = |tag: u8| {
        let ram = [tag, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2];
        [&ram[..], &[tag, 0, 0, 0, 3], &vfio_mark].concat()
    };
    for _ in 0..5000 {
        stream.extend(iteration(2));
    }
    stream.extend(iteration(3));
    stream.push(0);
    let report = json(&stream);
    let lines = report["sections"]["list"].as_array().unwrap();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let (kind, name) = (
                line["kind"].as_str().unwrap(),
                line["name"].as_str().unwrap(),
            );
            (
                kind,
                name,
                line["count"].as_u64().unwrap(),
                line["bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("start", "ram", 1, 30),
            ("start", "a/vfio", 1, 28),
            ("part", "ram", 5000, 90_000),
            ("part", "a/vfio", 5000, 65_000),
            ("end", "ram", 1, 18),
            ("end", "a/vfio", 1, 13),
        ]
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = sealift()
        .args(["inspect", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Gone before there is anything to see.
    drop(child.stdout.take());
    let stream = fixture("10.0-i440fx").main().unwrap();
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(output.status.success());
}

/// In KiB: the program with its libraries, its buffers and full tables.
const ADDRESS_SPACE: &str = "262144";

/// The command, with that much memory to use.
fn limited() -> Child {
    Command::new("sh")
        .args(["-c", "ulimit -v \"$1\" && exec \"$0\" inspect --json -"])
        .args([env!("CARGO_BIN_EXE_sealift"), ADDRESS_SPACE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_description_of_any_kind_takes_the_same_memory() {
    for filler in [
        "{\"\":0},",
        "0,",
        "{\"name\":\"a\",\"fields\":[{\"size\":1}]},",
    ] {
        let mut json = b"{\"devices\":[".to_vec();
        while json.len() < 16_000_000 {
            json.extend_from_slice(filler.as_bytes());
        }
        json.extend_from_slice(b"0]}");
        let mut child = limited();
        let mut stream = child.stdin.take().unwrap();
        stream
            .write_all(b"QEVM\0\0\0\x03\x04\0\0\0\x09\x05timer\0\0\0\0\0\0\0\x01")
            .unwrap();
        stream.write_all(b"ab\x7e\0\0\0\x09\0\x06").unwrap();
        stream
            .write_all(&u32::try_from(json.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(&json).unwrap();
        drop(stream);
        assert!(child.wait_with_output().unwrap().status.success());
    }
}

/// A stream far larger than the memory that the process may have: 10 GiB in the long matrix.
#[test]
fn any_length_takes_the_same_memory() {
    let pages: u64 = if sealift_lab::whole_matrix() {
        10 << 18
    } else {
        1 << 17
    };
    let mut child = limited();
    let mut stream = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    let length = pages * 4096;
    stream
        .write_all(b"QEVM\0\0\0\x03\x07\0\0\0\x07microvm")
        .unwrap();
    stream
        .write_all(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04")
        .unwrap();
    stream.write_all(&(length | 4).to_be_bytes()).unwrap();
    stream.write_all(b"\x03ram").unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    for number in 0..pages {
        let flags = if number == 0 { 0x08 } else { 0x28 };
        stream
            .write_all(&((number * 4096) | flags).to_be_bytes())
            .unwrap();
        if number == 0 {
            stream.write_all(b"\x03ram").unwrap();
        }
        let mut page = [0; 4096];
        page[..8].copy_from_slice(&(number + 1).to_be_bytes());
        stream.write_all(&page).unwrap();
    }
    stream.write_all(&0x10u64.to_be_bytes()).unwrap();
    drop(stream.into_inner().unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ram"]["blocks"][0]["literal"], pages);
    assert_eq!(report["ram"]["blocks"][0]["resent"], 0);
}
