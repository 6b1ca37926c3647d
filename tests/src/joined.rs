//! Two of QEMU's channels, joined: what one says the other is told, both ways, until the source has closed.

use std::io;
use std::thread;

use sealift_qemu::Channel;

use crate::{Context, Error};

/// Carries the source's stream to the destination and the return path back. Returns when both have ended.
pub fn join_channels(source: Channel, destination: Channel) -> Result<(), Error> {
    let (mut from_source, mut to_source) = source.split();
    let (mut from_destination, mut to_destination) = destination.split();
    let back = thread::spawn(move || io::copy(&mut from_destination, &mut to_source));
    io::copy(&mut from_source, &mut to_destination).context("from source to destination")?;
    drop(to_destination);
    match back.join() {
        // The source is gone as soon as it has read SHUT.
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(result) => result.map(drop).context("from destination to source"),
        Err(_) => Err(Error::new("the thread of the return path panicked")),
    }
}
