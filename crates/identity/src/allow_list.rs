//! Who may bring guests here. The CA says who a peer is; this says whether that is enough.

use std::fmt;

use crate::name::{listed, printable};
use crate::peer::Peer;

/// The peers that a receiver takes sessions from. Empty, it takes none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowList(Who);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Who {
    Any,
    Named(Vec<String>),
}

impl Default for Who {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl AllowList {
    /// Peers with one of these names: DNS names without regard to case, addresses by value, common names of certificates that
    /// have nothing else. No wildcards.
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        Self(Who::Named(names.into_iter().collect()))
    }

    /// Every holder of a certificate that the CA signed for clients.
    #[must_use]
    pub const fn any() -> Self {
        Self(Who::Any)
    }

    /// Whether nobody is let in, which is never meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Who::Named(names) if names.is_empty())
    }

    /// Whether `peer` may bring a guest.
    ///
    /// # Errors
    /// When none of its names is on the list.
    pub fn admits(&self, peer: &Peer) -> Result<(), NotAllowed> {
        match &self.0 {
            Who::Named(names) if !names.iter().any(|name| peer.is(name)) => Err(NotAllowed {
                names: match &peer.names[..] {
                    [] => vec![peer.to_string()],
                    names => names.to_vec(),
                },
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Who::Any => f.write_str("every host with a certificate of the CA"),
            Who::Named(names) => {
                let names: Vec<_> = names.iter().map(|name| printable(name)).collect();
                f.write_str(&listed(&names))
            }
        }
    }
}

/// The peer is who it says, and may not bring guests here. The text can be sent to the peer: it says nothing about who may.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAllowed {
    names: Vec<String>,
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = listed(&self.names);
        write!(
            f,
            "{names} may not bring guests here: the receiver's operator can allow it (--allow NAME)"
        )
    }
}

impl std::error::Error for NotAllowed {}
