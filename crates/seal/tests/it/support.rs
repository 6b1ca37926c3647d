//! Two ends of a session that have exchanged, derived and confirmed, as the tests need them.

use sealift_seal::{
    Context, Error, Exchanged, Exporter, Header, Initiator, Keyed, Ledger, Opener, RamBlock,
    Receiver, Role, Sealer, Seed, SessionId, Source, Suite, respond,
};

pub(crate) const SESSION: SessionId = SessionId([0x5e; 16]);

pub(crate) const CONTEXT: Context<'_> = Context {
    source_hello: b"source hello",
    receiver_hello: b"receiver hello",
    offer: b"offer",
    choice: b"choice",
    admission: b"admission",
    verdict: b"verdict",
    source_certificate: b"source certificate",
    receiver_certificate: b"receiver certificate",
    tls_client: Role::Source,
    peer_name: b"host-b.example.org",
    guest_uuid: [7; 16],
    guest_name: b"db1",
    ram_blocks: &[
        RamBlock {
            name: b"pc.ram",
            length: 1 << 30,
            page_size: 4096,
        },
        RamBlock {
            name: b"pc.bios",
            length: 1 << 18,
            page_size: 4096,
        },
    ],
    offered: &[0x7f01, 0x0101, 0x0102, 0x0001, 0x0002],
};

pub(crate) fn seed(byte: u8) -> Seed {
    Seed::fill(|bytes| fill(bytes, byte)).unwrap()
}

pub(crate) fn exporter(byte: u8) -> Exporter {
    Exporter::fill(|bytes| fill(bytes, byte)).unwrap()
}

pub(crate) fn exchange(suite: Suite) -> (Exchanged<Source>, Exchanged<Receiver>) {
    let initiator = Initiator::new(suite, seed(1)).unwrap();
    let receiver = respond(suite, seed(2), initiator.share()).unwrap();
    (initiator.exchange(receiver.share()).unwrap(), receiver)
}

/// Both ends keyed, in a session of its own for each exporter.
pub(crate) fn keyed(suite: Suite, exporter_byte: u8) -> (Keyed<Source>, Keyed<Receiver>) {
    let (source, receiver) = exchange(suite);
    let source = source
        .derive(exporter(exporter_byte), SESSION, &CONTEXT)
        .unwrap();
    let receiver = receiver
        .derive(exporter(exporter_byte), SESSION, &CONTEXT)
        .unwrap();
    let from_source = source.confirmation().unwrap();
    let from_receiver = receiver.confirmation().unwrap();
    (
        source.confirm(from_receiver.as_bytes()).unwrap(),
        receiver.confirm(from_source.as_bytes()).unwrap(),
    )
}

/// One lane from source to receiver.
pub(crate) fn lane() -> (Sealer, Opener) {
    let (mut source, mut receiver) = keyed(Suite::X25519, 3);
    let sealer = source.sealer(4).unwrap();
    let opener = receiver.opener(4, sealer.epoch()).unwrap();
    (sealer, opener)
}

pub(crate) fn sealed(sealer: &mut Sealer, batch: u64, body: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; Sealer::OVERHEAD + body.len()];
    buffer[Header::LENGTH..][..body.len()].copy_from_slice(body);
    sealer.seal(batch, &mut buffer).unwrap();
    buffer
}

/// Opens what a lane carried, all steps.
pub(crate) fn open(
    opener: &mut Opener,
    ledger: &mut Ledger,
    sealed: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut sealed = sealed.to_vec();
    let (header, rest) = sealed.split_first_chunk_mut().unwrap();
    let checked = opener.check(header)?;
    opener
        .open(checked, rest)?
        .accept(ledger)
        .map(|body| body.to_vec())
}

fn fill(bytes: &mut [u8], byte: u8) -> Result<(), Error> {
    for (place, out) in bytes.iter_mut().enumerate() {
        *out = byte.wrapping_add(u8::try_from(place % 251).unwrap());
    }
    Ok(())
}
