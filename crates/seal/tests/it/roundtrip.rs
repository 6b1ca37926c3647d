//! Whatever is sealed, over whichever lanes, directions and epochs, comes out as it went in.

use crate::support::{keyed, open, sealed};
use proptest::prelude::*;
use sealift_seal::{Ledger, Opener, Sealer, Suite};

#[derive(Clone, Debug)]
struct Step {
    lane: u8,
    to_receiver: bool,
    new_epoch: bool,
    body: Vec<u8>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_sequence_comes_out_as_it_went_in(
        suite in prop::sample::select(Suite::ALL.to_vec()),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (mut source, mut receiver) = keyed(suite, 3);
        let mut lanes = std::collections::BTreeMap::new();
        // Batches are numbered for each direction, and each end keeps the ledger of what it opens.
        let mut ledgers = [Ledger::new(), Ledger::new()];
        let mut next = [0u64; 2];
        for step in steps {
            let place = (step.lane, step.to_receiver);
            if step.new_epoch && let Some((sealer, opener)) = lanes.remove(&place) {
                let sealed = Sealer::end(sealer);
                let opened = Opener::end(opener, sealed.batches()).unwrap();
                let [at_source, at_receiver] =
                    if step.to_receiver { [sealed, opened] } else { [opened, sealed] };
                source.retire(at_source).unwrap();
                receiver.retire(at_receiver).unwrap();
            }
            let (sealer, opener) = lanes.entry(place).or_insert_with(|| {
                if step.to_receiver {
                    let sealer = source.sealer(step.lane).unwrap();
                    let opener = receiver.opener(step.lane, sealer.epoch()).unwrap();
                    (sealer, opener)
                } else {
                    let opener = source.opener(step.lane).unwrap();
                    (receiver.sealer(step.lane, opener.epoch()).unwrap(), opener)
                }
            });
            let direction = usize::from(step.to_receiver);
            let batch = sealed(sealer, next[direction], &step.body);
            prop_assert!(step.body.len() < 16 || !contains(&batch, &step.body));
            let opened = open(opener, &mut ledgers[direction], &batch);
            prop_assert_eq!(opened, Ok(step.body));
            next[direction] += 1;
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..70),
        (0..9000usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    (0..3u8, any::<bool>(), prop::bool::weighted(0.1), body).prop_map(
        |(lane, to_receiver, new_epoch, body)| Step {
            lane,
            to_receiver,
            new_epoch,
            body,
        },
    )
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
