//! A lane's thread: reads sealed batches, opens them, and enters their numbers.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel as queue;
use sealift_seal::{Header, Opener};

use super::{Broken, Event, HELD_MAX, Job, Shared};
use crate::lock::lock;

/// How long the announcement of an epoch may lag behind its first batch. It is sent first, on another connection over the same
/// path; this is far above any difference between the two.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) opener: Opener,
    pub(super) jobs: queue::Sender<Job>,
    /// Buffers that workers have done with.
    pub(super) empties: queue::Receiver<Vec<u8>>,
}

/// Why a lane ends.
enum End {
    /// The connection ended at the boundary of a batch.
    Boundary,
    /// Or somewhere else.
    Read(io::Error),
    Broken(Broken),
    /// The way in was closed.
    Closed,
}

impl Thread {
    pub(super) fn run(self) {
        let lane = self.opener.lane();
        let shared = Arc::clone(&self.shared);
        let end = self.carry();
        if shared.is_closed() {
            return;
        }
        match end {
            End::Closed => {}
            End::Boundary => shared.tell(Event::LaneLost { lane, error: None }),
            End::Read(error) => shared.tell(Event::LaneLost {
                lane,
                error: Some(error),
            }),
            End::Broken(why) => shared.broken(why),
        }
    }

    fn carry(self) -> End {
        let Self {
            shared,
            mut stream,
            mut opener,
            jobs,
            empties,
        } = self;
        loop {
            let header = match read_header(&mut stream) {
                Ok(Some(header)) => header,
                Ok(None) => return End::Boundary,
                Err(error) => return End::Read(error),
            };
            opener = match in_force(&shared, opener, &header) {
                Ok(opener) => opener,
                Err(end) => return end,
            };
            let mut buffer = empties.try_recv().unwrap_or_default();
            let opened = opener.check(&header).map_err(Broken::Seal);
            let checked = match opened {
                Ok(checked) => checked,
                Err(broken) => return End::Broken(broken),
            };
            // At most a body and a tag: checked above.
            buffer.resize(checked.sealed_length(), 0);
            if let Err(error) = stream.read_exact(&mut buffer) {
                return End::Read(error);
            }
            let wire = (Header::LENGTH + buffer.len()) as u64;
            let opened = opener.open(checked, &mut buffer).and_then(|opened| {
                let number = opened.batch();
                let body = opened.accept(&mut lock(&shared.ledger))?;
                Ok((number, body.len()))
            });
            let (number, length) = match opened {
                Ok(opened) => opened,
                Err(error) => return End::Broken(Broken::Seal(error)),
            };
            shared.wire.fetch_add(wire, Ordering::Relaxed);
            shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
            let held = shared.placed.hold(length as u64);
            if held > HELD_MAX {
                return End::Broken(Broken::TooMuch { held });
            }
            let job = Job {
                number,
                buffer,
                length,
            };
            if jobs.send(job).is_err() {
                return End::Closed;
            }
        }
    }
}

/// The next header; nothing when the connection ends before it.
fn read_header(stream: &mut TcpStream) -> io::Result<Option<[u8; Header::LENGTH]>> {
    let mut header = [0; Header::LENGTH];
    let first = loop {
        match stream.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    let (_, rest) = header.split_at_mut(first);
    stream.read_exact(rest)?;
    Ok(Some(header))
}

/// The keys for a batch with this header: those in use, or those of the next epoch once it was announced, and the one before it has
/// come whole.
fn in_force(shared: &Shared, opener: Opener, header: &[u8; Header::LENGTH]) -> Result<Opener, End> {
    let found = Header::parse(header).map_err(|error| End::Broken(Broken::Seal(error)))?;
    let lane = opener.lane();
    // A batch of an earlier epoch, or for another lane, is for the opener to refuse.
    if found.epoch() <= opener.epoch() || found.lane() != u16::from(lane) {
        return Ok(opener);
    }
    let deadline = Instant::now() + ANNOUNCED_WITHIN;
    let mut announced = lock(&shared.announced);
    let epoch = loop {
        if shared.is_closed() {
            return Err(End::Closed);
        }
        match announced.get(&lane) {
            Some(epoch) if epoch.epoch() >= found.epoch() => break *epoch,
            _ => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::Broken(Broken::Epoch(lane)));
        }
        announced = shared
            .announcement
            .wait_timeout(announced, left)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0;
    };
    drop(announced);
    let mut keys = lock(&shared.keys);
    opener
        .end(epoch.sealed_before().into())
        .and_then(|ended| keys.retire(ended))
        .and_then(|()| keys.opener(lane, epoch.epoch()))
        .map_err(|error| End::Broken(Broken::Seal(error)))
}
