//! Batches of several channels, and a QEMU that accepts when the test lets it.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use sealift_net::inbound;
use sealift_pages::{
    Agreed, Codecs, Decoder, Draft, Encoder, Layout, Mirror, Nowhere, PAGE_SIZE_MIN,
};
use sealift_qemu::channel::Channel;
use tokio::sync::mpsc;

use super::*;

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

fn page_size() -> PageSize {
    PageSize::new(PAGE_SIZE_MIN).unwrap()
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
        let (relay, _) = Relay::start(half, page_size(), false, connect, placed, told).unwrap();
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
        let agreed = Agreed {
            codecs: Codecs::ALL,
            ..Agreed::default()
        };
        let layout = Layout::new(page_size(), vec![1])
            .unwrap()
            .with_agreed(agreed);
        let mut draft = Draft::new(page_size());
        draft.opaque(channel, bytes).unwrap();
        let mut body = Vec::new();
        Encoder::new(1)
            .encode(&draft, number, &layout, &mut body)
            .unwrap();
        let decoded = Decoder::new().decode(&body, number, &layout).unwrap();
        let batch = Mirror::new(1)
            .resolve(decoded, &mut Nowhere)
            .unwrap();
        self.relay.place(batch).unwrap();
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
