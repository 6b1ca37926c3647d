//! The elliptic-curve half of the exchange: X25519 or P-256, one ephemeral key, one agreement.

use alloc::boxed::Box;

use p256::elliptic_curve::sec1::ToSec1Point;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::error::{Error, SharePart};
use crate::secret::Seed;
use crate::suite::Group;

/// An ephemeral secret key; both kinds zeroize themselves.
pub(crate) enum EcdhKey {
    X25519(Box<StaticSecret>),
    P256(Box<p256::SecretKey>),
}

impl EcdhKey {
    pub(crate) fn from_seed(group: Group, seed: &Seed) -> Result<Self, Error> {
        let (first, second) = seed.ecdh();
        match group {
            Group::X25519 => Ok(Self::X25519(Box::new(StaticSecret::from(*first)))),
            // Rejection sampling, so that every scalar is equally likely. A candidate fails once in 2^32.
            Group::P256 => p256::SecretKey::from_slice(first)
                .or_else(|_| p256::SecretKey::from_slice(second))
                .map(|secret| Self::P256(Box::new(secret)))
                .map_err(|_| Error::Seed),
        }
    }

    /// A P-256 key that its owner has had for longer.
    pub(crate) fn p256(scalar: &[u8; 32]) -> Result<Self, Error> {
        p256::SecretKey::from_slice(scalar)
            .map(|secret| Self::P256(Box::new(secret)))
            .map_err(|_| Error::Scalar)
    }

    /// The share of a P-256 key.
    pub(crate) fn p256_share(&self) -> Result<[u8; P256_SHARE], Error> {
        exact(&self.share(), SharePart::P256)
    }

    pub(crate) fn share(&self) -> Box<[u8]> {
        match self {
            Self::X25519(secret) => {
                Box::from(PublicKey::from(secret.as_ref()).as_bytes().as_slice())
            }
            Self::P256(secret) => Box::from(secret.public_key().to_sec1_point(false).as_bytes()),
        }
    }

    /// Writes the shared secret to `out`, from a share that has not been looked at yet.
    pub(crate) fn agree(self, peer: &[u8], out: &mut [u8; 32]) -> Result<(), Error> {
        match self {
            Self::X25519(secret) => {
                let peer: [u8; 32] = exact(peer, SharePart::X25519)?;
                let shared = secret.diffie_hellman(&PublicKey::from(peer));
                if !shared.was_contributory() {
                    return Err(Error::LowOrderShare);
                }
                out.copy_from_slice(shared.as_bytes());
            }
            Self::P256(secret) => {
                let peer: [u8; P256_SHARE] = exact(peer, SharePart::P256)?;
                // SEC 1 gives the infinity, compressed and hybrid points other first bytes.
                if peer[0] != UNCOMPRESSED {
                    return Err(Error::PointForm { found: peer[0] });
                }
                let peer =
                    p256::PublicKey::from_sec1_bytes(&peer).map_err(|_| Error::PointOffCurve)?;
                let shared = secret.diffie_hellman(&peer);
                out.copy_from_slice(shared.raw_secret_bytes());
            }
        }
        Ok(())
    }
}

/// SEC 1, uncompressed: the form's byte and two coordinates.
pub(crate) const P256_SHARE: usize = 1 + 32 + 32;

/// SEC 1, section 2.3.3: the first byte of an uncompressed point.
const UNCOMPRESSED: u8 = 0x04;

pub(crate) fn exact<const N: usize>(bytes: &[u8], part: SharePart) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::ShareLength {
        part,
        expected: N,
        found: bytes.len(),
    })
}
