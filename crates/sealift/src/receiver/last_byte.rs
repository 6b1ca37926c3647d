//! Keeps the stream's last byte from QEMU: without it QEMU has loaded everything and still waits.
//!
//! ```text
//!  … device state │ 00 │ 06 │ be32 length │ { "devices": … }
//!                                                        └ the last byte
//! ```
//!
//! Nothing says beforehand which byte is the last, so the newest one is always kept. That no more will come is known from the
//! description at the stream's end: its length is in front of it, and it ends where the bytes end.

/// The mark of the end, and that of the description.
const MARKS: [u8; 2] = [0x00, 0x06];
/// The marks and the length.
const HEAD: usize = MARKS.len() + 4;
/// The longest description that is recognised. One of a guest with many devices takes some 100 KiB.
const DESCRIPTION_MAX: usize = 8 << 20;

/// The newest byte, and the end of the stream so far.
#[derive(Debug, Default)]
pub(crate) struct LastByte {
    held: Vec<u8>,
    /// What has gone on, as far as a description may reach, and the byte that has not.
    seen: Vec<u8>,
    out: Vec<u8>,
}

impl LastByte {
    /// Takes bytes and returns those that may go on.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> &[u8] {
        self.seen.extend_from_slice(bytes);
        let surplus = self.seen.len().saturating_sub(2 * DESCRIPTION_MAX);
        if surplus > 0 {
            self.seen.drain(..surplus + DESCRIPTION_MAX);
        }
        self.out.clear();
        self.out.append(&mut self.held);
        self.out.extend_from_slice(bytes);
        self.held.extend(self.out.pop());
        &self.out
    }

    /// The byte that is held is the stream's last.
    pub(crate) fn is_last(&self) -> bool {
        if self.seen.last() != Some(&b'}') {
            return false;
        }
        // The length in front of the description is what makes it certain; where it begins is found by trying each brace.
        let starts = self.seen.iter().enumerate().skip(HEAD);
        starts
            .filter(|&(_, &byte)| byte == b'{')
            .any(|(start, _)| self.describes_from(start))
    }

    fn describes_from(&self, start: usize) -> bool {
        let (head, description) = self.seen.split_at(start);
        let Some((before, length)) = head.split_last_chunk::<4>() else {
            return false;
        };
        before.ends_with(&MARKS)
            && usize::try_from(u32::from_be_bytes(*length)) == Ok(description.len())
    }

    /// What was held.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let description = br#"{"devices": [{"name": "timer"}]}"#;
        let mut stream = b"{device state}\0\x06".to_vec();
        stream.extend_from_slice(&u32::try_from(description.len()).unwrap().to_be_bytes());
        stream.extend_from_slice(description);
        stream
    }

    #[test]
    fn all_but_the_last_byte_goes_on_whatever_the_pieces() {
        let stream = stream();
        for size in 1..=stream.len() {
            let mut held = LastByte::default();
            let mut passed = Vec::new();
            for (number, piece) in stream.chunks(size).enumerate() {
                passed.extend_from_slice(held.pass(piece));
                let all = (number + 1) * size >= stream.len();
                assert_eq!(held.is_last(), all, "pieces of {size}");
            }
            assert_eq!(passed, stream[..stream.len() - 1]);
            assert_eq!(held.bytes(), &stream[stream.len() - 1..]);
        }
    }

    #[test]
    fn a_brace_at_the_end_alone_says_nothing() {
        let mut held = LastByte::default();
        held.pass(b"\0\x06\0\0\0\x09{\"a\": 1}");
        assert!(!held.is_last());
    }
}
