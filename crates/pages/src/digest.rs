//! The digest over what a batch puts into the guest: contents and addresses, resolved.
//!
//! ```text
//!   digest = H( H(contents) ‖ H(addresses) )
//!
//!   contents    page ‖ page ‖ …                                        all that are not zero records
//!   addresses   be16 block ‖ 0 ‖ be64 first page ‖ be64 run            a run of zeros
//!               be16 block ‖ 1 ‖ be64 page                             any other page
//! ```
//!
//! It looks through same-as, delta and compression: it proves that what is placed is what was read, however it
//! travelled.

use core::fmt;

use sha2::Digest as _;

use crate::layout::{Address, PageSize};
use crate::patch::WrongLength;

/// The length of a digest, the same for each algorithm.
pub const DIGEST_LEN: usize = 32;

/// How a digest is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// SHA-256: always there.
    Sha256,
    /// BLAKE3: where both ends have it.
    Blake3,
}

impl Algorithm {
    /// The algorithm that a number of `proto/WIRE.md` §3 stands for.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Sha256),
            2 => Some(Self::Blake3),
            _ => None,
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Blake3 => 2,
        }
    }
}

/// A digest and how it was made.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Digest {
    /// How.
    pub algorithm: Algorithm,
    /// The digest.
    pub value: [u8; DIGEST_LEN],
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever guesses a page could check the guess against its digest.
        f.debug_struct("Digest")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The digest of a batch in the making. Pages go in in record order, groups in their place.
#[derive(Clone)]
pub struct PageDigest {
    contents: Hasher,
    addresses: Hasher,
    page_size: PageSize,
}

impl PageDigest {
    /// The digest of no pages yet.
    #[must_use]
    pub fn new(algorithm: Algorithm, page_size: PageSize) -> Self {
        Self {
            page_size,
            contents: Hasher::new(algorithm),
            addresses: Hasher::new(algorithm),
        }
    }

    /// A zero record.
    pub fn zero(&mut self, first: Address, run: u64) {
        let mut bytes = [0; 19];
        bytes[..2].copy_from_slice(&first.block.to_be_bytes());
        bytes[3..11].copy_from_slice(&first.page.to_be_bytes());
        bytes[11..].copy_from_slice(&run.to_be_bytes());
        self.addresses.update(&bytes);
    }

    /// Any other page record, with the content that the page gets.
    ///
    /// # Errors
    /// When the content is not a page; it does not count then.
    pub fn page(&mut self, page: Address, content: &[u8]) -> Result<(), WrongLength> {
        WrongLength::check(self.page_size.bytes(), content.len())?;
        self.address(page);
        self.contents(content);
        Ok(())
    }

    /// The address half of a page; its content follows, alone or with others in the same order.
    pub(crate) fn address(&mut self, page: Address) {
        let mut bytes = [0; 11];
        bytes[..2].copy_from_slice(&page.block.to_be_bytes());
        bytes[2] = 1;
        bytes[3..].copy_from_slice(&page.page.to_be_bytes());
        self.addresses.update(&bytes);
    }

    /// Contents of pages, back to back.
    pub(crate) fn contents(&mut self, contents: &[u8]) {
        self.contents.update(contents);
    }

    /// The digest of all that went in.
    #[must_use]
    pub fn finish(self) -> Digest {
        let algorithm = self.contents.algorithm();
        let mut outer = Hasher::new(algorithm);
        outer.update(&self.contents.finish());
        outer.update(&self.addresses.finish());
        Digest {
            algorithm,
            value: outer.finish(),
        }
    }
}

impl fmt::Debug for PageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state is derived from guest memory and stays out of logs.
        f.debug_struct("PageDigest")
            .field("algorithm", &self.contents.algorithm())
            .finish_non_exhaustive()
    }
}

/// A digest of plain bytes in the making.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack, twice a batch; a box would allocate"
)]
enum State {
    Sha256(sha2::Sha256),
    Blake3(blake3::Hasher),
}

impl Hasher {
    /// The digest of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Blake3 => State::Blake3(blake3::Hasher::new()),
        })
    }

    const fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> [u8; DIGEST_LEN] {
        match self.0 {
            State::Sha256(hasher) => hasher.finalize().into(),
            State::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As for PageDigest.
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}
