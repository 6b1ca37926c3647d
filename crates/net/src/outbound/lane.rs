//! A lane's thread: seals what is ready and writes it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel as queue;
use sealift_seal::Sealer;
use sealift_session::control::{BatchRange, BatchRanges};

use super::shared::{Body, Shared};
use super::{Broken, Event, Way};
use crate::lock::lock;

pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) way: Way,
    pub(super) sealer: Sealer,
    pub(super) bodies: queue::Receiver<Body>,
    /// Closed when the connections are given up.
    pub(super) stop: queue::Receiver<Infallible>,
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
            Err(End::Write(_)) if shared.is_interrupted() => {}
            Err(End::Write(error)) => shared.tell(Event::LaneLost { lane, error }),
        }
    }

    fn carry(self) -> Result<(), End> {
        let Self {
            shared,
            way,
            sealer,
            bodies,
            stop,
        } = self;
        let mut writer = Writer {
            shared: &shared,
            way,
            sealer: Some(sealer),
        };
        let carried = writer.carry(&bodies, &stop);
        if let Some(sealer) = writer.sealer.take() {
            let (_, keys) = sealer.end_and_keep();
            shared.ended(keys);
        }
        carried
    }
}

/// Seals bodies and writes them.
struct Writer<'a> {
    shared: &'a Shared,
    way: Way,
    /// Always there between two batches.
    sealer: Option<Sealer>,
}

impl Writer<'_> {
    fn carry(
        &mut self,
        bodies: &queue::Receiver<Body>,
        stop: &queue::Receiver<Infallible>,
    ) -> Result<(), End> {
        // Of a file: bodies whose turn has not come. The window bounds them.
        let mut early = BTreeMap::new();
        let mut next = 0;
        loop {
            let body = queue::select! {
                recv(bodies) -> body => body,
                recv(stop) -> _ => return Ok(()),
            };
            let Ok(Body { number, buffer }) = body else {
                return Ok(());
            };
            if self.shared.is_closed() {
                return Ok(());
            }
            if let Way::Peer(_) = self.way {
                self.write(number, buffer)?;
                continue;
            }
            early.insert(number, buffer);
            while let Some(buffer) = early.remove(&next) {
                self.write(next, buffer)?;
                written(self.shared, next);
                next += 1;
            }
        }
    }

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
        let (wire, start) = (buffer.len() as u64, Instant::now());
        if let Some(limit) = &self.shared.limit {
            limit.wait_for(wire, || self.shared.is_interrupted());
        }
        // Before it goes out, or its acknowledgement might be the earlier of the two.
        self.shared.sent(number, wire);
        let written = match &mut self.way {
            Way::Peer(stream) => stream.write_all(&buffer),
            Way::File(file) => file.write_all(&buffer),
        };
        self.sealer = Some(sealer);
        lock(&self.shared.ladder).written(start.elapsed());
        self.shared.wire.fetch_add(wire, Ordering::Relaxed);
        self.shared.keep(number, buffer);
        written.map_err(End::Write)
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
    let (ended, kept) = spent.end_and_keep();
    shared.ended(kept);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU8;

    use sealift_lab::both_ends::BothEnds;
    use sealift_pages::{Layout, PAGE_SIZE_MIN, PageSize};
    use sealift_precopy::VersionMap;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::outbound::{Compression, Outbound, Plan};

    #[test]
    fn a_lane_whose_keys_are_spent_goes_over_to_new_ones_and_says_so() {
        let byte = AtomicU8::new(0);
        let mut keys = BothEnds::agree(1, &[], |bytes| {
            bytes.fill(byte.fetch_add(1, Ordering::Relaxed));
            Ok(())
        })
        .unwrap()
        .source;
        let mut sealers = [0, 1].map(|lane| Some(keys.sealer(lane).unwrap()));
        let (events, mut told) = unbounded_channel();
        let page_size = PageSize::new(PAGE_SIZE_MIN).unwrap();
        let plan = Plan {
            layout: Arc::new(Layout::new(page_size, vec![1]).unwrap()),
            workers: 1,
            compression: Compression::Level(1),
            store: 0,
            store_key: 0,
            bandwidth: None,
            window: 0,
            versions: VersionMap::new(&[1]),
            keys,
            direct: None,
            keeps: true,
        };
        let outbound = Outbound::start(plan, Vec::new(), events).unwrap();
        // The numbers are the session's: no two lanes ever have the same.
        for expected in [(0, 2, 1), (1, 3, 0), (1, 4, 2), (0, 5, 0)] {
            let (lane, _, sealed) = expected;
            let mut spent = sealers[usize::from(lane)].take().unwrap();
            for batch in 0..sealed {
                spent.seal(batch, &mut [0; Sealer::OVERHEAD + 100]).unwrap();
            }
            let renewed = next_epoch(&outbound.shared, spent).unwrap();
            match told.try_recv() {
                Ok(Event::Epoch {
                    lane,
                    epoch,
                    sealed_before,
                }) => {
                    assert_eq!((lane, epoch, sealed_before), expected);
                    assert_eq!((renewed.lane(), renewed.epoch()), (lane, epoch));
                }
                other => panic!("{other:?}"),
            }
            sealers[usize::from(lane)] = Some(renewed);
        }
    }
}
