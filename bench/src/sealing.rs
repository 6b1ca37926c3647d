//! Sealing and opening batches.

use sealift_lab::both_ends::BothEnds;
use sealift_seal::{Error, Header, Ledger, Sealer};

use crate::raw::name;
use crate::{Case, Target, guest};

/// Bytes that each run goes over, as the raw cases do.
const FOOTPRINT: usize = 16 << 20;

/// X25519 with ML-KEM-768; it does not matter to what is measured.
const SUITE: u16 = 0x0101;

/// All cases of sealing and opening.
///
/// # Errors
/// Those of the key exchange, which do not occur.
pub fn cases() -> Result<Vec<Case>, sealift_lab::Error> {
    Ok(vec![
        seal("seal, 256 KiB", 256 << 10, name::RING_SEAL_256K, 0.90)?,
        open("open, 256 KiB", 256 << 10, name::RING_OPEN_256K, 0.90)?,
        seal("seal, 64 KiB", 64 << 10, name::RING_SEAL_64K, 0.85)?,
        open("open, 64 KiB", 64 << 10, name::RING_OPEN_64K, 0.85)?,
    ])
}

/// Guest memory in buffers with room for header and tag.
fn batches(len: usize) -> Vec<Vec<u8>> {
    let memory = guest::memory(FOOTPRINT);
    let batch = |chunk: &[u8]| {
        let mut batch = vec![0; Sealer::OVERHEAD + len];
        batch[Header::LENGTH..][..len].copy_from_slice(chunk);
        batch
    };
    memory.chunks_exact(len).map(batch).collect()
}

fn seal(
    name: &'static str,
    len: usize,
    against: &'static str,
    target: f64,
) -> Result<Case, sealift_lab::Error> {
    let mut source = keys()?.source;
    let mut batches = batches(len);
    Ok(Case {
        name,
        against: Some(against),
        target: Some(Target::Ratio(target)),
        bytes: FOOTPRINT,
        run: Box::new(move |watch| {
            let mut sealed = || {
                let mut sealer = source.sealer(0)?;
                watch.time(|| {
                    for (number, batch) in batches.iter_mut().enumerate() {
                        sealer.seal(number as u64, batch)?;
                    }
                    Ok::<_, Error>(())
                })?;
                source.retire(sealer.end())
            };
            assert_eq!(sealed(), Ok(()), "every batch was sealed");
        }),
    })
}

fn open(
    name: &'static str,
    len: usize,
    against: &'static str,
    target: f64,
) -> Result<Case, sealift_lab::Error> {
    let BothEnds {
        mut source,
        mut receiver,
        ..
    } = keys()?;
    let mut plain = batches(len);
    Ok(Case {
        name,
        against: Some(against),
        target: Some(Target::Ratio(target)),
        bytes: FOOTPRINT,
        run: Box::new(move |watch| {
            let mut opened = || {
                let mut sealer = source.sealer(0)?;
                let mut opener = receiver.opener(0, sealer.epoch())?;
                let mut ledger = Ledger::new();
                for (number, batch) in plain.iter_mut().enumerate() {
                    sealer.seal(number as u64, batch)?;
                }
                let bytes = watch.time(|| {
                    let mut bytes = 0;
                    for batch in &mut plain {
                        let Some((header, body)) = batch.split_first_chunk_mut() else {
                            continue;
                        };
                        let checked = opener.check(header)?;
                        bytes += opener.open(checked, body)?.accept(&mut ledger)?.len();
                    }
                    Ok::<_, Error>(bytes)
                })?;
                let ended = sealer.end();
                receiver.retire(opener.end(ended.batches())?)?;
                source.retire(ended)?;
                Ok::<_, Error>(bytes)
            };
            assert_eq!(opened(), Ok(FOOTPRINT), "every batch was opened");
        }),
    })
}

/// Both ends of a session with fixed secrets.
fn keys() -> Result<BothEnds, sealift_lab::Error> {
    BothEnds::agree(SUITE, &[], |bytes| {
        bytes.fill(3);
        Ok(())
    })
}
