//! A lane's thread: reads sealed batches, opens them, and enters their numbers.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel as queue;
use sealift_seal::{Fault, Header, Opener};

use super::{Broken, Event, HELD_MAX, Job, Shared, WINDOW_MAX, Way};
use crate::lock::lock;

/// How long the announcement of an epoch may lag behind its first batch. It is sent first, on another connection over the same
/// path; this is far above any difference between the two.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(30);

/// Batches of a file that may wait to be decoded: each becomes up to some MiB in memory, so [`HELD_MAX`] has room for these, and for
/// those in the workers' hands, above [`WINDOW_MAX`].
const READ_AHEAD: usize = 8;

pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) way: Way,
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
        let from_file = matches!(self.way, Way::File(_));
        let end = self.carry();
        if shared.is_closed() || shared.is_interrupted() {
            return;
        }
        match end {
            End::Closed => {}
            End::Boundary => shared.tell(Event::LaneLost { lane, error: None }),
            End::Read(error) => shared.tell(Event::LaneLost {
                lane,
                error: Some(error),
            }),
            // Nothing of it is taken for the source's: whoever sits on the way may have changed it. It is as good as lost.
            End::Broken(Broken::Seal(error)) if !from_file && error.fault() == Fault::Link => {
                let error = Some(io::Error::new(io::ErrorKind::InvalidData, error));
                shared.tell(Event::LaneLost { lane, error });
            }
            // A header is read before anything proves it.
            End::Broken(broken @ Broken::Epoch(_)) if !from_file => {
                let error = io::Error::new(io::ErrorKind::InvalidData, broken.to_string());
                let error = Some(error);
                shared.tell(Event::LaneLost { lane, error });
            }
            End::Broken(why) => shared.broken(why),
        }
    }

    fn carry(self) -> End {
        let Self {
            shared,
            mut way,
            mut opener,
            jobs,
            empties,
        } = self;
        let from_file = matches!(way, Way::File(_));
        let mut next = 0;
        loop {
            if from_file {
                shared.placed.wait_while(|| {
                    let full = jobs.len() >= READ_AHEAD || shared.placed.held() >= WINDOW_MAX;
                    full && !shared.is_closed()
                });
            }
            if shared.is_closed() {
                return End::Closed;
            }
            let header = match read_header(&mut way) {
                Ok(Some(header)) => header,
                Ok(None) => return End::Boundary,
                Err(error) => return End::Read(error),
            };
            let in_force = match from_file {
                true => followed(&shared, opener, &header),
                false => announced(&shared, opener, &header),
            };
            opener = match in_force {
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
            if let Err(error) = way.read_exact(&mut buffer) {
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
            if from_file && number != next {
                return End::Broken(Broken::Disorder {
                    expected: next,
                    found: number,
                });
            }
            next += 1;
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
fn read_header(stream: &mut impl Read) -> io::Result<Option<[u8; Header::LENGTH]>> {
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
fn announced(
    shared: &Shared,
    opener: Opener,
    header: &[u8; Header::LENGTH],
) -> Result<Opener, End> {
    let found = Header::parse(header).map_err(|error| End::Broken(Broken::Seal(error)))?;
    let lane = opener.lane();
    // A batch of an earlier epoch, or for another lane, is for the opener to refuse.
    if found.epoch() <= opener.epoch() || found.lane() != u16::from(lane) {
        return Ok(opener);
    }
    let deadline = Instant::now() + ANNOUNCED_WITHIN;
    let mut announced = lock(&shared.announced);
    let epoch = loop {
        if shared.is_closed() || shared.is_interrupted() {
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

/// The same for a file, of which nobody announces anything: an epoch begins where the one before is full.
fn followed(shared: &Shared, opener: Opener, header: &[u8; Header::LENGTH]) -> Result<Opener, End> {
    let refused = |error| End::Broken(Broken::Seal(error));
    let found = Header::parse(header).map_err(refused)?;
    if found.epoch() <= opener.epoch() {
        return Ok(opener);
    }
    lock(&shared.keys).follow(opener, &found).map_err(refused)
}

impl Read for Way {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Peer(stream) => stream.read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}
