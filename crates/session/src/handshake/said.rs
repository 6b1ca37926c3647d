//! What was said so far, byte by byte, because all of it goes into the transcript; and what follows from it.

use alloc::vec::Vec;
use core::fmt;

use sealift_pages::{
    Agreed as Terms, Algorithm, CONTENT_MAX, Codec, Codecs, Layout, WINDOW_MEMORY,
};
use sealift_seal::{self as seal, Context, Exchanged, RamBlock, Side, Suite, Unconfirmed};

use super::{Reason, Secured};
use crate::control::{
    Admission, Bytes, Choice, Frame, Hello, Message, Offer, Role, SessionId, Shares, Text,
};

/// The two hellos, and the connection that they came by.
pub(super) struct Said {
    pub(super) secured: Secured,
    pub(super) session: SessionId,
    pub(super) peer_name: Text<255>,
    pub(super) peer_software: Option<Text<255>>,
    pub(super) source_hello: Vec<u8>,
    pub(super) receiver_hello: Vec<u8>,
}

/// An offer and the choice of it.
pub(super) struct Settled {
    pub(super) offer: Offer,
    pub(super) offer_sent: Vec<u8>,
    pub(super) choice: Choice,
    pub(super) choice_sent: Vec<u8>,
    pub(super) suite: Suite,
}

/// A guest, and that it may come.
pub(super) struct Guest {
    pub(super) admission: Admission,
    pub(super) admission_sent: Vec<u8>,
    pub(super) memory_free: u64,
    pub(super) verdict_sent: Vec<u8>,
}

/// All that the keys are derived from and bound to, but the shares.
pub(super) struct Whole {
    pub(super) said: Said,
    pub(super) settled: Settled,
    pub(super) guest: Guest,
}

impl Whole {
    /// Keys that the peer has not confirmed yet.
    pub(super) fn derive<S: Side>(
        self,
        exchanged: Exchanged<S>,
        here: Role,
    ) -> Result<(Unconfirmed<S>, Terminus), Reason> {
        let Self {
            said,
            settled,
            guest,
        } = self;
        let found = settled.choice.digest;
        let digest = Algorithm::from_wire(found).ok_or(Reason::Digest { found })?;
        let layout = layout(&settled, &guest.admission, digest)?;
        let Secured {
            exporter,
            own_certificate,
            peer_certificate,
        } = said.secured;
        let (source_certificate, receiver_certificate) = match here {
            Role::Source => (&own_certificate, &peer_certificate),
            Role::Receiver => (&peer_certificate, &own_certificate),
        };
        let blocks: Vec<_> = guest
            .admission
            .blocks
            .as_slice()
            .iter()
            .map(|block| RamBlock {
                name: block.name(),
                length: block.length(),
                page_size: block.page_size(),
            })
            .collect();
        let context = Context {
            source_hello: &said.source_hello,
            receiver_hello: &said.receiver_hello,
            offer: &settled.offer_sent,
            choice: &settled.choice_sent,
            admission: &guest.admission_sent,
            verdict: &guest.verdict_sent,
            source_certificate,
            receiver_certificate,
            // The source opens the connection.
            tls_client: seal::Role::Source,
            peer_name: said.peer_name.as_str().as_bytes(),
            guest_uuid: guest.admission.uuid,
            guest_name: guest.admission.name.as_str().as_bytes(),
            ram_blocks: &blocks,
            offered: settled.offer.suites.as_slice(),
        };
        let keys = exchanged
            .derive(exporter, seal::SessionId(said.session.0), &context)
            .map_err(Reason::Keys)?;
        let terminus = Terminus {
            session: said.session,
            suite: settled.suite,
            digest,
            layout,
            offer: settled.offer,
            choice: settled.choice,
            admission: guest.admission,
            memory_free: guest.memory_free,
            peer_name: said.peer_name,
            peer_certificate,
            peer_software: said.peer_software,
        };
        Ok((keys, terminus))
    }
}

