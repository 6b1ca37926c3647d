//! Guest memory to measure with: pages of the kinds that real guests have, made from a seed.

use std::fmt::Write as _;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Makes pages: of every 16, two random, four of log text, six of heap, three sparse and one of a repeated byte.
#[must_use]
pub fn memory(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut memory = Vec::with_capacity(bytes + PAGE);
    let mut number = 0u64;
    while memory.len() < bytes {
        let start = memory.len();
        match number % 16 {
            0 | 1 => words(&mut memory, |_| random.next()),
            2..=5 => text(&mut memory, &mut random),
            // A heap: every fourth word a pointer near its own page, the rest small numbers.
            6..=11 => words(&mut memory, |word| match word % 4 {
                0 => 0x7f00_0000_0000 + number * 4096 + random.next() % 65_536,
                _ => random.next() % 256,
            }),
            12..=14 => words(&mut memory, |word| match word % 21 {
                0 => random.next(),
                _ => 0,
            }),
            _ => memory.resize(start + PAGE, 0xa5),
        }
        memory.resize(start + PAGE, 0);
        number += 1;
    }
    memory.truncate(bytes);
    memory
}

fn words(memory: &mut Vec<u8>, mut word: impl FnMut(u64) -> u64) {
    for place in 0..PAGE as u64 / 8 {
        memory.extend_from_slice(&word(place).to_le_bytes());
    }
}

fn text(memory: &mut Vec<u8>, random: &mut Random) {
    const WORDS: [&str; 16] = [
        "the", "request", "from", "server", "error", "took", "ms", "user", "GET", "index", "cache",
        "miss", "disk", "write", "at", "done",
    ];
    let mut line = String::new();
    while line.len() < PAGE {
        let number = random.next();
        let word = usize::try_from(number % 16).unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = write!(line, "{} ", WORDS[word]);
        if number.is_multiple_of(11) {
            let _ = writeln!(line, "{number:x}");
        }
    }
    memory.extend_from_slice(&line.as_bytes()[..PAGE]);
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
