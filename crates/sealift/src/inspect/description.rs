//! QEMU's description of the device state, read for the one thing that is wanted of it: how long each section is.
//!
//! Lists are added up while they are parsed; none is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One device of the description.
#[derive(Debug, Deserialize)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) instance_id: u64,
    #[serde(default)]
    fields: Option<Sum<Field>>,
    #[serde(default)]
    subsections: Option<Sum<Subsection>>,
}

impl Device {
    /// The length of its section's body; `None` if it has none, or one beyond all bounds.
    pub(super) fn body_len(&self) -> Option<u64> {
        if self.fields.is_none() && self.subsections.is_none() {
            return None;
        }
        body_len(self.fields.as_ref(), self.subsections.as_ref())
    }
}

fn body_len(fields: Option<&Sum<Field>>, subsections: Option<&Sum<Subsection>>) -> Option<u64> {
    let fields = fields.map_or(Some(0), |sum| sum.bytes)?;
    let subsections = subsections.map_or(Some(0), |sum| sum.bytes)?;
    fields.checked_add(subsections)
}

/// Shows each device of a description to `look`; `None` if it is no description.
pub(super) fn each_device(text: &[u8], look: impl FnMut(&Device)) -> Option<()> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    Root(look).deserialize(&mut parser).ok()?;
    parser.end().ok()
}

/// A field, or an array of them of which only the first is described.
#[derive(Debug, Deserialize)]
struct Field {
    size: u64,
    #[serde(default)]
    array_len: Option<u64>,
}

/// A part that is only there when it is needed.
#[derive(Debug, Deserialize)]
struct Subsection {
    vmsd_name: String,
    #[serde(default)]
    fields: Option<Sum<Field>>,
    #[serde(default)]
    subsections: Option<Sum<Subsection>>,
}

/// Something that takes room in a section.
trait Length {
    fn length(&self) -> Option<u64>;
}

impl Length for Field {
    fn length(&self) -> Option<u64> {
        self.size.checked_mul(self.array_len.unwrap_or(1))
    }
}

impl Length for Subsection {
    fn length(&self) -> Option<u64> {
        // Its mark, its name behind one byte, its version.
        let head = 1 + 1 + self.vmsd_name.len() as u64 + 4;
        body_len(self.fields.as_ref(), self.subsections.as_ref())?.checked_add(head)
    }
}

/// The length of a list of such things; `None` past all bounds.
#[derive(Debug)]
struct Sum<T> {
    bytes: Option<u64>,
    of: PhantomData<T>,
}

impl<'de, T: Length + Deserialize<'de>> Deserialize<'de> for Sum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Length + Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Sum<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of fields")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sum<T>, A::Error> {
                let mut bytes = Some(0u64);
                while let Some(item) = list.next_element::<T>()? {
                    bytes = bytes.and_then(|bytes| bytes.checked_add(item.length()?));
                }
                Ok(Sum {
                    bytes,
                    of: PhantomData,
                })
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// The description as a whole.
struct Root<F>(F);

impl<'de, F: FnMut(&Device)> DeserializeSeed<'de> for Root<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&Device)> Visitor<'de> for Root<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QEMU's description of the device state")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "devices" {
                map.next_value_seed(Devices(&mut self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Its list of devices.
struct Devices<'f, F>(&'f mut F);

impl<'de, F: FnMut(&Device)> DeserializeSeed<'de> for Devices<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&Device)> Visitor<'de> for Devices<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of devices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(device) = list.next_element::<Device>()? {
            (self.0)(&device);
        }
        Ok(())
    }
}
