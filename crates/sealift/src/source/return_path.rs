//! QEMU's return path on its way to the source's QEMU: two of its messages are the session's to give.
//!
//! ```text
//!  receiver ─▶ SWITCHOVER_ACK ─▶ kept until the gate opens ─▶ QEMU may stop the guest; never passed to one that does not know it
//!              SHUT           ─▶ never passed: the session writes its own when the hand-off is decided
//!              PONG           ─▶ passed
//!              all else       ─▶ belongs to post-copy, or is not known: the session ends
//! ```

use std::io::{self, Write as _};

use sealift_qemu::channel::WriteHalf;
use sealift_stream::return_path::{Item, Parser};

/// The way back to the source's QEMU.
#[derive(Debug)]
pub(crate) struct ReturnPath {
    half: WriteHalf,
    parser: Parser,
    /// Bytes of a message that is not whole.
    rest: Vec<u8>,
    gate: Gate,
    /// QEMU knows `SWITCHOVER_ACK` (8.1 and later). An older one takes it for an error and gives the migration up.
    knows_gate: bool,
}

/// Where the destination's word is that the guest may be stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    /// It has not come.
    Closed,
    /// It is kept.
    Kept,
    /// It goes on at once, or has.
    Open,
}

/// What the destination's QEMU has said that the session must know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// It may be switched over to; the message is kept.
    SwitchoverAck,
    /// It has loaded everything, or failed with this number.
    Shut(u32),
    /// Something else. If it cannot be told apart, it might be either of the above.
    NotUnderstood,
}

impl ReturnPath {
    pub(crate) fn new(half: WriteHalf, knows_gate: bool) -> Self {
        Self {
            half,
            parser: Parser::new(),
            rest: Vec::new(),
            gate: Gate::Closed,
            knows_gate,
        }
    }

    /// Takes bytes from the destination's QEMU.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<Vec<Said>> {
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let mut input = whole.as_slice();
        let mut said = Vec::new();
        let mut passed = Vec::new();
        while let Some(item) = self.parser.pull(&mut input) {
            match item {
                Item::SwitchoverAck if !self.knows_gate => {}
                Item::SwitchoverAck if self.gate == Gate::Open => item.emit(&mut passed),
                Item::SwitchoverAck => {
                    self.gate = Gate::Kept;
                    said.push(Said::SwitchoverAck);
                }
                Item::Shut(value) => said.push(Said::Shut(value)),
                Item::Pong(_) => item.emit(&mut passed),
                // What belongs to post-copy has no place here, and could be more than QEMU takes at once.
                _ => said.push(Said::NotUnderstood),
            }
        }
        self.rest = input.to_vec();
        self.half.write_all(&passed)?;
        Ok(said)
    }

    /// Lets QEMU stop the guest.
    pub(crate) fn open_gate(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.gate, Gate::Open) == Gate::Kept {
            self.pass(Item::SwitchoverAck)?;
        }
        Ok(())
    }

    /// Lets QEMU complete.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        self.pass(Item::Shut(0))
    }

    /// Says back what QEMU asked for, where there is no destination that would.
    pub(crate) fn pong(&mut self, value: u32) -> io::Result<()> {
        self.pass(Item::Pong(value))
    }

    /// Lets QEMU stop the guest, where there is no destination to say that it may.
    pub(crate) fn acknowledge_switchover(&mut self) -> io::Result<()> {
        self.gate = Gate::Open;
        self.pass(Item::SwitchoverAck)
    }

    fn pass(&mut self, item: Item<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        item.emit(&mut bytes);
        self.half.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use sealift_qemu::channel::Channel;

    use super::*;

    fn path() -> (ReturnPath, UnixStream) {
        path_of(true)
    }

    fn path_of(knows_gate: bool) -> (ReturnPath, UnixStream) {
        let (qemu, channel) = Channel::pair().unwrap();
        let qemu = UnixStream::from(qemu);
        qemu.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        (ReturnPath::new(channel.split().1, knows_gate), qemu)
    }

    fn arrived(qemu: &mut UnixStream) -> Vec<u8> {
        let mut bytes = [0; 64];
        let read = qemu.read(&mut bytes).unwrap_or(0);
        bytes[..read].to_vec()
    }

    const ACK: &[u8] = b"\0\x07\0\0";
    const PONG: &[u8] = b"\0\x02\0\x04\0\0\0\x01";
    const SHUT: &[u8] = b"\0\x01\0\x04\0\0\0\0";

    #[test]
    fn the_acknowledgement_waits_for_the_gate() {
        let (mut path, mut qemu) = path();
        let said = path.take(&[ACK, PONG].concat()).unwrap();
        assert_eq!(said, [Said::SwitchoverAck]);
        assert_eq!(arrived(&mut qemu), PONG);
        path.open_gate().unwrap();
        assert_eq!(arrived(&mut qemu), ACK);
        // Not twice.
        path.open_gate().unwrap();
        assert_eq!(arrived(&mut qemu), b"");
    }

    #[test]
    fn a_qemu_that_does_not_know_the_acknowledgement_never_gets_it() {
        let (mut path, mut qemu) = path_of(false);
        assert_eq!(path.take(&[ACK, PONG].concat()).unwrap(), []);
        path.open_gate().unwrap();
        assert_eq!(path.take(ACK).unwrap(), []);
        assert_eq!(arrived(&mut qemu), PONG);
    }

    #[test]
    fn with_the_gate_open_it_goes_on_at_once() {
        let (mut path, mut qemu) = path();
        path.open_gate().unwrap();
        assert_eq!(path.take(ACK).unwrap(), []);
        assert_eq!(arrived(&mut qemu), ACK);
    }

    #[test]
    fn the_destinations_shut_never_reaches_the_source() {
        let (mut path, mut qemu) = path();
        for byte in SHUT {
            for said in path.take(&[*byte]).unwrap() {
                assert_eq!(said, Said::Shut(0));
            }
        }
        assert_eq!(arrived(&mut qemu), b"");
        path.shut().unwrap();
        assert_eq!(arrived(&mut qemu), SHUT);
    }

    #[test]
    fn nothing_unknown_is_passed() {
        let (mut path, mut qemu) = path();
        assert_eq!(path.take(b"\xff\xff\0\0").unwrap(), [Said::NotUnderstood]);
        assert_eq!(arrived(&mut qemu), b"");
    }
}
