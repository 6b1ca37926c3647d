//! The transcript: what both ends must agree on before a key is used.
//!
//! ```text
//!  label: len (1) ‖ "sealift v1 transcript"
//!  field: be32 length ‖ bytes                       fields 1 to 12 and 15 to 19
//!  list:  be32 count ‖ (be32 length ‖ bytes) …      fields 13 and 14
//! ```
//!
//! Each end writes what it saw itself. The fields come in one fixed order and each with its length, so that no two
//! different handshakes have the same bytes.

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::exchange::Share;
use crate::role::Role;
use crate::suite::Suite;

/// What a caller knows about the session; the exchange adds the suite and the shares.
///
/// A message "as sent" is its `Envelope`, at the end that received it the bytes that came. What was taken from them for
/// the fields below stands there as well: that both ends read the same in them is part of what they agree on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The source's hello, as sent.
    pub source_hello: &'a [u8],
    /// The receiver's hello, as sent.
    pub receiver_hello: &'a [u8],
    /// The source's offer, as sent.
    pub offer: &'a [u8],
    /// The receiver's choice, as sent.
    pub choice: &'a [u8],
    /// The source's admission, as sent.
    pub admission: &'a [u8],
    /// The receiver's verdict, as sent.
    pub verdict: &'a [u8],
    /// The source's leaf certificate, DER.
    pub source_certificate: &'a [u8],
    /// The receiver's leaf certificate, DER.
    pub receiver_certificate: &'a [u8],
    /// Which end was the TLS client.
    pub tls_client: Role,
    /// The peer name that the source asked for.
    pub peer_name: &'a [u8],
    /// The guest's UUID.
    pub guest_uuid: [u8; 16],
    /// The guest's name.
    pub guest_name: &'a [u8],
    /// The guest's RAM blocks, in the admission's order.
    pub ram_blocks: &'a [RamBlock<'a>],
    /// The suites that the source offered, in its order and with the unknown ones.
    pub offered: &'a [u16],
}

/// What a caller knows about a session that is taken up again. What was agreed on at first stays agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Return<'a> {
    /// The source's hello, as sent.
    pub source_hello: &'a [u8],
    /// The receiver's hello, as sent.
    pub receiver_hello: &'a [u8],
    /// The source's leaf certificate, DER.
    pub source_certificate: &'a [u8],
    /// The receiver's leaf certificate, DER.
    pub receiver_certificate: &'a [u8],
    /// Which end was the TLS client.
    pub tls_client: Role,
}

/// A RAM block as admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamBlock<'a> {
    /// QEMU's name for it.
    pub name: &'a [u8],
    /// Its length in bytes.
    pub length: u64,
    /// Its page size in bytes.
    pub page_size: u64,
}

/// What the exchange adds.
pub(crate) struct Shares<'a> {
    pub(crate) suite: Suite,
    pub(crate) source: Share<'a>,
    pub(crate) receiver: Share<'a>,
}

impl Context<'_> {
    pub(crate) fn hash(&self, shares: &Shares<'_>) -> Result<[u8; 32], Error> {
        let mut hash = Sha256::new();
        self.write(shares, &mut |bytes| hash.update(bytes))?;
        Ok(hash.finalize().into())
    }

    pub(crate) fn write(
        &self,
        shares: &Shares<'_>,
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut out = Writer { sink };
        (out.sink)(LABEL);
        out.field("source hello", &[self.source_hello])?;
        out.field("receiver hello", &[self.receiver_hello])?;
        out.field("offer", &[self.offer])?;
        out.field("choice", &[self.choice])?;
        out.field("admission", &[self.admission])?;
        out.field("verdict", &[self.verdict])?;
        out.field("source certificate", &[self.source_certificate])?;
        out.field("receiver certificate", &[self.receiver_certificate])?;
        out.field("tls client", &[&[self.tls_client.number()]])?;
        out.field("peer name", &[self.peer_name])?;
        out.field("guest uuid", &[&self.guest_uuid])?;
        out.field("guest name", &[self.guest_name])?;
        out.count("ram blocks", self.ram_blocks.len())?;
        for block in self.ram_blocks {
            out.field(
                "ram block",
                &[
                    &block.length.to_be_bytes(),
                    &block.page_size.to_be_bytes(),
                    block.name,
                ],
            )?;
        }
        out.count("offered suites", self.offered.len())?;
        for suite in self.offered {
            out.field("offered suite", &[&suite.to_be_bytes()])?;
        }
        out.shares(shares)
    }
}

impl Return<'_> {
    pub(crate) fn hash(&self, first: &[u8; 32], shares: &Shares<'_>) -> Result<[u8; 32], Error> {
        let mut hash = Sha256::new();
        self.write(first, shares, &mut |bytes| hash.update(bytes))?;
        Ok(hash.finalize().into())
    }

    pub(crate) fn write(
        &self,
        first: &[u8; 32],
        shares: &Shares<'_>,
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut out = Writer { sink };
        (out.sink)(RETURN_LABEL);
        out.field("first transcript", &[first])?;
        out.field("source hello", &[self.source_hello])?;
        out.field("receiver hello", &[self.receiver_hello])?;
        out.field("source certificate", &[self.source_certificate])?;
        out.field("receiver certificate", &[self.receiver_certificate])?;
        out.field("tls client", &[&[self.tls_client.number()]])?;
        out.shares(shares)
    }
}

/// The label as the wire writes it: the length in one byte, then ASCII.
const LABEL: &[u8] = b"\x15sealift v1 transcript";
const RETURN_LABEL: &[u8] = b"\x11sealift v1 return";

struct Writer<'a, F> {
    sink: &'a mut F,
}

impl<F: FnMut(&[u8])> Writer<'_, F> {
    fn shares(&mut self, shares: &Shares<'_>) -> Result<(), Error> {
        self.field("chosen suite", &[&shares.suite.number().to_be_bytes()])?;
        self.field("source share", &[shares.source.ecdh])?;
        self.field("receiver share", &[shares.receiver.ecdh])?;
        self.field("encapsulation key", &[shares.source.mlkem])?;
        self.field("ciphertext", &[shares.receiver.mlkem])
    }

    fn field(&mut self, name: &'static str, parts: &[&[u8]]) -> Result<(), Error> {
        self.count(name, parts.iter().map(|part| part.len()).sum())?;
        for part in parts {
            (self.sink)(part);
        }
        Ok(())
    }

    fn count(&mut self, field: &'static str, count: usize) -> Result<(), Error> {
        let count = u32::try_from(count).map_err(|_| Error::FieldTooLong { field })?;
        (self.sink)(&count.to_be_bytes());
        Ok(())
    }
}
