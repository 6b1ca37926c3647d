//! Keys and sealed batches: from two ends' random seeds to bytes that may travel through a network nobody trusts.
//!
//! ```text
//!  suite ─▶ Initiator / respond ─▶ Exchanged ─▶ Unconfirmed ─▶ Keyed ─┬─▶ Sealer ═ sealed batches ═▶ Opener ─▶ Ledger
//!             shares go over       exporter,     confirmations        └─▶ one per lane, direction and epoch
//!             the control channel  transcript    go over it
//! ```
//!
//! `proto/WIRE.md`, sections 1 and 2, is the specification; `proto/vectors/` holds what a second implementation
//! makes of it. A stage consumes the one before it, so that a wrong order does not compile.
//!
//! No sockets, clock, threads or randomness in here: the crate is `no_std`, and seeds are handed in.
//!
//! # Known limits
//! - Seeds, shared secrets, PRK, lane keys (their expansion in `ring` too) and IVs are on the heap and zeroized when dropped,
//!   and the stack that the libraries used to make them is wiped. `tests/memory.rs` searches the whole process for each of them
//!   after a session and finds none, on the machines that it runs on: it proves nothing about another compiler, nor about
//!   values in between that have no name, nor about registers that the system saved.
//! - Sealing and opening do not wipe the stack, for speed. What they leave there is a batch's nonce, which for an epoch's
//!   first batch is the IV: no secret that the key depends on.
//! - What the caller keeps is the caller's to wipe: where a seed or an exporter value came from, and bodies.
//! - A batch that was replayed from another session, or altered, is told by its tag only: the two cannot be told apart.
//!
//! # One session
//! ```
//! use sealift_seal::*;
//! # fn fill<const N: usize>(byte: u8) -> impl FnOnce(&mut [u8; N]) -> Result<(), Error> {
//! #     move |bytes| { bytes.fill(byte); Ok(()) }
//! # }
//! # fn main() -> Result<(), Error> {
//! let context = Context {
//!     source_hello: b"as sent",
//!     receiver_hello: b"as sent",
//!     offer: b"as sent",
//!     choice: b"as sent",
//!     admission: b"as sent",
//!     verdict: b"as sent",
//!     source_certificate: b"DER",
//!     receiver_certificate: b"DER",
//!     tls_client: Role::Source,
//!     peer_name: b"host-b.example.org",
//!     guest_uuid: [7; 16],
//!     guest_name: b"db1",
//!     ram_blocks: &[RamBlock { name: b"pc.ram", length: 1 << 30, page_size: 4096 }],
//!     offered: &[0x0101, 0x0001],
//! };
//! let session = SessionId([1; 16]);
//! let suite = Suite::choose(context.offered, &Suite::ALL)?;
//!
//! let initiator = Initiator::new(suite, Seed::fill(fill(1))?)?;
//! let receiver = respond(suite, Seed::fill(fill(2))?, initiator.share())?;
//! let source = initiator.exchange(receiver.share())?;
//!
//! let source = source.derive(Exporter::fill(fill(3))?, session, &context)?;
//! let receiver = receiver.derive(Exporter::fill(fill(3))?, session, &context)?;
//! let (from_source, from_receiver) = (source.confirmation()?, receiver.confirmation()?);
//! let mut source = source.confirm(from_receiver.as_bytes())?;
//! let mut receiver = receiver.confirm(from_source.as_bytes())?;
//!
//! let mut sealer = source.sealer(0)?;
//! let mut opener = receiver.opener(0, sealer.epoch())?;
//! let mut ledger = Ledger::new();
//!
//! let mut batch = [0; Sealer::OVERHEAD + 5];
//! batch[Header::LENGTH..][..5].copy_from_slice(b"pages");
//! sealer.seal(0, &mut batch)?;
//!
//! let (header, sealed) = batch.split_first_chunk_mut().unwrap();
//! let checked = opener.check(header)?;
//! assert_eq!(checked.sealed_length(), sealed.len());
//! assert_eq!(opener.open(checked, sealed)?.accept(&mut ledger)?, b"pages");
//!
//! // The next epoch of the lane; the number of batches goes over the control channel.
//! let ended = sealer.end();
//! receiver.retire(opener.end(ended.batches())?)?;
//! source.retire(ended)?;
//! let sealer = source.sealer(0)?;
//! let opener = receiver.opener(0, sealer.epoch())?;
//! # Ok(())
//! # }
//! ```
//!
//! # Orders that do not compile
//! Sealing before the peer has confirmed:
//! ```compile_fail,E0599
//! # use sealift_seal::*;
//! fn early(mut keys: Unconfirmed<Source>) { let _ = keys.sealer(0); }
//! ```
//! Deriving before the peer's share is known:
//! ```compile_fail,E0599
//! # use sealift_seal::*;
//! fn early(keys: Initiator, exporter: Exporter, session: SessionId, context: &Context<'_>) {
//!     let _ = keys.derive(exporter, session, context);
//! }
//! ```
//! Using an ephemeral key for two exchanges:
//! ```compile_fail,E0382
//! # use sealift_seal::*;
//! fn twice(keys: Initiator, a: Share<'_>, b: Share<'_>) {
//!     let _ = keys.exchange(a);
//!     let _ = keys.exchange(b);
//! }
//! ```
//! An epoch of the receiver's own making:
//! ```compile_fail,E0061
//! # use sealift_seal::*;
//! fn allot(keys: &mut Keyed<Receiver>) { let _ = keys.sealer(0); }
//! ```
//! Reading a body before its batch number is proven:
//! ```compile_fail,E0616
//! # use sealift_seal::*;
//! fn peek(opened: Opened<'_, '_>) -> u8 { opened.body[0] }
//! ```
//! Opening twice under one header:
//! ```compile_fail,E0382
//! # use sealift_seal::*;
//! fn twice(opener: &mut Opener, checked: Checked, a: &mut [u8], b: &mut [u8]) {
//!     let _ = opener.open(checked, a);
//!     let _ = opener.open(checked, b);
//! }
//! ```
//! Opening what comes after an epoch's end:
//! ```compile_fail,E0382
//! # use sealift_seal::*;
//! fn late(mut opener: Opener, sealed: u64, header: &[u8; Header::LENGTH]) {
//!     let _ = opener.end(sealed);
//!     let _ = opener.check(header);
//! }
//! ```
#![no_std]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ecdh;
mod epoch;
mod error;
mod exchange;
mod header;
mod keyed;
mod lane_hello;
mod lanes;
mod ledger;
mod mlkem;
mod opener;
mod resumption;
mod role;
mod saved;
mod schedule;
mod sealer;
mod secret;
mod suite;
mod transcript;

#[cfg(test)]
mod tests;

pub use error::{Error, Fault, SharePart};
pub use exchange::{Exchanged, Initiator, Share, respond};
pub use header::{Header, MAX_BODY, TAG_LENGTH};
pub use keyed::{Keyed, Unconfirmed};
pub use lane_hello::LaneHelloKey;
pub use lanes::Ended;
pub use ledger::Ledger;
pub use opener::{Checked, Opened, Opener};
pub use resumption::Resumption;
pub use role::{Receiver, Role, Side, Source};
pub use saved::{RecipientKey, Saving};
pub use schedule::{Confirmation, SessionId};
pub use sealer::{Sealer, Unsealer};
pub use secret::{Exporter, Seed};
pub use suite::Suite;
pub use transcript::{Context, RamBlock, Return};
