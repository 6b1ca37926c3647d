//! `sealift inspect` as its users meet it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
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
    let devices = report["device_state"]["sections"].as_array().unwrap();
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
            let devices = report["device_state"]["sections"].as_array();
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
    assert_eq!(report["messages"]["list"][0], "Pong(1)");
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
        (
            make("other", b"#!/bin/sh\n"),
            "is not a migration stream of QEMU",
        ),
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
fn a_reader_that_has_seen_enough_is_no_error() {
    let path = Path::new(env!("CARGO_BIN_EXE_sealift"));
    let stream = fixture("10.0-i440fx").main().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stream).unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg("set -o pipefail 2>/dev/null; \"$0\" inspect \"$1\" | true")
        .args([path, file.path()])
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

/// A stream far larger than the memory that the process may have: 10 GiB in the long matrix.
#[test]
fn any_length_takes_the_same_memory() {
    /// In KiB: the program with its libraries, its buffers and full tables.
    const ADDRESS_SPACE: &str = "262144";
    let pages: u64 = if sealift_lab::whole_matrix() {
        10 << 18
    } else {
        1 << 17
    };
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v \"$1\" && exec \"$0\" inspect --json -"])
        .args([env!("CARGO_BIN_EXE_sealift"), ADDRESS_SPACE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
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
