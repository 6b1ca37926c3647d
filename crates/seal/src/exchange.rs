//! The exchange of shares, up to the key schedule.
//!
//! ```text
//!  source                                                     receiver
//!  Initiator::new(suite, seed)
//!      │ share ────────────── ECDH ‖ ML-KEM key ─────────────▶ respond(suite, seed, share)
//!      │                                                           │
//!  Initiator::exchange(share) ◀── ECDH ‖ ML-KEM ciphertext ── Exchanged::share
//!      ▼                                                           ▼
//!  Exchanged<Source>                                          Exchanged<Receiver>
//!      └──────────▶ derive(exporter, session, context) ◀───────────┘     or resume, after a broken connection
//!                              Unconfirmed
//! ```
//!
//! Each stage consumes the one before, so that no ephemeral key is used twice.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;

use crate::ecdh::EcdhKey;
use crate::error::{Error, SharePart};
use crate::keyed::Unconfirmed;
use crate::mlkem::{self, MlKemKey};
use crate::resumption::Resumption;
use crate::role::{Receiver, Role, Side, Source};
use crate::schedule::{Schedule, SessionId};
use crate::secret::{Exporter, Secret, Seed, scrubbed};
use crate::suite::Suite;
use crate::transcript::{Context, Return, Shares};

/// The source before the receiver has answered.
pub struct Initiator {
    suite: Suite,
    ecdh: EcdhKey,
    mlkem: Option<MlKemKey>,
    share: OwnedShare,
}

/// An end's public share, as the control channel carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The X25519 or P-256 share.
    pub ecdh: &'a [u8],
    /// The ML-KEM encapsulation key (source) or ciphertext (receiver); empty when not in the suite.
    pub mlkem: &'a [u8],
}

/// Both shares are known and the secrets agreed; nothing is derived yet.
pub struct Exchanged<S> {
    suite: Suite,
    /// ECDH ‖ ML-KEM; without ML-KEM the second half stays zero and is not used.
    agreed: Secret<64>,
    source: OwnedShare,
    receiver: OwnedShare,
    side: PhantomData<S>,
}

impl Initiator {
    /// Makes the source's ephemeral keys.
    ///
    /// # Errors
    /// [`Error::Seed`].
    #[expect(clippy::needless_pass_by_value, reason = "a seed is used once")]
    pub fn new(suite: Suite, seed: Seed) -> Result<Self, Error> {
        scrubbed(|| {
            let ecdh = EcdhKey::from_seed(suite.group(), &seed)?;
            let mlkem = suite.has_mlkem().then(|| MlKemKey::from_seed(seed.mlkem()));
            let share = OwnedShare {
                ecdh: ecdh.share(),
                mlkem: mlkem
                    .as_ref()
                    .map(MlKemKey::encapsulation_key)
                    .unwrap_or_default(),
            };
            Ok(Self {
                suite,
                ecdh,
                mlkem,
                share,
            })
        })
    }

    /// What the receiver needs.
    #[must_use]
    pub fn share(&self) -> Share<'_> {
        self.share.borrow()
    }

    /// Agrees on the secrets, with the receiver's share as it came.
    ///
    /// # Errors
    /// The refusals of a share: [`Error::ShareLength`], [`Error::LowOrderShare`], [`Error::PointForm`],
    /// [`Error::PointOffCurve`].
    pub fn exchange(self, receiver: Share<'_>) -> Result<Exchanged<Source>, Error> {
        scrubbed(|| {
            let mut agreed = Secret::zero();
            let (ecdh, mlkem) = halves(&mut agreed);
            self.ecdh.agree(receiver.ecdh, ecdh)?;
            match self.mlkem {
                Some(key) => key.decapsulate(receiver.mlkem, mlkem)?,
                None => absent(receiver.mlkem, SharePart::Ciphertext)?,
            }
            Ok(Exchanged {
                suite: self.suite,
                agreed,
                source: self.share,
                receiver: OwnedShare::copy(receiver),
                side: PhantomData,
            })
        })
    }
}

