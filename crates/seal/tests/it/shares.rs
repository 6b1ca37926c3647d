//! Suites that are chosen, and shares and seeds that must be refused.

use crate::support::seed;
use sealift_seal::{Error, Initiator, Seed, Share, SharePart, Suite, respond};

#[test]
fn every_low_order_x25519_share_is_refused() {
    for point in low_order_points() {
        for suite in [Suite::X25519, Suite::X25519MlKem768] {
            let initiator = Initiator::new(suite, seed(1)).unwrap();
            let source = Share {
                ecdh: &point,
                ..initiator.share()
            };
            assert_eq!(
                respond(suite, seed(2), source).unwrap_err(),
                Error::LowOrderShare
            );

            let receiver = respond(suite, seed(2), initiator.share()).unwrap();
            let share = Share {
                ecdh: &point,
                ..receiver.share()
            };
            assert_eq!(initiator.exchange(share).unwrap_err(), Error::LowOrderShare);
        }
    }
}

#[test]
fn an_invalid_p256_share_is_refused() {
    let good = Initiator::new(Suite::P256, seed(1)).unwrap();
    let good = good.share().ecdh;
    let refuse = |share: &[u8], expected: Error| {
        let share = Share {
            ecdh: share,
            mlkem: &[],
        };
        assert_eq!(respond(Suite::P256, seed(2), share).unwrap_err(), expected);
        let initiator = Initiator::new(Suite::P256, seed(1)).unwrap();
        assert_eq!(initiator.exchange(share).unwrap_err(), expected);
    };

    let mut off_curve = good.to_vec();
    off_curve[64] ^= 1;
    refuse(&off_curve, Error::PointOffCurve);

    // A coordinate that is not below the field's prime.
    let mut unreduced = good.to_vec();
    unreduced[1..33].fill(0xff);
    refuse(&unreduced, Error::PointOffCurve);
    refuse(&[&[4], [0; 64].as_slice()].concat(), Error::PointOffCurve);

    let length = |found| Error::ShareLength {
        part: SharePart::P256,
        expected: 65,
        found,
    };
    // Infinity and a compressed point, as SEC 1 writes them, and dressed up to the right length.
    refuse(&[0], length(1));
    refuse(&[&[2 + (good[64] & 1)], &good[1..33]].concat(), length(33));
    refuse(&[], length(0));
    refuse(&[good, &[0]].concat(), length(66));
    refuse(&[0; 65], Error::PointForm { found: 0 });
    for form in [2, 3, 5, 6, 7] {
        refuse(
            &[&[form], &good[1..]].concat(),
            Error::PointForm { found: form },
        );
    }
}

#[test]
fn an_unreduced_ml_kem_key_is_refused() {
    let initiator = Initiator::new(Suite::X25519MlKem768, seed(1)).unwrap();
    let good = initiator.share();
    // Coefficients are 12 bits, two in three bytes: first and last of the 768, q itself and the largest that fits.
    for value in [3329_u16, 3330, 4095] {
        let [high, low] = value.to_be_bytes();
        let mut first = good.mlkem.to_vec();
        first[0] = low;
        first[1] = first[1] & 0xf0 | high;
        let mut last = good.mlkem.to_vec();
        last[1150] = last[1150] & 0x0f | low << 4;
        last[1151] = low >> 4 | high << 4;
        for key in [first, last] {
            let share = Share {
                mlkem: &key,
                ..good
            };
            assert_eq!(
                respond(Suite::X25519MlKem768, seed(2), share).unwrap_err(),
                Error::UnreducedKey
            );
        }
    }
}

#[test]
fn a_share_of_another_length_is_refused() {
    for suite in Suite::ALL {
        let initiator = Initiator::new(suite, seed(1)).unwrap();
        let good = initiator.share();
        for (ecdh, mlkem) in [
            (&good.ecdh[1..], good.mlkem),
            (good.ecdh, &[good.mlkem, &[0]].concat()),
            (&[good.ecdh, &[0]].concat(), good.mlkem),
        ] {
            let error = respond(suite, seed(2), Share { ecdh, mlkem }).unwrap_err();
            assert!(matches!(error, Error::ShareLength { .. }), "{error}");
        }

        let receiver = respond(suite, seed(2), good).unwrap();
        let longer = [receiver.share().mlkem, &[0]].concat();
        let share = Share {
            mlkem: &longer,
            ..receiver.share()
        };
        assert_eq!(
            initiator.exchange(share).unwrap_err(),
            Error::ShareLength {
                part: SharePart::Ciphertext,
                expected: longer.len() - 1,
                found: longer.len()
            }
        );
    }
}

#[test]
fn a_p256_scalar_that_does_not_fit_gives_way_to_the_second() {
    let seed_of = |first: u8, second: u8| {
        Seed::fill(|bytes| {
            bytes[..32].fill(first);
            bytes[32..64].fill(second);
            Ok::<_, Error>(())
        })
        .unwrap()
    };
    // 0xff… is above the group's order, 0 is no scalar.
    let second = Initiator::new(Suite::P256, seed_of(0xff, 7)).unwrap();
    let plain = Initiator::new(Suite::P256, seed_of(7, 0)).unwrap();
    assert_eq!(second.share(), plain.share());
    assert_eq!(
        Initiator::new(Suite::P256, seed_of(0, 0xff)).unwrap_err(),
        Error::Seed
    );
}

#[test]
fn the_receiver_takes_the_first_offered_suite_that_it_allows() {
    let offered = [0x7f01, 0x0102, 0x0101, 0x0001];
    assert_eq!(
        Suite::choose(&offered, &Suite::ALL),
        Ok(Suite::P256MlKem768)
    );
    assert_eq!(
        Suite::choose(&offered, &[Suite::X25519, Suite::X25519MlKem768]),
        Ok(Suite::X25519MlKem768)
    );
    assert_eq!(
        Suite::choose(&offered, &[Suite::P256]),
        Err(Error::NoCommonSuite)
    );
    assert_eq!(Suite::choose(&[], &Suite::ALL), Err(Error::NoCommonSuite));
    assert_eq!(
        Suite::try_from(0x7f01),
        Err(Error::UnknownSuite { found: 0x7f01 })
    );
}

/// The u-coordinates that make X25519 give zero, whatever the secret: 0, 1, the two of order 8, p - 1, and those of them
/// that have a second encoding (p, p + 1), each with and without the top bit, which X25519 ignores.
fn low_order_points() -> Vec<[u8; 32]> {
    let hex = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    hex.iter()
        .map(|hex| {
            let mut point = [0; 32];
            for (at, byte) in point.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
            }
            point
        })
        .flat_map(|point| {
            let mut with_top_bit = point;
            with_top_bit[31] |= 0x80;
            [point, with_top_bit]
        })
        .collect()
}
