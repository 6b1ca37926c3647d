//! What a QEMU that starts by itself makes of a stream that is cut off near its end: why sealift keeps the end mark itself from it.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use sealift_lab::guest::{Guest, Launch};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::trial::{incoming, state, wait_state};
use serde_json::json;

/// The mark of the stream's end, and what stands before the description's length.
const MARKS: [u8; 2] = [0x00, 0x06];

fn launch(qemu: &Qemu) -> Launch {
    Launch::new(qemu, &qemu.machine(Machine::Q35))
}

/// A guest's whole stream, and where its end mark is.
fn captured(qemu: &Qemu) -> (Vec<u8>, usize) {
    let mut guest = launch(qemu).start().unwrap();
    guest.wait_tick(1).unwrap();
    let file = guest.path("stream");
    let uri = format!("exec:cat > {}", file.display());
    let qmp = guest.qmp();
    qmp.execute("migrate", json!({ "uri": uri })).unwrap();
    wait_state(&mut guest, "postmigrate").unwrap();
    let stream = fs::read(&file).unwrap();
    let mark = (0..stream.len()).rfind(|&at| {
        let described = stream[at..].strip_prefix(&MARKS);
        let described = described.and_then(<[u8]>::split_first_chunk::<4>);
        described.is_some_and(|(length, rest)| u32::from_be_bytes(*length) as usize == rest.len())
    });
    (stream, mark.unwrap())
}

fn waiting(qemu: &Qemu) -> Guest {
    let mut guest = launch(qemu).incoming().start().unwrap();
    let uri = format!("unix:{}", incoming(&guest));
    let qmp = guest.qmp();
    qmp.execute("migrate-incoming", json!({ "uri": uri }))
        .unwrap();
    guest
}

fn given(guest: &Guest, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(Path::new(&incoming(guest))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn with_the_end_mark_a_closed_channel_starts_the_guest_and_without_it_ends_qemu() {
    for qemu in qemu::all().unwrap() {
        let (stream, mark) = captured(&qemu);
        let half = (mark + stream.len()) / 2;
        for end in [mark + 1, mark + 2, mark + 6, half, stream.len() - 1] {
            let mut guest = waiting(&qemu);
            let channel = given(&guest, &stream[..end]);
            assert_eq!(state(&mut guest).as_deref(), Some("inmigrate"));
            drop(channel);
            wait_state(&mut guest, "running").unwrap();
        }
        let mut guest = waiting(&qemu);
        drop(given(&guest, &stream[..mark]));
        // It never says anything else before it ends.
        while let Some(state) = state(&mut guest) {
            assert_eq!(state, "inmigrate");
        }
    }
}
