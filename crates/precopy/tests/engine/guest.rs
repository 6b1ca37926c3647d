//! Guests that write their memory in their own ways.

/// A guest: how large it is, what its pages cost, and what it writes.
pub(crate) struct Guest {
    pub(crate) pages: u64,
    /// Bytes of a page as the encoder makes it.
    pub(crate) literal: u64,
    /// Bytes of a delta for each time that the page was written.
    pub(crate) change: u64,
    /// Every so many pages one is never written and all zeros.
    pub(crate) zero: u64,
    /// The pages that it writes in a millisecond.
    pub(crate) writes: Box<dyn FnMut(u64) -> Vec<u64>>,
}

impl Guest {
    /// Of 256 MiB that writes nothing; a page compresses to a third, of a change 100 bytes remain.
    pub(crate) fn idle() -> Self {
        Self {
            pages: 65_536,
            literal: 1400,
            change: 100,
            zero: 4,
            writes: Box::new(|_| vec![]),
        }
    }

    pub(crate) fn writing(writes: impl FnMut(u64) -> Vec<u64> + 'static) -> Self {
        Self {
            writes: Box::new(writes),
            ..Self::idle()
        }
    }

    /// As the program "mix" does: so many writes in a second, anywhere in its working set.
    pub(crate) fn uniform(per_second: u64, set: u64) -> Self {
        let mut dice = Dice(7);
        let mut due = 0;
        Self::writing(move |_| {
            due += per_second;
            let now = due / 1000;
            due %= 1000;
            (0..now).map(|_| dice.below(set)).collect()
        })
    }

    /// Most of its writes go to few pages: page n is written half as often as page n ÷ 2.
    pub(crate) fn zipf(per_second: u64, set: u64) -> Self {
        let mut dice = Dice(11);
        let mut due = 0;
        Self::writing(move |_| {
            due += per_second;
            let now = due / 1000;
            due %= 1000;
            let one = || {
                // Each power of two of pages gets as many writes as all others, scattered over memory.
                let power = dice.below(u64::from(set.ilog2()) + 1);
                let rank = (1 << power) + dice.below(1 << power);
                rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % set
            };
            std::iter::repeat_with(one)
                .take(usize::try_from(now).unwrap())
                .collect()
        })
    }

    /// Some pages it writes over and over, so that nothing of them stays, and all others now and then.
    pub(crate) fn database(hot: u64, per_second: u64) -> Self {
        let mut others = Self::uniform(per_second, 65_536);
        let writes = move |now| {
            let mut pages = (others.writes)(now);
            // All of them within 20 ms.
            let step = hot.div_ceil(20);
            pages.extend((0..step).map(|n| (now * step + n) % hot * 16 + 1));
            pages
        };
        Self {
            change: 4096,
            ..Self::writing(writes)
        }
    }

    pub(crate) fn is_zero(&self, page: u64) -> bool {
        page.is_multiple_of(self.zero)
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}
