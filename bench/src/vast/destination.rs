//! Plays the destination's QEMU: takes a guest, and says that it has it when every page came as it was sent.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sealift_lab::{Context as _, Error};
use sealift_stream::main_channel::{Command, Content, Item, Page, Parser};
use sealift_stream::return_path;

use super::shape::{Pool, Shape};
use crate::guest::PAGE;

/// Bytes read at once.
const AT_ONCE: usize = 1 << 20;

/// Waits for `sealift receive` to connect, unless it is over.
pub(super) fn accept(listener: &UnixListener, over: &AtomicBool) -> Result<UnixStream, Error> {
    listener
        .set_nonblocking(true)
        .context("the made-up destination")?;
    loop {
        match listener.accept() {
            Ok((channel, _)) => {
                channel
                    .set_nonblocking(false)
                    .context("the made-up destination")?;
                return Ok(channel);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(error).context("the made-up destination");
            }
            Err(_) if over.load(Ordering::Relaxed) => {
                return Err(Error::new("sealift receive did not connect to its QEMU"));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Takes the guest. An error says what is wrong with it.
pub(super) fn take(mut channel: UnixStream, shape: Shape, pool: &Pool) -> Result<(), Error> {
    let mut guest = Guest {
        pool,
        zeros: 0,
        content: [0; Shape::LAST + 1],
    };
    let ending = Shape::ending()?;
    let mut device_state = 0;
    let mut parser = Parser::new();
    let mut buffer = vec![0; AT_ONCE];
    let mut kept = 0;
    // The name of the device's section is still understood, what is in it is not.
    let mut in_device_state = false;
    while !in_device_state || device_state < ending.len() {
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let read = channel.read(room).context("the stream")?;
        if read == 0 {
            return Err(Error::new("sealift receive closed QEMU's channel"));
        }
        let have = kept + read;
        let at_hand = buffer.get(..have).unwrap_or_default();
        let mut rest = at_hand;
        loop {
            let before = rest;
            let Some(item) = parser.pull(&mut rest) else {
                break;
            };
            let taken = before.get(..before.len() - rest.len()).unwrap_or_default();
            match item {
                Item::Page(page) => guest.page(&page)?,
                Item::Command(Command::Ping(value)) => {
                    say(&mut channel, return_path::Item::Pong(value))?;
                }
                Item::Section(sealift_stream::main_channel::Section::Full(_)) | Item::Opaque(_) => {
                    in_device_state = true;
                    let expected = ending.get(device_state..device_state + taken.len());
                    if expected != Some(taken) {
                        return Err(Error::new(
                            "what is neither page nor mark is not the device state that was sent",
                        ));
                    }
                    device_state += taken.len();
                }
                _ => {}
            }
        }
        let left = rest.len();
        buffer.copy_within(have - left..have, 0);
        kept = left;
    }
    guest.is_whole(shape)?;
    say(&mut channel, return_path::Item::Shut(0))
}

fn say(channel: &mut UnixStream, what: return_path::Item<'_>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    what.emit(&mut bytes);
    channel.write_all(&bytes).context("the return path")
}

/// What has come of it.
struct Guest<'a> {
    pool: &'a Pool,
    zeros: u64,
    /// Of each walk.
    content: [u64; Shape::LAST + 1],
}

impl Guest<'_> {
    fn page(&mut self, page: &Page<'_>) -> Result<(), Error> {
        let number = page.offset / PAGE as u64;
        let wrong = || Error::new(format!("page {number} came with another content"));
        match page.content {
            Content::Zero if !Shape::has_content(number) => self.zeros += 1,
            Content::Whole(bytes) if Shape::has_content(number) => {
                let walk = self.pool.walk(number, bytes);
                let count = walk.and_then(|walk| self.content.get_mut(walk));
                *count.ok_or_else(wrong)? += 1;
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// In the stream's own order of a page's contents, no page can have come twice without another missing.
    fn is_whole(&self, shape: Shape) -> Result<(), Error> {
        for (walk, &found) in self.content.iter().enumerate() {
            let (zeros, content) = shape.counts(walk);
            if found != content || (walk == 0 && self.zeros != zeros) {
                return Err(Error::new(format!(
                    "of walk {walk} {found} pages with content came, of {content}; and {} of zeros in all",
                    self.zeros
                )));
            }
        }
        Ok(())
    }
}