/// [`super::Agreed`] without its keys.
pub(super) struct Terminus {
    session: SessionId,
    suite: Suite,
    digest: Algorithm,
    layout: Layout,
    offer: Offer,
    choice: Choice,
    admission: Admission,
    memory_free: u64,
    peer_name: Text<255>,
    peer_certificate: Vec<u8>,
    peer_software: Option<Text<255>>,
}

impl Terminus {
    /// The end of the handshake, if the peer's confirmation is the expected one.
    pub(super) fn confirm<S: Side>(
        self,
        keys: Unconfirmed<S>,
        confirmation: &[u8; 32],
    ) -> Result<super::Agreed<S>, Reason> {
        Ok(super::Agreed {
            keyed: keys.confirm(confirmation).map_err(Reason::Keys)?,
            session: self.session,
            suite: self.suite,
            digest: self.digest,
            layout: self.layout,
            offer: self.offer,
            choice: self.choice,
            admission: self.admission,
            memory_free: self.memory_free,
            peer_name: self.peer_name,
            peer_certificate: self.peer_certificate,
            peer_software: self.peer_software,
        })
    }
}

/// The hello of an end that knows one version and takes up no session.
pub(super) fn hello(
    role: Role,
    session: SessionId,
    software: Option<Text<255>>,
    peer_name: Option<Text<255>>,
) -> Hello {
    Hello {
        wire_versions: super::WIRE_VERSION.into(),
        role,
        session,
        resume: false,
        software,
        peer_name,
    }
}

/// This end's share, as a message.
pub(super) fn shares(share: seal::Share<'_>) -> Result<Frame, Reason> {
    let shares = Shares {
        ecdh: Bytes::new("Shares.ecdh", share.ecdh.to_vec()).map_err(Reason::Own)?,
        mlkem: Bytes::new("Shares.mlkem", share.mlkem.to_vec()).map_err(Reason::Own)?,
    };
    Ok(Frame::of(Message::Shares(shares)))
}

/// The peer's share, as the exchange takes it.
pub(super) fn share(shares: &Shares) -> seal::Share<'_> {
    seal::Share {
        ecdh: shares.ecdh.as_slice(),
        mlkem: shares.mlkem.as_slice(),
    }
}

/// This end's confirmation, as a message.
pub(super) fn confirmation<S: Side>(keys: &Unconfirmed<S>) -> Result<Frame, Reason> {
    let confirmation = keys.confirmation().map_err(Reason::Keys)?;
    Ok(Frame::of(Message::Confirmation(*confirmation.as_bytes())))
}

/// Takes the one kind of message that is due out of what came, or returns why not.
macro_rules! due {
    ($received:ident, $kind:ident, $here:expr) => {
        match $received.message {
            $crate::control::Message::$kind(message) => message,
            other => return Err(Failed::unexpected($here, stringify!($kind), other)),
        }
    };
}
pub(super) use due;

/// Stages hold messages, certificates and secrets: none of that is for a log.
macro_rules! opaque {
    ($($stage:ty),+) => {
        $(impl core::fmt::Debug for $stage {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($stage), "(..)"))
            }
        })+
    };
}
pub(super) use opaque;

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole(..)")
    }
}

/// What a batch's records are checked against.
fn layout(settled: &Settled, admission: &Admission, digest: Algorithm) -> Result<Layout, Reason> {
    let page_size = settled.offer.page_size;
    let pages = admission
        .blocks
        .as_slice()
        .iter()
        .map(|block| block.length() / page_size.bytes() as u64)
        .collect();
    let layout = Layout::new(page_size, pages).map_err(Reason::Layout)?;
    Ok(layout.with_agreed(Terms {
        digest,
        codecs: codecs(settled.choice.codecs.as_slice()),
        // What a window takes is counted alike at both ends.
        windows: settled.choice.mirror.windows() / WINDOW_MEMORY,
        // Each batch that is kept for references takes up to so much.
        oldest: settled.choice.mirror.slots() / CONTENT_MAX,
    }))
}

/// The codecs of these numbers, as WIRE.md §3 has them; those that are not known are passed over.
pub(crate) fn codecs(numbers: &[u8]) -> Codecs {
    numbers
        .iter()
        .filter_map(|&number| Codec::from_wire(number))
        .fold(Codecs::NONE, Codecs::and)
}
