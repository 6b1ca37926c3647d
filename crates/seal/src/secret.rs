//! Secrets that are handed in or derived: on the heap, zeroized when dropped, never printed.
//!
//! They are boxed so that moving one moves a pointer and leaves no copy of the bytes on the stack, and filled in
//! place for the same reason. What the cryptographic libraries pass by value does cross the stack: whoever calls them with
//! a secret does so [`scrubbed`].

use alloc::boxed::Box;
use core::fmt;

use zeroize::{Zeroize, Zeroizing};

/// The randomness for one end of one exchange: used once, then zeroized.
///
/// ```text
///  0                 32                64                96               128
///  +-----------------+-----------------+-----------------+-----------------+
///  | X25519 secret, or the two         | ML-KEM: d ‖ z (source),           |
///  | candidates for a P-256 scalar     | m (receiver, first 32 bytes)      |
///  +-----------------+-----------------+-----------------+-----------------+
/// ```
pub struct Seed(Secret<{ Self::LENGTH }>);

/// The TLS 1.3 exporter value of the control channel: label [`Exporter::LABEL`], no context.
pub struct Exporter(Secret<{ Self::LENGTH }>);

/// `N` secret bytes.
pub(crate) struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl Seed {
    /// Enough for the hungriest suite.
    pub const LENGTH: usize = 64 + 64;

    /// Takes the randomness in place, from the system's generator, say.
    ///
    /// # Errors
    /// What `fill` returns.
    pub fn fill<E>(fill: impl FnOnce(&mut [u8; Self::LENGTH]) -> Result<(), E>) -> Result<Self, E> {
        Secret::fill(fill).map(Self)
    }

    pub(crate) fn ecdh(&self) -> (&[u8; 32], &[u8; 32]) {
        halves(self.parts().0)
    }

    pub(crate) fn mlkem(&self) -> &[u8; 64] {
        self.parts().1
    }

    pub(crate) fn mlkem_message(&self) -> &[u8; 32] {
        halves(self.mlkem()).0
    }

    fn parts(&self) -> (&[u8; 64], &[u8; 64]) {
        let (ecdh, mlkem) = self.0.bytes().as_chunks::<64>().0.split_at(1);
        (&ecdh[0], &mlkem[0])
    }
}

impl Exporter {
    /// 32 bytes, the output of SHA-256 that salts the extraction.
    pub const LENGTH: usize = 32;

    /// The exporter's label.
    pub const LABEL: &'static [u8] = b"EXPORTER-sealift-v1";

    /// Takes the value in place.
    ///
    /// # Errors
    /// What `fill` returns.
    pub fn fill<E>(fill: impl FnOnce(&mut [u8; Self::LENGTH]) -> Result<(), E>) -> Result<Self, E> {
        Secret::fill(fill).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::LENGTH] {
        self.0.bytes()
    }
}

impl<const N: usize> Secret<N> {
    pub(crate) fn zero() -> Self {
        Self(Box::new(Zeroizing::new([0; N])))
    }

    pub(crate) fn fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self::zero();
        fill(secret.bytes_mut()).map(|()| secret)
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

/// Does `work` and then wipes the stack that it used, so that no secret stays behind in frames that are gone.
///
/// The result itself crosses the caller's frame: it holds its secrets boxed.
pub(crate) fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let result = below(work);
    wipe();
    result
}

/// A frame of its own, so that `work` cannot be inlined to where `wipe` does not reach.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Overlays the frames that `below` left. Volatile writes, which the compiler may not leave out.
#[inline(never)]
fn wipe() {
    [0_u64; STACK / size_of::<u64>()].zeroize();
}

/// Four times what `tests/memory.rs` needs to find nothing, optimized or not: 16 KiB, for ML-KEM-768 with its matrices on the
/// stack. Wiping costs microseconds, a few times in a session.
const STACK: usize = 64 << 10;

fn halves(bytes: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (first, second) = bytes.as_chunks::<32>().0.split_at(1);
    (&first[0], &second[0])
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(..)")
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
