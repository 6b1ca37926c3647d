//! How an end reaches its guest's memory: `--access`.

use clap::ValueEnum;
use sealift_qemu::ram::Want;

/// What may be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Access {
    /// The best that there is.
    #[default]
    Auto,
    /// The shared file behind the memory, or nothing.
    Mapped,
    /// The memory of QEMU's process, or nothing.
    Process,
    /// QEMU's stream alone.
    Stream,
}

impl From<Access> for Want {
    fn from(access: Access) -> Self {
        match access {
            Access::Auto => Self::Auto,
            Access::Mapped => Self::Mapped,
            Access::Process => Self::Process,
            Access::Stream => Self::Stream,
        }
    }
}
