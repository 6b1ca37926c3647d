//! What the targets share.

pub mod decoding;
pub mod windows;

use sealift_lab::both_ends::BothEnds;
use sealift_seal::{Error, Seed};

/// Feeds a channel to `pull` twice, whole and in pieces cut by its own bytes, and returns what both emitted.
///
/// `pull` takes items off the front of what is at hand and emits them; told that this is the end, it takes all.
pub fn whole_and_in_pieces<C>(
    input: &[u8],
    new: impl Fn() -> C,
    mut pull: impl FnMut(&mut C, &mut &[u8], bool, &mut Vec<u8>),
) -> [Vec<u8>; 2] {
    let mut whole = Vec::with_capacity(input.len());
    pull(&mut new(), &mut { input }, true, &mut whole);

    let mut pieces = Vec::with_capacity(input.len());
    let mut channel = new();
    let (mut taken, mut arrived) = (0, 0);
    // Lengths that depend on the input reach every place in time, and pieces that double keep the number of them small.
    let mut length = 1 + usize::from(input.first().copied().unwrap_or(0) % 61);
    while arrived < input.len() {
        arrived = input.len().min(arrived + length);
        length += length / 2 + usize::from(input[arrived - 1] % 7);
        let mut at_hand = &input[taken..arrived];
        pull(
            &mut channel,
            &mut at_hand,
            arrived == input.len(),
            &mut pieces,
        );
        taken = arrived - at_hand.len();
    }
    if input.is_empty() {
        pull(&mut channel, &mut { input }, true, &mut pieces);
    }
    [whole, pieces]
}

/// Both ends of a session with fixed secrets.
pub fn keys() -> BothEnds {
    const X25519: u16 = 0x0001;
    let fixed = |bytes: &mut [u8]| {
        bytes.fill(3);
        Ok(())
    };
    BothEnds::agree(X25519, &[], fixed).expect("fixed keys agree")
}

/// A seed of one byte's value.
pub fn seed(byte: u8) -> Result<Seed, Error> {
    Seed::fill(|bytes| {
        bytes.fill(byte);
        Ok(())
    })
}
