//! A sealed batch is opened exactly if it is the one that was sealed; everything else is refused, and the opener is then finished.
//!
//! The input is a list of strokes: how many honest batches go before, what is done to the next one, and where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::keys;
use sealift_seal::{Header, Ledger, Opener, Sealer};

fuzz_target!(|input: &[u8]| {
    let Some((&[before, body, stroke], rest)) = input.split_first_chunk::<3>() else {
        return;
    };
    let mut ends = keys();
    let mut sealer = ends.source.sealer(7).expect("a first epoch");
    let mut opener = ends
        .receiver
        .opener(7, sealer.epoch())
        .expect("the same epoch");
    let mut ledger = Ledger::new();
    for batch in 0..u64::from(before % 4) {
        let sealed = seal(&mut sealer, batch, usize::from(body));
        assert!(
            open(&mut opener, &mut ledger, sealed).is_some(),
            "an honest batch"
        );
    }
    let batch = u64::from(before % 4);
    let honest = seal(&mut sealer, batch, usize::from(body));
    let mut forged = honest.clone();
    match stroke % 5 {
        // Bits are flipped.
        0 => rest
            .iter()
            .zip(&mut forged)
            .for_each(|(bits, byte)| *byte ^= bits),
        // The header, or all, is the input's own.
        1 => rest
            .iter()
            .zip(&mut forged)
            .for_each(|(own, byte)| *byte = *own),
        // It is cut short, or grows.
        2 => forged.truncate(rest.len()),
        3 => forged.extend_from_slice(rest),
        // It is altered at one place.
        _ => {
            if let Some((&[high, low, bits], _)) = rest.split_first_chunk::<3>() {
                let place = usize::from(u16::from_be_bytes([high, low])) % forged.len();
                forged[place] ^= bits;
            }
        }
    }
    let is_honest = forged == honest;
    let opened = open(&mut opener, &mut ledger, forged);
    assert_eq!(
        opened.is_some(),
        is_honest,
        "opened if and only if it was sealed"
    );
    let next = seal(&mut sealer, batch + 1, 0);
    assert_eq!(
        open(&mut opener, &mut ledger, next).is_some(),
        is_honest,
        "finished after a refusal"
    );
    // The same again is a replay.
    assert!(open(&mut opener, &mut ledger, honest).is_none());
});

fn seal(sealer: &mut Sealer, batch: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0x5a; Sealer::OVERHEAD + len];
    sealer.seal(batch, &mut buffer).expect("room for a batch");
    buffer
}

/// Opens as a lane does: the header, then as much as the header says, which must be there.
fn open(opener: &mut Opener, ledger: &mut Ledger, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (header, rest) = sealed.split_first_chunk_mut::<{ Header::LENGTH }>()?;
    let checked = opener.check(header).ok()?;
    // A connection that ends early, or brings the next batch's bytes as well, is not this batch's.
    if rest.len() != checked.sealed_length() {
        let mut wrong = rest.to_vec();
        assert!(opener.open(checked, &mut wrong).is_err(), "a wrong length");
        return None;
    }
    let opened = opener.open(checked, rest).ok()?;
    opened.accept(ledger).ok().map(|body| body.to_vec())
}
