//! The key schedule.
//!
//! ```text
//!            ecdh ‖ mlkem
//!                 │
//!  exporter ─▶ Extract ─▶ PRK ─┬─▶ Expand "sealift v1 lane"    ‖ session ‖ T ‖ lane ‖ direction ‖ epoch ─▶ key ‖ IV
//!                              ├─▶ Expand "sealift v1 confirm" ‖ session ‖ T ‖ role ─▶ confirmation
//!                              ├─▶ Expand "sealift v1 lane hello" ‖ session ‖ T ─▶ the key of lanes' hellos
//!                              └─▶ Expand "sealift v1 resumption" ‖ session ‖ T ─▶ the resumption secret
//! ```
//!
//! `T` is the hash of the [transcript](crate::transcript). HKDF is with SHA-256. After a broken connection the [resumption secret](crate::resumption)
//! joins `ecdh ‖ mlkem`.

use alloc::boxed::Box;
use core::fmt;

use hkdf::Hkdf;
use ring::aead;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::epoch::Epoch;
use crate::error::Error;
use crate::lane_hello::LaneHelloKey;
use crate::resumption::Resumption;
use crate::role::{Direction, Role};
use crate::secret::{Exporter, Secret, scrubbed};

/// The session's id, the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// An end's proof that it derived the same keys from the same transcript. Not a secret once it is sent.
#[derive(Clone, Copy)]
pub struct Confirmation([u8; 32]);

/// A PRK and what its expansions are bound to.
pub(crate) struct Schedule {
    prk: Secret<32>,
    session: SessionId,
    transcript: [u8; 32],
}

impl Schedule {
    pub(crate) fn extract(
        exporter: &Exporter,
        input: &[u8],
        session: SessionId,
        transcript: [u8; 32],
    ) -> Self {
        Self {
            prk: scrubbed(|| {
                let mut prk = Secret::zero();
                let (extracted, _) = Hkdf::<Sha256>::extract(Some(exporter.bytes()), input);
                prk.bytes_mut().copy_from_slice(&extracted);
                prk
            }),
            session,
            transcript,
        }
    }

    pub(crate) fn epoch(&self, lane: u8, direction: Direction, epoch: u32) -> Result<Epoch, Error> {
        scrubbed(|| {
            let output = self.lane(lane, direction, epoch)?;
            let (key, iv) = output.split_at(KEY);
            let key =
                aead::UnboundKey::new(&aead::AES_256_GCM, key).map_err(|_| Error::Library {
                    operation: "an AES-256-GCM key of 32 bytes",
                })?;
            let mut epoch = Epoch::new(lane, epoch, Box::new(aead::LessSafeKey::new(key)));
            epoch.iv_mut().copy_from_slice(iv);
            Ok(epoch)
        })
    }

    pub(crate) fn lane(
        &self,
        lane: u8,
        direction: Direction,
        epoch: u32,
    ) -> Result<Zeroizing<[u8; KEY + IV]>, Error> {
        let mut output = Zeroizing::new([0; KEY + IV]);
        self.expand(
            LANE_LABEL,
            &[
                &u16::from(lane).to_be_bytes(),
                &[direction.number()],
                &epoch.to_be_bytes(),
            ],
            output.as_mut_slice(),
        )?;
        Ok(output)
    }

    pub(crate) fn confirmation(&self, role: Role) -> Result<Confirmation, Error> {
        scrubbed(|| {
            let mut output = [0; 32];
            self.expand(CONFIRM_LABEL, &[&[role.number()], &[], &[]], &mut output)?;
            Ok(Confirmation(output))
        })
    }

    pub(crate) fn lane_hello(&self) -> Result<LaneHelloKey, Error> {
        scrubbed(|| {
            let mut key = Secret::zero();
            self.expand(LANE_HELLO_LABEL, &[&[], &[], &[]], key.bytes_mut())?;
            Ok(LaneHelloKey::new(key))
        })
    }

    pub(crate) fn resumption(&self) -> Result<Resumption, Error> {
        scrubbed(|| {
            let mut secret = Secret::zero();
            self.expand(RESUMPTION_LABEL, &[&[], &[], &[]], secret.bytes_mut())?;
            Ok(Resumption::new(secret, self.transcript))
        })
    }

    fn expand(&self, label: &[u8], tail: &[&[u8]; 3], output: &mut [u8]) -> Result<(), Error> {
        let too_much = Error::Library {
            operation: "an expansion of at most 44 bytes",
        };
        Hkdf::<Sha256>::from_prk(self.prk.bytes())
            .map_err(|_| Error::Library {
                operation: "a PRK of 32 bytes",
            })?
            .expand_multi_info(
                &[
                    label,
                    &self.session.0,
                    &self.transcript,
                    tail[0],
                    tail[1],
                    tail[2],
                ],
                output,
            )
            .map_err(|_| too_much)
    }

    #[cfg(test)]
    pub(crate) fn prk(&self) -> &[u8; 32] {
        self.prk.bytes()
    }
}

impl Confirmation {
    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn matches(&self, peer: &[u8]) -> bool {
        self.0.as_slice().ct_eq(peer).into()
    }
}

/// AES-256.
const KEY: usize = 32;
/// The nonce of AES-GCM.
const IV: usize = aead::NONCE_LEN;

// Labels as the wire writes them: the length in one byte, then ASCII.
const LANE_LABEL: &[u8] = b"\x0fsealift v1 lane";
const LANE_HELLO_LABEL: &[u8] = b"\x15sealift v1 lane hello";
const RESUMPTION_LABEL: &[u8] = b"\x15sealift v1 resumption";
const CONFIRM_LABEL: &[u8] = b"\x12sealift v1 confirm";

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confirmation(..)")
    }
}
