//! Checks a file's keys against `proto/vectors/saved.json`, which a second implementation made from WIRE.md.

use std::vec::Vec;

use serde_json::Value;

use super::vectors::{body, bytes, list, number, parse};
use crate::error::Error;
use crate::header::{Header, TAG_LENGTH};
use crate::ledger::Ledger;
use crate::opener::Opener;
use crate::saved::{RecipientKey, Saving};
use crate::schedule::SessionId;
use crate::sealer::Sealer;
use crate::secret::Seed;

const SAVED: &str = include_str!("../../../../proto/vectors/saved.json");

#[test]
fn saving_makes_the_vectors_and_opening_takes_them() {
    let saved = parse(SAVED);
    let cases = list(&saved["cases"]);
    assert_eq!(cases.len(), 2);
    for case in cases {
        let public = |name: &str| bytes(&case[name]);
        let salt: [u8; 32] = public("salt").try_into().unwrap();
        let id = SessionId(public("id").try_into().unwrap());
        let header = public("header");

        let seed = Seed::fill(|seed| {
            seed[..32].copy_from_slice(&public("ephemeral_secret"));
            Ok::<_, Error>(())
        });
        let saving = Saving::for_recipient(&public("recipient_key"), seed.unwrap()).unwrap();
        assert_eq!(saving.share().as_slice(), public("share"));
        let mut keys = saving.derive(&salt, id, &header).unwrap();
        seals(keys.sealer(1).unwrap(), &case["end"]);
        seals(keys.sealer(0).unwrap(), &case["guest"]);

        let key = RecipientKey::fill(|scalar| {
            scalar.copy_from_slice(&public("recipient_secret"));
            Ok::<_, Error>(())
        });
        let key = key.unwrap();
        assert_eq!(key.share().as_slice(), public("recipient_key"));
        let mut keys = key.derive(&public("share"), &salt, id, &header).unwrap();
        opens(keys.opener(1, 0).unwrap(), &case["end"]);
        opens(keys.opener(0, 1).unwrap(), &case["guest"]);
    }
}

fn seals(mut sealer: Sealer, lane: &Value) {
    let place = (u64::from(sealer.lane()), u64::from(sealer.epoch()));
    assert_eq!(place, (number(&lane["lane"]), number(&lane["epoch"])));
    let mut sealed = [
        &[0; Header::LENGTH][..],
        &expected_body(lane),
        &[0; TAG_LENGTH],
    ]
    .concat();
    sealer.seal(0, &mut sealed).unwrap();
    assert_eq!(sealed, bytes(&lane["batch"]["sealed"]));
}

fn opens(mut opener: Opener, lane: &Value) {
    let mut sealed = bytes(&lane["batch"]["sealed"]);
    let (header, rest) = sealed.split_first_chunk_mut().unwrap();
    let checked = opener.check(header).unwrap();
    let opened = opener.open(checked, rest).unwrap();
    let body = opened.accept(&mut Ledger::new()).unwrap();
    assert_eq!(body, expected_body(lane));
}

fn expected_body(lane: &Value) -> Vec<u8> {
    body(usize::try_from(number(&lane["batch"]["length"])).unwrap())
}
