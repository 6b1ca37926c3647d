//! The sections of device state, by the description that QEMU puts at a stream's end.
//!
//! ```text
//!  04 id "timer" 0 2 │ body │ 7e id │ 04 … │ 00 │ 06 length │ { "devices": [ { "name": "timer", "fields": [ … ] } … ] }
//!                      ▲ no length                            ▲ the sizes of all fields
//! ```
//!
//! The description names every device in order with the sizes of its fields; what follows from it is believed only where it meets
//! section headers and footers exactly. It is walked as it is parsed: whatever it says, no more than one device of it is kept.

use sealift_stream::Name;
use serde::Serialize;

use super::description::{self, Device};
use super::lines::Lines;

/// Bytes of a stream's end that are looked at: device state is some 100 KiB, with many devices some MiB.
const KEPT: usize = 16 << 20;

/// The opaque end of a main channel, from the first section of device state on.
#[derive(Debug, Default)]
pub(super) struct DeviceState {
    bytes: Vec<u8>,
    total: u64,
}

/// Device state.
#[derive(Debug, Serialize)]
pub(super) struct DeviceReport {
    pub(super) bytes: u64,
    /// By the description at the stream's end, if there is one and it fits.
    pub(super) sections: Option<Lines<DeviceSection>>,
    pub(super) description_bytes: u64,
}

/// A section of device state.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct DeviceSection {
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl DeviceState {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = KEPT - self.bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn report(&self) -> DeviceReport {
        let (sections, description_bytes) = match self.sections() {
            Some((sections, description)) => (Some(sections), description),
            None => (None, 0),
        };
        DeviceReport {
            bytes: self.total,
            sections,
            description_bytes,
        }
    }

    /// Its sections, and the length of the description; `None` where there is none or it does not fit the bytes.
    fn sections(&self) -> Option<(Lines<DeviceSection>, u64)> {
        if self.total > KEPT as u64 {
            return None;
        }
        let (end, text) = description(&self.bytes)?;
        let mut rest = &self.bytes[..end];
        let mut sections = Lines::default();
        description::each_device(text, |device| {
            // What is described but not here was sent during set-up, or is no device: RAM, for one.
            if let Some((name, after)) = section(rest, device) {
                sections.push(DeviceSection {
                    name: name.to_string(),
                    bytes: (rest.len() - after.len()) as u64,
                });
                rest = after;
            }
        })?;
        let description = (self.bytes.len() - end) as u64;
        rest.is_empty().then_some((sections, description))
    }
}

/// Finds the description: where the sections before it end, and its text, which goes on to the stream's end.
fn description(bytes: &[u8]) -> Option<(usize, &[u8])> {
    /// The end of the sections, the mark of a description, and its length.
    const HEAD: usize = 6;
    bytes
        .windows(HEAD + 1)
        .enumerate()
        .find_map(|(at, window)| {
            let [0x00, 0x06, a, b, c, d, b'{'] = *window else {
                return None;
            };
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
            let text = bytes.get(at + HEAD..)?;
            (text.len() == length).then_some((at, text))
        })
}

/// Passes over one section, if it is this device's.
fn section<'a>(bytes: &'a [u8], device: &Device) -> Option<(Name<'a>, &'a [u8])> {
    let (head, rest) = bytes.split_first_chunk::<6>()?;
    let [0x04, id @ .., name_len] = *head else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
    let (&[a, b, c, d, ..], rest) = rest.split_first_chunk::<8>()?;
    let instance = u64::from(u32::from_be_bytes([a, b, c, d]));
    if device.name.as_bytes() != name || device.instance_id != instance {
        return None;
    }
    let rest = rest.get(usize::try_from(device.body_len()?).ok()?..)?;
    let (footer, after) = rest.split_first_chunk::<5>()?;
    let ends = footer[0] == 0x7e && footer[1..] == id;
    Name::new(name).filter(|_| ends).map(|name| (name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(json: &str) -> DeviceState {
        let mut state = DeviceState::default();
        state.push(b"\x04\0\0\0\x05\x05timer\0\0\0\0\0\0\0\x02sixteen bytes...\x7e\0\0\0\x05");
        state.push(
            b"\x04\0\0\0\x06\x03cpu\0\0\0\0\0\0\0\x01abab\x05\x03sub\0\0\0\x01xyz\x7e\0\0\0\x06",
        );
        state.push(b"\0\x06");
        state.push(&u32::try_from(json.len()).unwrap().to_be_bytes());
        state.push(json.as_bytes());
        state
    }

    const JSON: &str = r#"{"page_size": 4096, "devices": [
        {"name": "ram", "instance_id": 0},
        {"name": "timer", "instance_id": 0, "fields": [{"size": 16, "type": "uint64"}]},
        {"name": "cpu", "instance_id": 0, "fields": [{"size": 2, "array_len": 2}],
         "subsections": [{"vmsd_name": "sub", "fields": [{"size": 3, "struct": {"fields": [{"size": 3}]}}]}]}]}"#;

    #[test]
    fn sections_have_the_sizes_that_the_description_says() {
        let (sections, description) = state(JSON).sections().unwrap();
        let sizes: Vec<_> = sections
            .iter()
            .map(|section| (&*section.name, section.bytes))
            .collect();
        assert_eq!(sizes, [("timer", 19 + 16 + 5), ("cpu", 17 + 4 + 9 + 3 + 5)]);
        assert_eq!(description, 6 + JSON.len() as u64);
    }

    #[test]
    fn a_description_that_does_not_fit_is_not_believed() {
        for json in [
            &JSON.replace("16", "15"),
            &JSON.replace("16", "18446744073709551615"),
            &JSON.replace("]}]}]}", "]}]}"),
            "{}",
        ] {
            assert!(state(json).sections().is_none(), "{json}");
        }
        assert!(DeviceState::default().sections().is_none());
    }
}
