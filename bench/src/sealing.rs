//! Sealing and opening batches.

use sealift_seal::{
    Context, Error, Exporter, Header, Initiator, Keyed, Ledger, Receiver, Role, Sealer, Seed,
    SessionId, Source, Suite, respond,
};

use crate::raw::name;
use crate::{Case, Target, guest};

/// Bytes that each run goes over, as the raw cases do.
const FOOTPRINT: usize = 16 << 20;

/// All cases of sealing and opening.
///
/// # Errors
/// Those of the key exchange, which do not occur.
pub fn cases() -> Result<Vec<Case>, Error> {
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

fn seal(name: &'static str, len: usize, against: &'static str, target: f64) -> Result<Case, Error> {
    let (mut source, _) = keys()?;
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

fn open(name: &'static str, len: usize, against: &'static str, target: f64) -> Result<Case, Error> {
    let (mut source, mut receiver) = keys()?;
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

/// Both ends of a session.
fn keys() -> Result<(Keyed<Source>, Keyed<Receiver>), Error> {
    let fill = |byte: u8| {
        move |bytes: &mut [u8; 32]| {
            bytes.fill(byte);
            Ok::<_, Error>(())
        }
    };
    let seed = |byte: u8| {
        Seed::fill(move |bytes| {
            bytes.fill(byte);
            Ok::<_, Error>(())
        })
    };
    let context = Context {
        source_hello: b"hello",
        receiver_hello: b"hello",
        offer: b"offer",
        choice: b"choice",
        admission: b"admission",
        verdict: b"verdict",
        source_certificate: b"certificate",
        receiver_certificate: b"certificate",
        tls_client: Role::Source,
        peer_name: b"host-b",
        guest_uuid: [0; 16],
        guest_name: b"guest",
        ram_blocks: &[],
        offered: &[0x0101],
    };
    let suite = Suite::choose(context.offered, &Suite::ALL)?;
    let initiator = Initiator::new(suite, seed(1)?)?;
    let receiver = respond(suite, seed(2)?, initiator.share())?;
    let source = initiator.exchange(receiver.share())?;
    let session = SessionId([1; 16]);
    let source = source.derive(Exporter::fill(fill(3))?, session, &context)?;
    let receiver = receiver.derive(Exporter::fill(fill(3))?, session, &context)?;
    let (from_source, from_receiver) = (source.confirmation()?, receiver.confirmation()?);
    Ok((
        source.confirm(from_receiver.as_bytes())?,
        receiver.confirm(from_source.as_bytes())?,
    ))
}
