//! The two ends of a session, as values for the wire and as types for the stages.

use crate::keyed::Allotted;

/// An end of the session, as the wire names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where the guest runs at the beginning.
    Source,
    /// Where it is to run.
    Receiver,
}

/// Which way a lane carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToReceiver,
    ToSource,
}

/// The end that a stage belongs to: [`Source`] or [`Receiver`], nothing else.
pub trait Side: sealed::Side {}

/// Marks the source's stages.
#[derive(Debug)]
pub enum Source {}

/// Marks the receiver's stages.
#[derive(Debug)]
pub enum Receiver {}

impl Role {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Source => 0,
            Self::Receiver => 1,
        }
    }

    pub(crate) const fn peer(self) -> Self {
        match self {
            Self::Source => Self::Receiver,
            Self::Receiver => Self::Source,
        }
    }
}

impl Direction {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::ToReceiver => 0,
            Self::ToSource => 1,
        }
    }
}

impl Side for Source {}
impl Side for Receiver {}

impl sealed::Side for Source {
    const ROLE: Role = Role::Source;
    type Epochs = Allotted;
}

impl sealed::Side for Receiver {
    const ROLE: Role = Role::Receiver;
    type Epochs = ();
}

pub(crate) mod sealed {
    use super::Role;

    pub trait Side {
        const ROLE: Role;
        /// Where this end has the numbers of epochs from: the source's counter; the receiver is told.
        type Epochs: Default;
    }
}
