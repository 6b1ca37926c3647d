//! The post-quantum half of the exchange: ML-KEM-768, FIPS 203.
//!
//! The one place that knows the `ml-kem` crate, which has not reached 1.0: whatever changes there changes here.

use alloc::boxed::Box;

use ml_kem::array::Array;
use ml_kem::ml_kem_768;
use ml_kem::{Decapsulate, KeyExport};
use zeroize::Zeroize;

use crate::ecdh::exact;
use crate::error::{Error, SharePart};

/// FIPS 203, table 3.
const ENCAPSULATION_KEY: usize = 1184;
/// FIPS 203, table 3.
const CIPHERTEXT: usize = 1088;

/// The source's key, zeroized by the crate when dropped.
pub(crate) struct MlKemKey(Box<ml_kem_768::DecapsulationKey>);

impl MlKemKey {
    /// From FIPS 203's `d ‖ z`.
    pub(crate) fn from_seed(seed: &[u8; 64]) -> Self {
        let mut seed = Array::from(*seed);
        let key = Box::new(ml_kem_768::DecapsulationKey::from_seed(seed));
        seed.zeroize();
        Self(key)
    }

    pub(crate) fn encapsulation_key(&self) -> Box<[u8]> {
        Box::from(self.0.encapsulation_key().to_bytes().as_slice())
    }

    /// Writes the shared key to `out`. A ciphertext that was altered gives another key, not an error (FIPS 203's implicit
    /// rejection); the confirmations then differ.
    pub(crate) fn decapsulate(self, ciphertext: &[u8], out: &mut [u8; 32]) -> Result<(), Error> {
        let ciphertext: [u8; CIPHERTEXT] = exact(ciphertext, SharePart::Ciphertext)?;
        let mut shared = self.0.decapsulate(&Array::from(ciphertext));
        out.copy_from_slice(&shared);
        shared.zeroize();
        Ok(())
    }
}

/// Encapsulates to the source's key with FIPS 203's `m`: writes the shared key to `out` and returns the ciphertext.
pub(crate) fn encapsulate(
    key: &[u8],
    m: &[u8; 32],
    out: &mut [u8; 32],
) -> Result<Box<[u8]>, Error> {
    let key: [u8; ENCAPSULATION_KEY] = exact(key, SharePart::EncapsulationKey)?;
    let encoded = Array::from(key);
    let key = ml_kem_768::EncapsulationKey::new(&encoded).map_err(|_| Error::UnreducedKey)?;
    // FIPS 203, section 7.2: the modulus check. The crate makes it in `new`, as tests/it/shares.rs would notice; made here as
    // well because the crate is young, and it costs one encoding.
    if key.to_bytes() != encoded {
        return Err(Error::UnreducedKey);
    }
    let mut m = Array::from(*m);
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&m);
    out.copy_from_slice(&shared);
    shared.zeroize();
    m.zeroize();
    Ok(Box::from(ciphertext.as_slice()))
}
