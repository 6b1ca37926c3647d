//! Keeps the stream's end from QEMU: without it QEMU has loaded everything and still waits.
//!
//! ```text
//!  … device state │ 00 │ 06 │ be32 length │ { "devices": … }
//!                 └ from here on it is held
//! ```
//!
//! Not the last byte alone: QEMU takes an end of the channel within the description for a good end, and runs the guest; one before the
//! mark it takes for a failure, and ends. Nothing says beforehand where the mark is, so as much is kept back as a description can take,
//! until one is found: its length is in front of it, and it ends where the bytes end.

/// The mark of the end, and that of the description.
const MARKS: [u8; 2] = [0x00, 0x06];
/// The marks and the length.
const HEAD: usize = MARKS.len() + 4;
/// The longest description that is recognised. One of a guest with many devices takes some 100 KiB.
const HELD_MAX: usize = 4 << 20;

/// The end of the stream so far, or once it was found.
#[derive(Debug, Default)]
pub(crate) struct StreamEnd {
    held: Vec<u8>,
}

impl StreamEnd {
    /// Takes bytes and returns those that may go on.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let surplus = self.held.len().saturating_sub(HELD_MAX);
        self.held.drain(..surplus).collect()
    }

    /// When the end is there: what is before it, which may go on.
    pub(crate) fn found(&mut self) -> Option<Vec<u8>> {
        if self.held.last() != Some(&b'}') {
            return None;
        }
        // The length in front of the description is what makes it certain; where it begins is found by trying each brace.
        let mut braces = self.held.iter().enumerate().skip(HEAD);
        let start = braces.find_map(|(start, &byte)| {
            (byte == b'{' && self.describes_from(start)).then_some(start)
        })?;
        Some(self.held.drain(..start - HEAD).collect())
    }

    fn describes_from(&self, start: usize) -> bool {
        let (head, description) = self.held.split_at(start);
        let Some((before, length)) = head.split_last_chunk::<4>() else {
            return false;
        };
        before.ends_with(&MARKS)
            && usize::try_from(u32::from_be_bytes(*length)) == Ok(description.len())
    }

    /// What is held.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &[u8] = b"{device state}";

    fn end() -> Vec<u8> {
        let description = br#"{"devices": [{"name": "timer"}]}"#;
        let mut end = MARKS.to_vec();
        end.extend_from_slice(&u32::try_from(description.len()).unwrap().to_be_bytes());
        end.extend_from_slice(description);
        end
    }

    #[test]
    fn everything_before_the_mark_goes_on_and_nothing_behind_it() {
        let stream = [DEVICES, &end()].concat();
        for size in 1..=stream.len() {
            let mut held = StreamEnd::default();
            let mut passed = Vec::new();
            for (number, piece) in stream.chunks(size).enumerate() {
                passed.extend(held.pass(piece));
                let all = (number + 1) * size >= stream.len();
                let before = held.found();
                assert_eq!(before.is_some(), all, "pieces of {size}");
                passed.extend(before.unwrap_or_default());
            }
            assert_eq!(passed, DEVICES);
            assert_eq!(held.bytes(), end());
        }
    }

    #[test]
    fn what_is_too_far_back_to_be_the_end_goes_on() {
        let mut held = StreamEnd::default();
        assert!(held.pass(&vec![1; HELD_MAX]).is_empty());
        assert_eq!(held.pass(&[2; 3]), [1; 3]);
    }

    #[test]
    fn a_brace_at_the_end_alone_says_nothing() {
        let mut held = StreamEnd::default();
        held.pass(b"\0\x06\0\0\0\x09{\"a\": 1}");
        assert_eq!(held.found(), None);
    }
}
