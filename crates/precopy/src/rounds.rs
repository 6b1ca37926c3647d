//! How QEMU's walk over the guest's memory goes on.
//!
//! ```text
//!   page   0 ─▶ 1 ─▶ 2 ─▶ … ─▶ last │ 1 ─▶ 7 ─▶ 9 │ 1 ─▶ 7 │ (nothing) │
//!          └──── round 0: all ──────┘ └─ round 1 ─┘ └─ 2 ──┘ └─── 3 ───┘
//! ```
//!
//! QEMU walks upwards through the blocks. A step backwards means that it has looked for dirty pages again: a new round. So do sections that end
//! before their time because there was nothing more to write: those without a page, and several short ones in a row.
//!
//! QEMU writes ahead of who reads it: hundreds of sections without a page fit into its socket, or a dozen walks of a few pages each. One of them says nothing about what the
//! guest does by the time it is read. So a short round ends only with QEMU's latest word; until then what comes belongs to it as well.

use sealift_pages::Address;

/// Pages of a section below which QEMU has not looked at the clock: what ended it was its bandwidth limit, or that nothing more was dirty. The
/// limit cannot cut two sections in a row so short, unless it is below 64 pages in 100 ms.
const SHORT: u64 = 64;

/// Pages of a round that cannot all have been written before the last of them was waited for: they are more than QEMU's socket holds, some 200 KiB.
const AHEAD: u64 = 64;

/// A walk over memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// 0 is the first pass, over all of memory.
    pub number: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Other pages.
    pub normal: u64,
}

impl Round {
    /// All pages.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.zero + self.normal
    }
}

/// Recognises rounds by the addresses of pages, in the order in which QEMU writes them.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// How far a page may be behind the highest and still belong to this round.
    slack: u64,
    current: Round,
    /// The furthest page of this round.
    highest: Option<Address>,
    /// The first page of that block that this round wrote, and how many it wrote.
    lowest: u64,
    in_block: u64,
    /// Pages of earlier blocks since the walk came to that block.
    behind: u64,
    /// Pages of the section that is being written.
    in_section: u64,
    /// The one before was short.
    short: bool,
    /// This section was written after all before it was read.
    news: bool,
}

impl Rounds {
    /// Before the first page. With several channels pages come out of order: `slack` is by how many at most, thus the pages of a packet
    /// times the channels; 0 for one channel.
    #[must_use]
    pub const fn new(slack: u64) -> Self {
        Self {
            slack,
            current: Round {
                number: 0,
                zero: 0,
                normal: 0,
            },
            highest: None,
            lowest: 0,
            in_block: 0,
            behind: 0,
            in_section: 0,
            short: false,
            news: false,
        }
    }

    /// All that QEMU had written was read, and it had looked for dirty pages by then.
    pub const fn caught_up(&mut self) {
        self.news = true;
    }

    /// QEMU was not read for a while.
    pub const fn fell_behind(&mut self) {
        self.news = false;
    }

    /// A page with content. Returns the round that it ends, when it begins another.
    pub fn page(&mut self, at: Address) -> Option<Round> {
        let ended = self.step(at);
        self.current.normal += 1;
        ended
    }

    /// A page of zeros. Returns the round that it ends, when it begins another.
    pub fn zero(&mut self, at: Address) -> Option<Round> {
        let ended = self.step(at);
        self.current.zero += 1;
        ended
    }

    /// A section of RAM has ended. Returns the round that this ends: QEMU found nothing more to write.
    pub fn section_end(&mut self) -> Option<Round> {
        let pages = core::mem::take(&mut self.in_section);
        let short = pages < SHORT;
        let drained = pages == 0 || (short && self.short);
        self.short = short;
        // Before the first page, memory was not walked over.
        let begun = self.current.number > 0 || self.current.pages() > 0;
        let ended = if drained && begun { self.end() } else { None };
        self.news = false;
        ended
    }

    /// The round that goes on.
    #[must_use]
    pub const fn current(&self) -> Round {
        self.current
    }

    fn step(&mut self, at: Address) -> Option<Round> {
        self.in_section += 1;
        let ended = match self.highest {
            Some(highest) if self.is_back(highest, at) => self.end(),
            _ => None,
        };
        match self.highest {
            Some(highest) if at.block < highest.block => self.behind += 1,
            Some(highest) if at.block == highest.block => {
                self.in_block += 1;
                self.lowest = self.lowest.min(at.page);
            }
            _ => {
                (self.in_block, self.lowest, self.behind) = (1, at.page, 0);
            }
        }
        self.highest = self.highest.max(Some(at));
        ended
    }

    fn is_back(&self, highest: Address, at: Address) -> bool {
        if at.block == highest.block {
            // Within a round each page is written once: the same one again, or more of them than there are, is a new one.
            let span = highest.page.max(at.page) - self.lowest.min(at.page);
            return at.page.saturating_add(self.slack) <= highest.page || self.in_block > span;
        }
        at.block < highest.block && self.in_block + self.behind >= self.slack
    }

