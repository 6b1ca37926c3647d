//! Numbers that look random and are the same in every run.

/// Xorshift with a multiplication behind it (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Different numbers for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        // An odd multiplier maps no two seeds to one state; zero is the only state that does not move.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below the limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // The upper bits are the better ones.
        ((self.next() >> 16) % limit as u64) as usize
    }
}
