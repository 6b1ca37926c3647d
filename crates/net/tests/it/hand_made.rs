//! A source made by hand, which does to its lane whatever a test wants.

use std::io::{self, Write as _};
use std::net::TcpStream;

use sealift_pages::{Draft, Encoder};
use sealift_seal::{Header, Keyed, Sealer, Source, TAG_LENGTH};

use crate::guest::layout;

/// The only lane's number.
pub(crate) const LANE: u8 = 0;

pub(crate) struct HandMade {
    keys: Keyed<Source>,
    sealer: Option<Sealer>,
    encoder: Encoder,
    pub(crate) stream: TcpStream,
}

impl HandMade {
    pub(crate) fn new(mut keys: Keyed<Source>, stream: TcpStream) -> Self {
        let sealer = keys.sealer(LANE).unwrap();
        Self {
            keys,
            sealer: Some(sealer),
            encoder: Encoder::new(1),
            stream,
        }
    }

    /// A sealed batch.
    pub(crate) fn batch(&mut self, number: u64, draft: &Draft) -> Vec<u8> {
        let mut buffer = vec![0; Header::LENGTH];
        self.encoder
            .encode(draft, number, &layout(), &mut buffer)
            .unwrap();
        buffer.resize(buffer.len() + TAG_LENGTH, 0);
        let sealer = self.sealer.as_mut().unwrap();
        sealer.seal(number, &mut buffer).unwrap();
        buffer
    }

    /// Sends a batch; fails when the receiver has had enough.
    pub(crate) fn send(&mut self, number: u64, draft: &Draft) -> io::Result<()> {
        let batch = self.batch(number, draft);
        self.stream.write_all(&batch)
    }

    /// Goes over to new keys; returns their epoch, and how many batches were sealed by the old ones.
    pub(crate) fn next_epoch(&mut self) -> (u32, u32) {
        let ended = self.sealer.take().unwrap().end();
        let sealed = u32::try_from(ended.batches()).unwrap();
        self.keys.retire(ended).unwrap();
        let sealer = self.keys.sealer(LANE).unwrap();
        let epoch = sealer.epoch();
        self.sealer = Some(sealer);
        (epoch, sealed)
    }
}
