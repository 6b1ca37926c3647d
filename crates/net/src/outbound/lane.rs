//! A lane's thread: seals what is ready and writes it.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel as queue;
use sealift_seal::Sealer;

use super::{Body, Broken, Event, Shared};
use crate::lock::lock;

pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) sealer: Sealer,
    pub(super) bodies: queue::Receiver<Body>,
    pub(super) empties: queue::Sender<Vec<u8>>,
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
            mut stream,
            mut sealer,
            bodies,
            empties,
        } = self;
        while let Ok(Body { number, mut buffer }) = bodies.recv() {
            if shared.is_closed() {
                break;
            }
            // Bodies are below 2^21 bytes; one that were not is refused by `seal`.
            let body = buffer.len().saturating_sub(Sealer::OVERHEAD);
            if !sealer.has_room_for(u32::try_from(body).unwrap_or(u32::MAX)) {
                sealer = next_epoch(&shared, sealer).map_err(End::Seal)?;
            }
            sealer.seal(number, &mut buffer).map_err(End::Seal)?;
            let wire = buffer.len() as u64;
            if let Some(limit) = &shared.limit {
                limit.wait_for(wire);
            }
            // Before it goes out, or its acknowledgement might be the earlier of the two.
            shared.sent(number, wire, sealer.lane());
            stream.write_all(&buffer).map_err(End::Write)?;
            shared.wire.fetch_add(wire, Ordering::Relaxed);
            // Enough buffers lie ready when the queue is full.
            let _ = empties.try_send(buffer);
        }
        Ok(())
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
