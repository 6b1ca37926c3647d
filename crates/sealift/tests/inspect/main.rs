//! `sealift inspect` as its users meet it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod counts;
mod memory;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use sealift_lab::fixtures::{Channel, Direction, File, Fixture, fixtures};
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

pub(crate) fn json(input: &[u8]) -> Value {
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
