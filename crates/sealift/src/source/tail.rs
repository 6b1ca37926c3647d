//! What the device state says of the guest's run state.
//!
//! ```text
//!  … 0b "globalstate" · be32 instance · be32 version · be32 size · "running" 00 …
//! ```
//!
//! The only part of the device state that is looked at, and only to be told to a destination whose guest does not start by itself.
//! QEMU has a last word over it: where its control socket is at hand, that is asked instead.

/// The section's name behind its length.
const SECTION: &[u8] = b"\x0bglobalstate";
/// Instance, version and size.
const NUMBERS: usize = 12;
/// The longest name of a run state is `inmigrate`'s or `prelaunch`'s nine, or `guest-panicked`'s fourteen.
const STATE_MAX: usize = 24;

/// Looks for it in whatever pieces the bytes come.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The end of what was looked at, too short to hold it all.
    carried: Vec<u8>,
    found: bool,
}

impl Tail {
    /// The run state, when these bytes complete it. Told once.
    pub(crate) fn run_state(&mut self, bytes: &[u8]) -> Option<String> {
        if self.found {
            return None;
        }
        self.carried.extend_from_slice(bytes);
        let whole = SECTION.len() + NUMBERS + STATE_MAX;
        let state = self
            .carried
            .windows(whole)
            .find(|window| window.starts_with(SECTION))
            .and_then(|window| window.get(SECTION.len() + NUMBERS..))
            .and_then(|state| state.split(|&byte| byte == 0).next())
            .map(|state| String::from_utf8_lossy(state).into_owned());
        self.found = state.is_some();
        let kept = if self.found { 0 } else { whole - 1 };
        self.carried
            .drain(..self.carried.len().saturating_sub(kept));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Vec<u8> {
        let mut bytes = b"xyz\x04\0\0\0\x05\x0bglobalstate\0\0\0\0\0\0\0\x01\0\0\0\x08".to_vec();
        bytes.extend_from_slice(b"running\0");
        bytes.extend_from_slice(&[0; 92]);
        bytes
    }

    #[test]
    fn the_run_state_is_found_in_any_pieces() {
        let section = section();
        for size in 1..=section.len() {
            let mut tail = Tail::default();
            let found: Vec<_> = section
                .chunks(size)
                .filter_map(|piece| tail.run_state(piece))
                .collect();
            assert_eq!(found, ["running"], "pieces of {size}");
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let mut tail = Tail::default();
        assert_eq!(tail.run_state(&[7; 4096]), None);
        assert!(tail.carried.len() < 64);
    }
}