    fn end(&mut self) -> Option<Round> {
        self.highest = None;
        if !self.news && self.current.pages() < AHEAD {
            return None;
        }
        let number = self.current.number + 1;
        let next = Round {
            number,
            ..Round::default()
        };
        Some(core::mem::replace(&mut self.current, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u16, page: u64) -> Address {
        Address { block, page }
    }

    /// That a section ends which is QEMU's latest word.
    fn section_end(rounds: &mut Rounds) -> Option<Round> {
        rounds.caught_up();
        rounds.section_end()
    }

    #[test]
    fn a_step_backwards_begins_a_round() {
        let mut rounds = Rounds::new(0);
        rounds.caught_up();
        for page in [at(0, 0), at(0, 5), at(1, 2), at(2, 0)] {
            assert_eq!(rounds.page(page), None);
        }
        assert_eq!(rounds.zero(at(2, 1)), None);
        let first = Round {
            number: 0,
            zero: 1,
            normal: 4,
        };
        assert_eq!(rounds.page(at(0, 5)), Some(first));
        assert_eq!(first.pages(), 5);
        let second = Round {
            number: 1,
            zero: 0,
            normal: 1,
        };
        assert_eq!(
            rounds.zero(at(0, 5)),
            Some(second),
            "a page that comes again"
        );
        assert_eq!(rounds.current().number, 2);
    }

    #[test]
    fn long_sections_do_not_end_a_round() {
        let mut rounds = Rounds::new(0);
        assert_eq!(rounds.section_end(), None, "RAM's START section");
        for section in 0..4 {
            // One that the bandwidth limit has cut is among them.
            let pages = if section == 2 { 10 } else { SHORT };
            for page in 0..pages {
                assert_eq!(rounds.zero(at(0, section * SHORT + page)), None);
            }
            assert_eq!(rounds.section_end(), None, "{section}");
        }
        assert_eq!(rounds.current().zero, 3 * SHORT + 10);
    }

    #[test]
    fn a_section_without_a_page_ends_a_round() {
        let mut rounds = Rounds::new(0);
        (0..100).for_each(|page| assert_eq!(rounds.page(at(0, page)), None));
        assert_eq!(section_end(&mut rounds), None);
        assert_eq!(
            section_end(&mut rounds).map(|round| round.normal),
            Some(100)
        );
        let idle = Round {
            number: 1,
            ..Round::default()
        };
        assert_eq!(section_end(&mut rounds), Some(idle));
        assert_eq!(rounds.page(at(0, 9)), None, "upwards from nothing");
    }

    #[test]
    fn what_was_written_long_ago_does_not_say_that_nothing_is_dirty() {
        let mut rounds = Rounds::new(0);
        (0..100).for_each(|page| assert_eq!(rounds.page(at(0, page)), None));
        assert_eq!(rounds.section_end(), None);
        let walked = rounds.section_end().map(|round| round.number);
        assert_eq!(walked, Some(0), "all that was known to be dirty is there");
        for _ in 0..500 {
            assert_eq!(rounds.section_end(), None);
        }
        rounds.caught_up();
        rounds.fell_behind();
        assert_eq!(rounds.section_end(), None);
        rounds.caught_up();
        let idle = rounds.section_end().map(|round| round.number);
        assert_eq!(idle, Some(1));
        assert_eq!(rounds.section_end(), None, "the next one may be old again");
    }

    #[test]
    fn short_walks_that_were_written_long_ago_are_one_round() {
        let mut rounds = Rounds::new(0);
        (0..100).for_each(|page| assert_eq!(rounds.page(at(0, page)), None));
        assert_eq!(rounds.page(at(0, 1)).map(|round| round.number), Some(0));
        for _ in 0..8 {
            for page in 1..6 {
                assert_eq!(rounds.page(at(0, page)), None);
            }
            assert_eq!(rounds.section_end(), None);
        }
        rounds.caught_up();
        assert_eq!(rounds.page(at(0, 1)), None);
        let ended = rounds.section_end().unwrap();
        assert_eq!((ended.number, ended.normal), (1, 42));
    }

    #[test]
    fn short_sections_in_a_row_are_rounds_though_they_go_upwards() {
        let mut rounds = Rounds::new(0);
        (0..100).for_each(|page| assert_eq!(rounds.page(at(0, page)), None));
        assert_eq!(section_end(&mut rounds), None);
        rounds.page(at(0, 200));
        assert_eq!(section_end(&mut rounds), None, "perhaps cut by the limit");
        for page in 201..210 {
            rounds.page(at(0, page));
            let ended = section_end(&mut rounds).unwrap();
            assert_eq!(ended.normal, if page == 201 { 102 } else { 1 });
        }
    }

    #[test]
    fn packets_of_several_channels_do_not_begin_rounds() {
        let mut rounds = Rounds::new(256);
        // Two channels, packets of 128 pages, the second before the first; then over the block's end.
        for first in [128, 0, 384, 256] {
            for page in first..first + 128 {
                assert_eq!(rounds.page(at(0, page)), None);
            }
        }
        for (block, first) in [(1, 0), (0, 512), (1, 128), (1, 256)] {
            for page in first..first + 128 {
                assert_eq!(rounds.page(at(block, page)), None);
            }
        }
        assert!(rounds.page(at(0, 3)).is_some());
    }

    #[test]
    fn a_few_pages_written_again_and_again_are_rounds_on_several_channels_too() {
        let mut rounds = Rounds::new(256);
        rounds.caught_up();
        let mut ended = 0;
        for _ in 0..100 {
            for page in 40..50 {
                ended += u64::from(rounds.page(at(0, page)).is_some());
            }
        }
        assert_eq!(ended, 99);
    }
}
