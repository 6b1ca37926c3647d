//! QEMU's channels as it opens them: the first is a guest's main one, and those that follow are multifd's, if they say so.
//!
//! ```text
//!  accept ─▶ [waiting] ─┬─ nothing under way ─▶ the next guest's main channel
//!                       └─ a guest is ────────▶ [further] ─▶ its first 64 bytes ─┬─ multifd's hello, of this guest ─▶ read
//!                                                                               └─ anything else, or nothing ─▶ closed
//! ```
//!
//! Whoever may connect to the socket can come at any time, by mistake: a channel is looked at before QEMU's pages are looked for in it.

use std::future::Future;
use std::io;
use std::thread;
use std::time::Duration;

use sealift::arguments::send::Arguments;
use sealift::event::What;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_qemu::channel::{Channel, Listener};
use sealift_stream::PageSize;
use sealift_stream::multifd::{HELLO_LEN, Item, Parser};
use tokio::sync::mpsc;

use crate::signals::Signals;
use crate::voice::Voice;

/// How often a thread that waits for QEMU looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(250);
/// Channels that QEMU may have opened and nobody has taken: more than multifd's 255 are not to be had.
const WAITING: usize = 256;
/// How long whoever opens a further channel may take for its hello. QEMU writes it as soon as it is connected; a host that swaps takes
/// seconds.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// QEMU's channels, in the order in which it opens them.
pub(super) struct Channels {
    waiting: mpsc::Receiver<Channel>,
}

impl Channels {
    /// Waits for them where the operator says. `channel` is QEMU's, when it started this program.
    pub(super) fn open(
        arguments: &Arguments,
        channel: Option<Channel>,
        voice: &Voice,
    ) -> Result<Self, Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::Host, error).fault(Fault::ThisHost)
        };
        let (found, waiting) = mpsc::channel(WAITING);
        match &arguments.listen {
            Some(address) => {
                let listener = Listener::bind(address).map_err(|error| host(&error))?;
                let address = listener.address().to_string();
                thread::Builder::new()
                    .name("accept".to_owned())
                    .spawn(move || accept(&listener, &found))
                    .map_err(|error| host(&error))?;
                voice.tell(What::Listening { address });
            }
            None => {
                if let Some(channel) = channel {
                    let _ = found.try_send(channel);
                }
            }
        }
        Ok(Self { waiting })
    }

    /// The next guest's main channel.
    pub(super) async fn main(&mut self, signals: &mut Signals) -> Result<Channel, Ending> {
        let main = tokio::select! {
            main = self.waiting.recv() => main,
            () = signals.next() => return Err(Ending::stopped()),
        };
        main.ok_or_else(|| {
            Ending::new(Kind::Host, "nothing waits for QEMU any more").fault(Fault::ThisHost)
        })
    }

    /// Does this for a guest, to which everything belongs that is opened meanwhile.
    pub(super) async fn meanwhile<F: Future>(
        &mut self,
        work: impl FnOnce(mpsc::Receiver<Channel>) -> F,
    ) -> F::Output {
        let (further, theirs) = mpsc::channel(WAITING);
        let work = work(theirs);
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                Some(channel) = self.waiting.recv() => {
                    // Beyond what multifd can have: closed.
                    let _ = further.try_send(channel);
                }
            }
        };
        // Those that nobody came to look at are this guest's as well, and not the next one's.
        while self.waiting.try_recv().is_ok() {}
        done
    }
}

fn accept(listener: &Listener, found: &mpsc::Sender<Channel>) {
    while !found.is_closed() {
        // An error is one connection's.
        if let Ok(Some(channel)) = listener.accept(Some(LOOK))
            && found.blocking_send(channel).is_err()
        {
            return;
        }
    }
}

/// A further channel, if it is one of this guest's; otherwise why not. Nothing of it is taken. Blocks until its first bytes are there.
pub(super) fn of_guest(channel: Channel, uuid: Option<[u8; 16]>) -> Result<Channel, String> {
    of_guest_within(channel, uuid, HELLO_WITHIN)
}