/// The receiver's whole part: makes its ephemeral keys and agrees on the secrets, with the source's share as it came.
///
/// # Errors
/// [`Error::Seed`] and the refusals of a share: [`Error::ShareLength`], [`Error::LowOrderShare`],
/// [`Error::PointForm`], [`Error::PointOffCurve`], [`Error::UnreducedKey`].
#[expect(clippy::needless_pass_by_value, reason = "a seed is used once")]
pub fn respond(suite: Suite, seed: Seed, source: Share<'_>) -> Result<Exchanged<Receiver>, Error> {
    scrubbed(|| {
        let key = EcdhKey::from_seed(suite.group(), &seed)?;
        let share = key.share();
        let mut agreed = Secret::zero();
        let (ecdh, mlkem) = halves(&mut agreed);
        key.agree(source.ecdh, ecdh)?;
        let ciphertext = if suite.has_mlkem() {
            mlkem::encapsulate(source.mlkem, seed.mlkem_message(), mlkem)?
        } else {
            absent(source.mlkem, SharePart::EncapsulationKey)?;
            Box::default()
        };
        Ok(Exchanged {
            suite,
            agreed,
            source: OwnedShare::copy(source),
            receiver: OwnedShare {
                ecdh: share,
                mlkem: ciphertext,
            },
            side: PhantomData,
        })
    })
}

impl<S: Side> Exchanged<S> {
    /// This end's share, which the peer needs.
    #[must_use]
    pub fn share(&self) -> Share<'_> {
        match S::ROLE {
            Role::Source => self.source.borrow(),
            Role::Receiver => self.receiver.borrow(),
        }
    }

    /// Derives the session's keys. The suite and both shares join `context` in the transcript here.
    ///
    /// # Errors
    /// [`Error::SuiteNotOffered`], [`Error::FieldTooLong`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an exporter value salts one exchange"
    )]
    pub fn derive(
        self,
        exporter: Exporter,
        session: SessionId,
        context: &Context<'_>,
    ) -> Result<Unconfirmed<S>, Error> {
        if !context.offered.contains(&self.suite.number()) {
            return Err(Error::SuiteNotOffered {
                chosen: self.suite,
                refusing: S::ROLE,
            });
        }
        let transcript = context.hash(&self.shares())?;
        Ok(Unconfirmed::new(Schedule::extract(
            &exporter,
            self.input_key_material(),
            session,
            transcript,
        )))
    }

    /// Derives keys for a session that is taken up again, of which the first exchange has left `resumption`.
    ///
    /// # Errors
    /// [`Error::FieldTooLong`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an exporter value salts one exchange"
    )]
    pub fn resume(
        self,
        exporter: Exporter,
        session: SessionId,
        resumption: &Resumption,
        context: &Return<'_>,
    ) -> Result<Unconfirmed<S>, Error> {
        let transcript = context.hash(resumption.transcript(), &self.shares())?;
        let agreed = self.input_key_material();
        let mut input = Secret::<96>::zero();
        let both = agreed.iter().chain(resumption.secret());
        for (byte, from) in input.bytes_mut().iter_mut().zip(both) {
            *byte = *from;
        }
        let length = agreed.len() + resumption.secret().len();
        Ok(Unconfirmed::new(Schedule::extract(
            &exporter,
            &input.bytes()[..length],
            session,
            transcript,
        )))
    }

    pub(crate) fn shares(&self) -> Shares<'_> {
        Shares {
            suite: self.suite,
            source: self.source.borrow(),
            receiver: self.receiver.borrow(),
        }
    }

    pub(crate) fn input_key_material(&self) -> &[u8] {
        let agreed = self.agreed.bytes();
        if self.suite.has_mlkem() {
            agreed
        } else {
            &agreed[..32]
        }
    }
}

#[derive(Debug)]
struct OwnedShare {
    ecdh: Box<[u8]>,
    mlkem: Box<[u8]>,
}

impl OwnedShare {
    fn copy(share: Share<'_>) -> Self {
        Self {
            ecdh: Box::from(share.ecdh),
            mlkem: Box::from(share.mlkem),
        }
    }

    fn borrow(&self) -> Share<'_> {
        Share {
            ecdh: &self.ecdh,
            mlkem: &self.mlkem,
        }
    }
}

fn absent(bytes: &[u8], part: SharePart) -> Result<(), Error> {
    match bytes.len() {
        0 => Ok(()),
        found => Err(Error::ShareLength {
            part,
            expected: 0,
            found,
        }),
    }
}

fn halves(agreed: &mut Secret<64>) -> (&mut [u8; 32], &mut [u8; 32]) {
    let (ecdh, mlkem) = agreed.bytes_mut().as_chunks_mut::<32>().0.split_at_mut(1);
    (&mut ecdh[0], &mut mlkem[0])
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Exchanged<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanged")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
