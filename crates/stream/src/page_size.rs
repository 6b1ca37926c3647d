//! The target's page size: the unit of every RAM record.

use crate::Name;

/// A page size that QEMU's targets use: a power of two from 4 KiB to 64 KiB.
///
/// The lower bound keeps the twelve low bits of a record's offset free for its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize {
    bits: u32,
}

impl PageSize {
    /// 4 KiB: x86, s390x, POWER, and most others.
    pub const KIB_4: Self = Self { bits: 12 };
    /// The largest: 64 KiB.
    pub const MAX: Self = Self { bits: 16 };

    /// The page size of so many bits.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (Self::KIB_4.bits..=Self::MAX.bits)
            .contains(&bits)
            .then_some(Self { bits })
    }

    /// The page size that all machines of this type have.
    ///
    /// The stream names the page size only when it differs from its target's smallest, and does not name the target. What
    /// tells is the machine type, for families of a single target. `virt`, for one, exists on several.
    pub fn of_machine(machine: Name<'_>) -> Option<Self> {
        let name = machine.as_bytes();
        let family = [&b"pc-"[..], b"s390-ccw-virtio", b"pseries"]
            .iter()
            .any(|family| name.starts_with(family));
        let single = [&b"microvm"[..], b"isapc", b"xenfv", b"xenpv"].contains(&name);
        (family || single).then_some(Self::KIB_4)
    }

    /// Bytes in a page.
    pub const fn bytes(self) -> usize {
        1 << self.bits
    }

    /// Whether an offset lies at the start of a page.
    pub(crate) const fn is_aligned(self, offset: u64) -> bool {
        offset.trailing_zeros() >= self.bits
    }
}