fn of_guest_within(
    channel: Channel,
    uuid: Option<[u8; 16]>,
    within: Duration,
) -> Result<Channel, String> {
    let mut hello = [0; HELLO_LEN];
    let seen = match channel.peek(&mut hello, within) {
        Ok(seen) => hello.get(..seen).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => &[],
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    if seen.len() < HELLO_LEN {
        return Err(format!(
            "it began with {} bytes, where QEMU's multifd says hello in {HELLO_LEN}",
            seen.len()
        ));
    }
    let mut rest = seen;
    // The hello has no pages: their size does not matter.
    match Parser::new(PageSize::KIB_4).pull(&mut rest) {
        Some(Item::Hello(hello)) if uuid.is_none_or(|uuid| uuid == hello.uuid) => Ok(channel),
        Some(Item::Hello(_)) => Err("it is of another guest, by its UUID".to_owned()),
        _ => Err("it does not begin as QEMU's multifd does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use sealift_qemu::Address;
    use sealift_qemu::channel::ReadOutcome;

    use super::*;

    const UUID: [u8; 16] = [7; 16];
    /// Generous: it only ends what hangs.
    const PATIENT: Duration = Duration::from_secs(600);

    fn hello(version: u32) -> Vec<u8> {
        let mut hello = 0x1122_3344_u32.to_be_bytes().to_vec();
        hello.extend(version.to_be_bytes());
        hello.extend(UUID);
        hello.resize(HELLO_LEN, 0);
        hello
    }

    /// A socket, and what a client writes and then leaves open.
    fn caller(bytes: &[u8]) -> (Channel, UnixStream) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let mut client = UnixStream::connect(path).unwrap();
        client.write_all(bytes).unwrap();
        (listener.accept(None).unwrap().unwrap(), client)
    }

    #[test]
    fn a_channel_that_begins_as_multifd_does_is_the_guests_and_nothing_of_it_is_taken() {
        for uuid in [None, Some(UUID)] {
            let (channel, _client) = caller(&[hello(1), vec![1; 9]].concat());
            let channel = of_guest_within(channel, uuid, PATIENT).unwrap();
            let mut bytes = [0; 100];
            let (mut half, _write) = channel.split();
            let read = half.read_within(&mut bytes, None).unwrap();
            assert_eq!(read, ReadOutcome::Bytes(HELLO_LEN + 9));
            assert_eq!(bytes[..HELLO_LEN], hello(1));
        }
    }

    #[test]
    fn a_hello_may_come_in_pieces() {
        let (channel, mut client) = caller(&hello(1)[..20]);
        let asked = thread::spawn(move || of_guest_within(channel, Some(UUID), PATIENT));
        client.write_all(&hello(1)[20..]).unwrap();
        assert!(asked.join().unwrap().is_ok());
    }

    #[test]
    fn anybody_else_is_not() {
        let other = "GET / HTTP/1.1\r\nHost: a-page-that-somebody-looked-for.example\r\nAccept: */*\r\n\r\n";
        for (bytes, uuid, why) in [
            (other.as_bytes(), None, "does not begin as"),
            (&hello(2), None, "does not begin as"),
            (&hello(1), Some([8; 16]), "another guest"),
        ] {
            let (channel, _client) = caller(bytes);
            let refused = of_guest_within(channel, uuid, PATIENT).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn one_that_closes_or_says_nothing_is_not_waited_for() {
        let (channel, client) = caller(&hello(1)[..5]);
        drop(client);
        let refused = of_guest_within(channel, None, PATIENT).unwrap_err();
        assert!(refused.contains("5 bytes"), "{refused}");
        let (channel, _client) = caller(&[]);
        let refused = of_guest_within(channel, None, Duration::ZERO).unwrap_err();
        assert!(refused.contains("0 bytes"), "{refused}");
    }

    #[test]
    fn over_tcp_it_is_the_same() {
        let address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        let listener = Listener::bind(&address).unwrap();
        let Address::Tcp { host, port } = listener.address().clone() else {
            unreachable!()
        };
        let mut client = TcpStream::connect((host, port)).unwrap();
        client.write_all(&hello(1)).unwrap();
        let channel = listener.accept(None).unwrap().unwrap();
        assert!(of_guest_within(channel, Some(UUID), PATIENT).is_ok());
    }
}
