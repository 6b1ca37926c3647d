//! Sealing and opening work in the caller's buffer and take no memory.

use crate::support::lane;
use allocation_counter::measure;
use sealift_seal::{Header, Ledger, MAX_BODY, Sealer};

#[test]
fn no_batch_allocates() {
    let (mut sealer, mut opener) = lane();
    let mut ledger = Ledger::new();
    let mut buffer = vec![0x5a; Sealer::OVERHEAD + MAX_BODY as usize];
    for (batch, length) in [0, 1, 4096, 65_536, MAX_BODY as usize]
        .into_iter()
        .enumerate()
    {
        let sealed = &mut buffer[..Sealer::OVERHEAD + length];
        let taken = measure(|| {
            sealer.seal(batch as u64, sealed).unwrap();
            let (header, body) = sealed
                .split_first_chunk_mut::<{ Header::LENGTH }>()
                .unwrap();
            let checked = opener.check(header).unwrap();
            let opened = opener.open(checked, body).unwrap();
            assert_eq!(opened.accept(&mut ledger).unwrap().len(), length);
        });
        assert_eq!(taken.count_total, 0, "{length} bytes");
    }
}

#[test]
fn neither_does_a_refusal() {
    let (mut sealer, mut opener) = lane();
    let mut sealed = [0; Sealer::OVERHEAD + 9];
    sealer.seal(0, &mut sealed).unwrap();
    sealed[30] ^= 1;
    let (header, body) = sealed
        .split_first_chunk_mut::<{ Header::LENGTH }>()
        .unwrap();
    let taken = measure(|| {
        let checked = opener.check(header).unwrap();
        assert!(opener.open(checked, body).is_err());
        assert!(opener.check(header).is_err());
    });
    assert_eq!(taken.count_total, 0);
}
