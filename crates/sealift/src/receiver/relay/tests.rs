//! Batches of several channels, and a QEMU that accepts when the test lets it.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use sealift_net::inbound;
use sealift_qemu::channel::Channel;
use tokio::sync::mpsc;

use super::*;
use crate::receiver::batches::{batch, page_size};

/// What QEMU's main channel begins with.
const MAIN_HEADER: [u8; 8] = [b'Q', b'E', b'V', b'M', 0, 0, 0, 3];

/// A relay to a QEMU of which the test holds the main channel. Each further connection is made when the test says whether it can be; the test
/// gets QEMU's end of it.
struct Trial {
    relay: Relay,
    next: u64,
    main: UnixStream,
    accept: queue::Sender<Result<(), String>>,
    accepted: queue::Receiver<UnixStream>,
    events: mpsc::UnboundedReceiver<Event>,
}

fn channel() -> (UnixStream, WriteHalf) {
    let (theirs, ours) = Channel::pair().unwrap();
    (theirs.into(), ours.split().1)
}

impl Trial {
    fn start() -> Self {
        let (main, half) = channel();
        let (accept, may_accept) = queue::unbounded::<Result<(), String>>();
        let (accepting, accepted) = queue::unbounded();
        let connect: Connect = Box::new(move || {
            may_accept.recv().map_err(|error| error.to_string())??;
            let (theirs, half) = channel();
            accepting.send(theirs).map_err(|error| error.to_string())?;
            Ok(half)
        });
        let (told, events) = mpsc::unbounded_channel();
        let placed = Placed::new(mpsc::unbounded_channel::<inbound::Event>().0);
        let (relay, _) =
            Relay::start(half, page_size(), false, connect, Beside::new(placed), told).unwrap();
        Self {
            relay,
            next: 0,
            main,
            accept,
            accepted,
            events,
        }
    }

    /// A batch of one channel's bytes, as it comes out of the network.
    fn place(&mut self, channel: u16, bytes: &[u8]) {
        let number = self.next;
        self.next += 1;
        let batch = batch(number, &[1], |draft| {
            draft.opaque(channel, bytes).unwrap();
        });
        self.relay.place(batch, None).unwrap();
    }
}

fn read<const LENGTH: usize>(mut from: &UnixStream) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_qemu_that_accepts_no_further_channel_keeps_the_main_one_from_nothing() {
    let mut trial = Trial::start();
    trial.place(2, b"two");
    trial.place(1, b"one");
    trial.place(0, &MAIN_HEADER);
    assert_eq!(read(&trial.main), MAIN_HEADER);
    assert!(trial.accepted.is_empty());
}

#[test]
fn qemu_sees_the_channels_in_the_order_of_their_first_batches() {
    let mut trial = Trial::start();
    let order = [3, 1, 4, 2];
    for channel in order {
        trial.place(channel, &channel.to_be_bytes());
    }
    for channel in order {
        trial.accept.send(Ok(())).unwrap();
        let connection = trial.accepted.recv().unwrap();
        assert_eq!(read(&connection), channel.to_be_bytes());
    }
}

#[test]
fn a_channel_that_cannot_be_connected_is_told_of_once() {
    let mut trial = Trial::start();
    trial.place(1, b"one");
    trial.place(2, b"two");
    trial.accept.send(Err("nobody listens".to_owned())).unwrap();
    match trial.events.blocking_recv() {
        Some(Event::Broken { channel: 1, error }) => {
            assert_eq!(error.to_string(), "it cannot be connected: nobody listens");
        }
        other => panic!("{other:?}"),
    }
    // All writers have ended with the relay, and none said anything.
    let Trial {
        relay, mut events, ..
    } = trial;
    drop(relay);
    assert!(events.blocking_recv().is_none());
}
