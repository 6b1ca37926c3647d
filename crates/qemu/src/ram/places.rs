//! Which blocks are main memory, and where in QEMU's process they lie: what QEMU says of itself.
//!
//! ```text
//!   query-memdev              the backends of main memory; a block has its backend's name
//!   query-memory-devices      of these, what a device may take away from the guest (virtio-mem)
//!   info ramblock             used and total length, from 8.2 on the address
//!   info mtree -f, gpa2hva    before 8.2: where the guest sees a block, and the address of that
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::machine::RamBlock;
use crate::{Error, Machine, memory};

use super::Block;
use super::search::Nowhere;

/// What QEMU says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Main memory, at this address of its process.
    At(u64),
    /// Main memory that nevertheless cannot be reached, for this reason.
    Hidden(String),
    /// Something else, which the stream carries: ROM, a screen's memory, a device's.
    Elsewhere(String),
}

/// A confidential guest's memory: what is seen of it from outside is encrypted, or nothing.
const CONFIDENTIAL: &str =
    "the guest is confidential, so its memory makes no sense outside of its QEMU";

/// A place for each block.
pub(super) fn find(machine: &mut Machine, blocks: &[Block<'_>]) -> Result<Vec<Place>, Nowhere> {
    if is_confidential(machine)? {
        return Err(Nowhere::Reason(CONFIDENTIAL.to_owned()));
    }
    let backends = Backends::ask(machine)?;
    let known = machine.ram_blocks()?;
    let mut places: Vec<_> = blocks
        .iter()
        .map(|block| backends.place(block, &known))
        .collect();

    let missing = |place: &Option<Place>| place.is_none();
    if places.iter().any(missing) {
        let names = blocks.iter().zip(&places);
        let names: Vec<_> = names
            .filter(|(_, place)| missing(place))
            .map(|(block, _)| block.name.to_owned())
            .collect();
        let addresses = seen(machine, &names)?;
        for (block, place) in blocks.iter().zip(&mut places) {
            place.get_or_insert_with(|| match addresses.get(block.name) {
                Some(&address) => Place::At(address),
                None => Place::Hidden(
                    "this QEMU does not say where it is, and the guest does not see it".to_owned(),
                ),
            });
        }
    }
    Ok(places.into_iter().flatten().collect())
}

fn is_confidential(machine: &mut Machine) -> Result<bool, Error> {
    let arguments = json!({ "path": "/machine", "property": "confidential-guest-support" });
    match machine.qmp().execute("qom-get", arguments) {
        Ok(object) => Ok(object.as_str().is_some_and(|path| !path.is_empty())),
        // No such property: an older QEMU, or a machine that knows no such guests.
        Err(Error::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The backends of main memory, by name.
struct Backends {
    /// Whose memory they are: none but the machine's, or a device's of this kind.
    users: BTreeMap<String, Option<String>>,
}

impl Backends {
    fn ask(machine: &mut Machine) -> Result<Self, Error> {
        let backends = machine.qmp().execute("query-memdev", Value::Null)?;
        let devices = match machine.qmp().execute("query-memory-devices", Value::Null) {
            Ok(devices) => devices,
            // A machine that cannot have any.
            Err(Error::Refused { .. }) => Value::Null,
            Err(error) => return Err(error),
        };
        Ok(Self::of(&backends, &devices))
    }

    fn of(backends: &Value, devices: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut users: BTreeMap<_, _> = list(backends)
            .iter()
            .filter_map(|backend| Some((backend["id"].as_str()?.to_owned(), None)))
            .collect();
        for device in list(devices) {
            let path = device["data"]["memdev"].as_str().unwrap_or_default();
            if let Some(user) = users.get_mut(id(path)) {
                *user = device["type"].as_str().map(str::to_owned);
            }
        }
        Self { users }
    }

    /// None where only the address is missing.
    fn place(&self, block: &Block<'_>, known: &[RamBlock]) -> Option<Place> {
        let elsewhere = |reason: &str| Some(Place::Elsewhere(reason.to_owned()));
        match self.users.get(id(block.name)) {
            None => return elsewhere("it is not main memory"),
            Some(None) => {}
            // What is plugged in as a whole, and taken away as a whole, which a migration forbids.
            Some(Some(kind)) if kind == "dimm" => {}
            Some(Some(kind)) => return Some(Place::Elsewhere(format!("it is a {kind} device's"))),
        }
        let Some(here) = known.iter().find(|known| known.name == block.name) else {
            return elsewhere("this QEMU does not list it");
        };
        if here.used != here.total {
            return elsewhere("it may change its size");
        }
        if here.used != block.length {
            let reason = format!(
                "this QEMU says that it has {} bytes, and the stream {}",
                here.used, block.length
            );
            return Some(Place::Hidden(reason));
        }
        here.address.map(Place::At)
    }
}

/// An object's name. Machine types before 4.0 name their blocks by the whole path.
fn id(path: &str) -> &str {
    path.strip_prefix("/objects/").unwrap_or(path)
}

/// The addresses of those blocks that the guest sees.
fn seen(machine: &mut Machine, names: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let mut found: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for shown in memory::shown(machine, names)? {
        let printed = machine
            .qmp()
            .hmp(&format!("gpa2hva {:#x}", shown.guest_address))?;
        let start = address(&printed).and_then(|address| address.checked_sub(shown.offset));
        found
            .entry(shown.block)
            // Each part of a block must lead to the same start.
            .and_modify(|known| *known = known.filter(|known| Some(*known) == start))
            .or_insert(start);
    }
    let found = found.into_iter();
    Ok(found
        .filter_map(|(name, address)| Some((name, address?)))
        .collect())
}

/// `Host virtual address for 0x100000 (pc.ram) is 0x7f346bf00000`.
fn address(printed: &str) -> Option<u64> {
    let (_, digits) = printed.trim_end().rsplit_once(") is 0x")?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends() -> Backends {
        let backend = |id: &str| json!({ "id": id, "size": 4096, "share": false });
        let device = |kind: &str, id: &str| json!({ "type": kind, "data": { "memdev": format!("/objects/{id}") } });
        Backends::of(
            &json!([backend("pc.ram"), backend("d"), backend("vm0"), 7]),
            &json!([device("dimm", "d"), device("virtio-mem", "vm0"), {}]),
        )
    }

    fn known(name: &str, used: u64, total: u64) -> RamBlock {
        RamBlock {
            name: name.to_owned(),
            page_size: 4096,
            used,
            total,
            address: Some(0x7000),
        }
    }

    fn place(name: &str, length: u64, here: &RamBlock) -> Option<Place> {
        backends().place(&Block { name, length }, std::slice::from_ref(here))
    }

    #[test]
    fn main_memory_is_what_backends_hold_and_no_device_takes_away() {
        for name in ["pc.ram", "/objects/pc.ram", "d"] {
            let found = place(name, 8192, &known(name, 8192, 8192));
            assert_eq!(found, Some(Place::At(0x7000)), "{name}");
        }
        for (name, why) in [
            ("vm0", "virtio-mem"),
            ("pc.bios", "not main memory"),
            ("0000:00:01.0/d", "not main memory"),
        ] {
            let found = place(name, 8192, &known(name, 8192, 8192));
            assert!(
                matches!(&found, Some(Place::Elsewhere(reason)) if reason.contains(why)),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn a_block_of_another_length_is_not_reached() {
        let growing = place("pc.ram", 4096, &known("pc.ram", 4096, 8192));
        assert!(
            matches!(&growing, Some(Place::Elsewhere(reason)) if reason.contains("size")),
            "{growing:?}"
        );
        let other = place("pc.ram", 4096, &known("pc.ram", 8192, 8192));
        assert!(
            matches!(&other, Some(Place::Hidden(reason)) if reason.contains("8192 bytes, and the stream 4096")),
            "{other:?}"
        );
        let unlisted = place("pc.ram", 4096, &known("d", 4096, 4096));
        assert!(matches!(unlisted, Some(Place::Elsewhere(_))));
    }

    #[test]
    fn an_address_that_is_not_said_is_left_to_be_found() {
        let without = RamBlock {
            address: None,
            ..known("pc.ram", 4096, 4096)
        };
        assert_eq!(place("pc.ram", 4096, &without), None);
        assert_eq!(
            address("Host virtual address for 0x100000 (pc.ram) is 0x7f346bf00000\r\n"),
            Some(0x7f34_6bf0_0000)
        );
        assert_eq!(address("No memory is mapped at address 0x80000000"), None);
    }
}
