//! A lane's thread: seals what is ready and writes it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel as queue;
use sealift_seal::Sealer;
use sealift_session::control::{BatchRange, BatchRanges};

use super::limit::Limit;
use super::{Body, Broken, Event, Shared, Way};
use crate::lock::lock;

pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) way: Way,
    pub(super) sealer: Sealer,
    pub(super) bodies: queue::Receiver<Body>,
    pub(super) empties: queue::Sender<Vec<u8>>,
    pub(super) limit: Option<Arc<Limit>>,
}

/// Why a lane ends before its bodies do.
enum End {
    Seal(sealift_seal::Error),
    Write(io::Error),
}

impl Thread {
    pub(super) fn run(self) {
        let lane = self.sealer.lane();
        let shared = Arc::clone(&self.shared);
        match self.carry() {
            Ok(()) => {}
            // The connection was closed from here.
            Err(_) if shared.is_closed() => {}
            Err(End::Seal(error)) => shared.broken(Broken::Seal(error)),
            Err(End::Write(error)) => shared.tell(Event::LaneLost { lane, error }),
        }
    }

    fn carry(self) -> Result<(), End> {
        let Self {
            shared,
            way,
            sealer,
            bodies,
            empties,
            limit,
        } = self;
        let mut writer = Writer {
            shared: &shared,
            way,
            sealer: Some(sealer),
            empties,
            limit,
        };
        // Of a file: bodies whose turn has not come. The window bounds them.
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Ok(Body { number, buffer }) = bodies.recv() {
            if shared.is_closed() {
                break;
            }
            if let Way::Peer(_) = writer.way {
                writer.write(number, buffer)?;
                continue;
            }
            early.insert(number, buffer);
            while let Some(buffer) = early.remove(&next) {
                writer.write(next, buffer)?;
                written(&shared, next);
                next += 1;
            }
        }
        Ok(())
    }
}

/// Seals bodies and writes them.
struct Writer<'a> {
    shared: &'a Shared,
    way: Way,
    /// Always there between two batches.
    sealer: Option<Sealer>,
    empties: queue::Sender<Vec<u8>>,
    limit: Option<Arc<Limit>>,
}

impl Writer<'_> {
    fn write(&mut self, number: u64, mut buffer: Vec<u8>) -> Result<(), End> {
        let Some(mut sealer) = self.sealer.take() else {
            return Ok(());
        };
        // Bodies are below 2^21 bytes; one that were not is refused by `seal`.
        let body = buffer.len().saturating_sub(Sealer::OVERHEAD);
        if !sealer.has_room_for(u32::try_from(body).unwrap_or(u32::MAX)) {
            sealer = next_epoch(self.shared, sealer).map_err(End::Seal)?;
        }
        sealer.seal(number, &mut buffer).map_err(End::Seal)?;
        let wire = buffer.len() as u64;
        if let Some(limit) = &self.limit {
            limit.wait_for(wire);
        }
        // Before it goes out, or its acknowledgement might be the earlier of the two.
        self.shared.sent(number, wire, sealer.lane());
        match &mut self.way {
            Way::Peer(stream) => stream.write_all(&buffer),
            Way::File(file) => file.write_all(&buffer),
        }
        .map_err(End::Write)?;
        self.shared.wire.fetch_add(wire, Ordering::Relaxed);
        // Enough buffers lie ready when the queue is full.
        let _ = self.empties.try_send(buffer);
        self.sealer = Some(sealer);
        Ok(())
    }
}

/// Nobody acknowledges what is in a file.
fn written(shared: &Shared, number: u64) {
    let range = BatchRange::new(number, number);
    let ranges = range.and_then(|range| BatchRanges::new("written", vec![range]));
    // The number is one that was just sent.
    if let Ok(ranges) = ranges {
        let _ = shared.acknowledge(&ranges);
    }
}

/// The keys have been used for as much as they may be.
fn next_epoch(shared: &Shared, spent: Sealer) -> Result<Sealer, sealift_seal::Error> {
    let lane = spent.lane();
    let ended = spent.end();
    let sealed_before = ended.batches();
    let sealer = {
        let mut keys = lock(&shared.keys);
        keys.retire(ended)?;
        keys.sealer(lane)?
    };
    shared.tell(Event::Epoch {
        lane,
        epoch: sealer.epoch(),
        sealed_before,
    });
    Ok(sealer)
}
