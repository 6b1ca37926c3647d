//! Both ends of a session in one process, as they would be after an exchange over the control channel.

use sealift_seal::{
    Context as Agreed, Exporter, Initiator, Keyed, RamBlock, Receiver, Role, Seed, SessionId,
    Source, Suite, respond,
};

use crate::{Context, Error};

/// Both ends, which have agreed on their keys.
#[derive(Debug)]
pub struct BothEnds {
    /// The cipher suite.
    pub suite: Suite,
    /// The end that seals the guest.
    pub source: Keyed<Source>,
    /// The end that opens it.
    pub receiver: Keyed<Receiver>,
}

impl BothEnds {
    /// Lets both agree on a suite of this number, about a guest with these blocks. What TLS and the system would make at random comes
    /// from `random`.
    pub fn agree(
        suite: u16,
        blocks: &[RamBlock<'_>],
        mut random: impl FnMut(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let agreed = Agreed {
            source_hello: b"source",
            receiver_hello: b"receiver",
            offer: b"offer",
            choice: b"choice",
            admission: b"admission",
            verdict: b"verdict",
            source_certificate: b"source's",
            receiver_certificate: b"receiver's",
            tls_client: Role::Source,
            peer_name: b"host-b",
            guest_uuid: [0; 16],
            guest_name: b"guest",
            ram_blocks: blocks,
            offered: &[suite],
        };
        let (mut exported, mut session) = ([0; 32], [0; 16]);
        random(&mut exported)?;
        random(&mut session)?;
        let exporter = || {
            Exporter::fill(|bytes| {
                bytes.copy_from_slice(&exported);
                Ok::<_, Error>(())
            })
        };
        let mut seed = || Seed::fill(|bytes| random(bytes));

        let suite = Suite::choose(agreed.offered, &Suite::ALL).context("choosing a suite")?;
        let initiator = Initiator::new(suite, seed()?).context("the source's share")?;
        let receiver =
            respond(suite, seed()?, initiator.share()).context("the receiver's share")?;
        let source = initiator
            .exchange(receiver.share())
            .context("the exchange")?;
        let session = SessionId(session);
        let source = source
            .derive(exporter()?, session, &agreed)
            .context("deriving")?;
        let receiver = receiver
            .derive(exporter()?, session, &agreed)
            .context("deriving")?;
        let from_source = source.confirmation().context("confirming")?;
        let from_receiver = receiver.confirmation().context("confirming")?;
        Ok(Self {
            suite,
            source: source
                .confirm(from_receiver.as_bytes())
                .context("the source")?,
            receiver: receiver
                .confirm(from_source.as_bytes())
                .context("the receiver")?,
        })
    }
}
