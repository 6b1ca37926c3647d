//! Failures: of finding a way to the memory, and of keeping it.

use std::{fmt, io};

use crate::Error;

use super::Way;

/// No way to the memory was found, and that is not for the stream to make good.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReachError {
    /// The control socket.
    Qmp(Error),
    /// The user: a way was ordered that there is not.
    Forced {
        /// What was ordered.
        way: Way,
        /// Of which block; none when it is so of all.
        block: Option<String>,
        /// Why there is no such way.
        reason: String,
    },
}

impl From<Error> for ReachError {
    fn from(error: Error) -> Self {
        Self::Qmp(error)
    }
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qmp(_) => f.write_str("QEMU could not be asked where the guest's memory is"),
            Self::Forced { way, block, reason } => {
                write!(f, "`--access {way}` is not possible")?;
                if let Some(block) = block {
                    write!(f, " for the RAM block `{block}`")?;
                }
                write!(f, ": {reason}; `--access auto` takes what there is")
            }
        }
    }
}

impl std::error::Error for ReachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Qmp(error) => Some(error),
            Self::Forced { .. } => None,
        }
    }
}

/// The guest's memory was reached, and is no more. Nothing of what it holds is in here.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lost {
    /// This host: QEMU's process has ended. What was read last is not its guest's memory for certain.
    QemuGone,
    /// This host: what was allowed is so no longer.
    Denied {
        /// Of QEMU's memory.
        block: String,
        /// What the system said.
        source: io::Error,
    },
    /// This host: there is less memory than there was. The backend's file was cut, or QEMU has unmapped it.
    Short {
        /// The block.
        block: String,
        /// The first byte of what was asked for.
        offset: u64,
    },
    /// This program, or the stream that it goes by: bytes that the block does not have, or that no way was found to.
    Outside {
        /// The block, or its number where there is none.
        block: String,
        /// The first byte of what was asked for.
        offset: u64,
    },
    /// This host: the system failed, for want of space or of working memory.
    System {
        /// Of QEMU's memory.
        block: String,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QemuGone => {
                f.write_str("QEMU ended while its guest's memory was being read or written")
            }
            Self::Denied { block, .. } => write!(
                f,
                "this host no longer allows access to the guest's memory (RAM block `{block}`), as it did at first: {PRIVILEGE}, for \
                 as long as the guest moves"
            ),
            Self::Short { block, offset } => write!(
                f,
                "the memory behind the RAM block `{block}` has become shorter than offset {offset:#x}: has somebody on this host \
                 cut its backend's file?"
            ),
            Self::Outside { block, offset } => write!(
                f,
                "offset {offset:#x} of the RAM block `{block}` was to be reached directly, and is not within reach"
            ),
            Self::System { block, .. } => write!(
                f,
                "this host could not read or write the guest's memory (RAM block `{block}`)"
            ),
        }
    }
}

/// What looking into another process takes.
pub(super) const PRIVILEGE: &str = "sealift needs CAP_SYS_PTRACE, or QEMU's own user where the system lets a user's programs see \
                                    each other's memory (kernel.yama.ptrace_scope 0)";

impl std::error::Error for Lost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Denied { source, .. } | Self::System { source, .. } => Some(source),
            Self::QemuGone | Self::Short { .. } | Self::Outside { .. } => None,
        }
    }
}
