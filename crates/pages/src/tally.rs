//! What batches were made of, for the report.

use core::ops::AddAssign;

/// Records of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Share {
    /// The pages that they put.
    pub pages: u64,
    /// The bytes that they take before a group is compressed.
    pub bytes: u64,
}

/// What batches were made of. Tallies add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// How many batches.
    pub batches: u64,
    /// Pages of zeros.
    pub zero: Share,
    /// Pages that travelled as they are, or compressed.
    pub literal: Share,
    /// Pages whose content had been sent before.
    pub same_as: Share,
    /// Pages that travelled as their difference from a content that had been sent before.
    pub delta: Share,
    /// Opaque bytes, without their records' heads.
    pub opaque_bytes: u64,
    /// Guest memory that was put: all pages times the page size.
    pub memory_bytes: u64,
    /// Bytes that went into groups.
    pub group_raw_bytes: u64,
    /// What the groups' bytes became.
    pub group_bytes: u64,
    /// The bodies: what is sealed.
    pub body_bytes: u64,
}

impl Tally {
    /// Bytes before anything was done to them: guest memory and what stood between its pages.
    #[must_use]
    pub const fn raw_bytes(&self) -> u64 {
        self.memory_bytes + self.opaque_bytes
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.bytes += other.bytes;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.batches += other.batches;
        self.zero += other.zero;
        self.literal += other.literal;
        self.same_as += other.same_as;
        self.delta += other.delta;
        self.opaque_bytes += other.opaque_bytes;
        self.memory_bytes += other.memory_bytes;
        self.group_raw_bytes += other.group_raw_bytes;
        self.group_bytes += other.group_bytes;
        self.body_bytes += other.body_bytes;
    }
}
