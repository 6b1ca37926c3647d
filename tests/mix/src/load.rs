//! What is in the pages, and what a rewriting makes of one.
//!
//! ```text
//!            pages                 a rewriting
//!   mix      of five kinds         eight words of the page
//!   churn    of five kinds         all of the page: other contents, easy to compress
//!   random   9 of 10 random        eight words
//!   idle     of five kinds         eight words; and it sleeps most of the time
//! ```

use std::time::Duration;

use crate::page::Kind;

/// Between two strides of an idle guest. It then uses a few hundredths of an emulated processor.
const NAP: Duration = Duration::from_millis(10);

/// How the guest behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Mix,
    Churn,
    Random,
    Idle,
}

impl Load {
    /// The one of this name; "mix" where there is none.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "churn" => Self::Churn,
            "random" => Self::Random,
            "idle" => Self::Idle,
            _ => Self::Mix,
        }
    }

    /// What this page is filled with.
    pub(crate) fn kind(self, index: u64) -> Kind {
        match self {
            Self::Random => Kind::mostly_random(index),
            Self::Mix | Self::Churn | Self::Idle => Kind::mixed(index),
        }
    }

    /// What a rewriting fills the page with, if it does not only change some words.
    pub(crate) fn renewed(self, index: u64) -> Option<Kind> {
        match self {
            Self::Churn if index.is_multiple_of(2) => Some(Kind::Log),
            Self::Churn => Some(Kind::Heap),
            Self::Mix | Self::Random | Self::Idle => None,
        }
    }

    /// How long it sleeps after each stride.
    pub(crate) fn nap(self) -> Option<Duration> {
        (self == Self::Idle).then_some(NAP)
    }
}
