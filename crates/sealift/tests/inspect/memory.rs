//! Memory does not grow with what a stream holds or claims.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

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
