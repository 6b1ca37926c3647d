//! A file's keys: whoever has the recipient's private key and the header as it was written gets them, and nobody else.

use sealift_seal::*;

fn key(byte: u8) -> RecipientKey {
    RecipientKey::fill(|scalar| {
        scalar.fill(byte);
        Ok::<_, Error>(())
    })
    .unwrap()
}

fn seed() -> Seed {
    Seed::fill(|seed| {
        seed.fill(7);
        Ok::<_, Error>(())
    })
    .unwrap()
}

const SALT: [u8; 32] = [3; 32];
const ID: SessionId = SessionId([1; 16]);
const HEADER: &[u8] = b"the file's beginning";

/// A sealed batch for the key of `byte`, and the saving host's share.
fn saved(byte: u8) -> (Vec<u8>, [u8; 65]) {
    let saving = Saving::for_recipient(key(byte).share(), seed()).unwrap();
    let share = *saving.share();
    let mut keys = saving.derive(&SALT, ID, HEADER).unwrap();
    let mut batch = vec![0; Sealer::OVERHEAD + 5];
    batch[Header::LENGTH..][..5].copy_from_slice(b"pages");
    keys.sealer(0).unwrap().seal(0, &mut batch).unwrap();
    (batch, share)
}

fn open(mut keys: Keyed<Receiver>, batch: &mut [u8]) -> Result<Vec<u8>, Error> {
    let mut opener = keys.opener(0, 0)?;
    let (header, sealed) = batch.split_first_chunk_mut().unwrap();
    let checked = opener.check(header)?;
    let body = opener.open(checked, sealed)?.accept(&mut Ledger::new())?;
    Ok(body.to_vec())
}

#[test]
fn the_recipient_opens_what_was_sealed_for_it() {
    let (mut batch, share) = saved(9);
    let keys = key(9).derive(&share, &SALT, ID, HEADER).unwrap();
    assert_eq!(open(keys, &mut batch).unwrap(), b"pages");
}

#[test]
fn another_key_salt_id_or_header_opens_nothing() {
    let (batch, share) = saved(9);
    let other = SessionId([2; 16]);
    for keys in [
        key(8).derive(&share, &SALT, ID, HEADER),
        key(9).derive(&share, &[4; 32], ID, HEADER),
        key(9).derive(&share, &SALT, other, HEADER),
        key(9).derive(&share, &SALT, ID, b"the file's Beginning"),
        key(9).derive(key(5).share(), &SALT, ID, HEADER),
    ] {
        let opened = open(keys.unwrap(), &mut batch.clone());
        assert!(matches!(opened, Err(Error::Tag { .. })), "{opened:?}");
    }
}

#[test]
fn what_is_no_point_is_refused_at_either_end() {
    let mut off_curve = *key(9).share();
    off_curve[64] ^= 1;
    let mut compressed = *key(9).share();
    compressed[0] = 2;
    for (point, why) in [
        (off_curve.as_slice(), Error::PointOffCurve),
        (&compressed, Error::PointForm { found: 2 }),
        (
            &compressed[..33],
            Error::ShareLength {
                part: SharePart::P256,
                expected: 65,
                found: 33,
            },
        ),
    ] {
        assert_eq!(Saving::for_recipient(point, seed()).unwrap_err(), why);
        let derived = key(9).derive(point, &SALT, ID, HEADER);
        assert_eq!(derived.unwrap_err(), why);
    }
}

#[test]
fn what_is_no_scalar_is_no_key() {
    for byte in [0, 0xff] {
        let filled = RecipientKey::fill(|scalar| {
            scalar.fill(byte);
            Ok::<_, Error>(())
        });
        assert_eq!(filled.unwrap_err(), Error::Scalar);
    }
}

#[test]
fn an_epoch_does_not_follow_one_that_has_room() {
    let (batch, share) = saved(9);
    let mut keys = key(9).derive(&share, &SALT, ID, HEADER).unwrap();
    let opener = keys.opener(0, 0).unwrap();
    let mut header = *batch.first_chunk().unwrap();
    header[7] = 1;
    let next = Header::parse(&header).unwrap();
    assert_eq!(
        keys.follow(opener, &next).unwrap_err(),
        Error::Epoch {
            lane: 0,
            expected: 0,
            found: 1
        }
    );
}
