//! Reads QEMU's return path: everything in it is for the source, and its end is for this session too.

use std::io;
use std::thread;

use sealift_qemu::channel::{ReadHalf, ReadOutcome};
use sealift_stream::return_path::{Item, Parser};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes read at once: in pre-copy a whole return path takes some 20.
const READ: usize = 16 << 10;

/// What QEMU says.
#[derive(Debug)]
pub(crate) enum Says {
    /// Bytes of the return path.
    ReturnPath {
        /// As they are.
        bytes: Vec<u8>,
        /// What SHUT said, if it is among them.
        shut: Option<u32>,
    },
    /// It has closed the channel.
    Ended,
}

/// Starts the thread that listens.
pub(crate) fn listen(half: ReadHalf, says: UnboundedSender<Says>) -> io::Result<()> {
    thread::Builder::new()
        .name("return-path".to_owned())
        .spawn(move || read(half, &says))
        .map(drop)
}

fn read(mut half: ReadHalf, says: &UnboundedSender<Says>) {
    let mut parser = Parser::new();
    let mut rest = Vec::new();
    let mut buffer = vec![0; READ];
    while let Ok(ReadOutcome::Bytes(read)) = half.read_within(&mut buffer, None) {
        let bytes = buffer.get(..read).unwrap_or_default().to_vec();
        rest.extend_from_slice(&bytes);
        let mut input = rest.as_slice();
        let mut shut = None;
        while let Some(item) = parser.pull(&mut input) {
            if let Item::Shut(value) = item {
                shut = Some(value);
            }
        }
        rest = input.to_vec();
        if says.send(Says::ReturnPath { bytes, shut }).is_err() {
            return;
        }
    }
    let _ = says.send(Says::Ended);
}
