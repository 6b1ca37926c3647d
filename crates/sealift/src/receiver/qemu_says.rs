//! Reads QEMU's return path: all but the answers to pings of our own is for the source, and its end is for this session too.

use std::io;
use std::thread;

use sealift_qemu::channel::{ReadHalf, ReadOutcome};
use sealift_stream::return_path::{Item, Parser};
use tokio::sync::mpsc::UnboundedSender;

use super::placer::Pongs;

/// Bytes read at once: in pre-copy a whole return path takes some 20.
const READ: usize = 16 << 10;

/// What QEMU says.
#[derive(Debug)]
pub(crate) enum Says {
    /// Bytes of the return path.
    ReturnPath {
        /// As they are, in whole messages.
        bytes: Vec<u8>,
        /// What SHUT said, if it is among them.
        shut: Option<u32>,
    },
    /// It has closed the channel.
    Ended,
}

/// Starts the thread that listens. The answers that `pongs` waits for are kept from the source.
pub(crate) fn listen(
    half: ReadHalf,
    pongs: Option<Pongs>,
    says: UnboundedSender<Says>,
) -> io::Result<()> {
    thread::Builder::new()
        .name("return-path".to_owned())
        .spawn(move || {
            read(half, pongs.as_ref(), &says);
            if let Some(pongs) = pongs {
                pongs.end();
            }
        })
        .map(drop)
}

fn read(mut half: ReadHalf, pongs: Option<&Pongs>, says: &UnboundedSender<Says>) {
    let mut parser = Parser::new();
    let mut rest = Vec::new();
    let mut buffer = vec![0; READ];
    while let Ok(ReadOutcome::Bytes(read)) = half.read_within(&mut buffer, None) {
        rest.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let mut input = rest.as_slice();
        let mut bytes = Vec::new();
        let mut shut = None;
        while let Some(item) = parser.pull(&mut input) {
            match item {
                Item::Pong(number) if pongs.is_some_and(|pongs| pongs.take(number)) => continue,
                Item::Shut(value) => shut = Some(value),
                _ => {}
            }
            item.emit(&mut bytes);
        }
        rest = input.to_vec();
        if !bytes.is_empty() && says.send(Says::ReturnPath { bytes, shut }).is_err() {
            return;
        }
    }
    let _ = says.send(Says::Ended);
}
