//! Shares from the peer: any bytes are refused or lead to keys, at both ends, in every suite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealift_fuzz::seed;
use sealift_seal::{Initiator, Share, Suite, respond};

fuzz_target!(|input: &[u8]| {
    let Some((&[suite, split], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let suite = Suite::ALL[usize::from(suite) % Suite::ALL.len()];
    // Lengths that fit come often, others sometimes.
    let ecdh = match split {
        0..100 => 32,
        100..200 => 65,
        other => usize::from(other),
    };
    let (ecdh, mlkem) = rest.split_at(ecdh.min(rest.len()));
    let share = Share { ecdh, mlkem };
    let _ = respond(suite, seed(2).expect("a seed"), share);
    let initiator = Initiator::new(suite, seed(1).expect("a seed")).expect("a fixed seed works");
    let _ = initiator.exchange(share);
});
