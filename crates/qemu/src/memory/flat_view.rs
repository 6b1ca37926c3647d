//! What HMP's `info mtree -f` prints: which guest addresses show what, after all priorities and aliases.
//!
//! ```text
//!   FlatView #2
//!    AS "memory", root: system                 what all devices and processors see
//!    AS "cpu-memory-0", root: system
//!    Root memory region: system
//!     0000000000000000-000000000009ffff (prio 0, ram): pc.ram
//!     00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
//!     00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000
//!     0000000000100000-0000000000801fff (prio 0, ram): pc.ram @0000000000100000 KVM
//! ```

use crate::Error;

/// The address space that is read.
const SPACE: &str = "AS \"memory\",";

/// A run of guest addresses that shows a part of a region of RAM or ROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visible {
    pub(super) address: u64,
    pub(super) length: u64,
    /// The region's name, and behind it whatever this QEMU says of it besides.
    pub(super) label: String,
    pub(super) offset: u64,
}

pub(super) fn parse(printed: &str) -> Result<Vec<Visible>, Error> {
    let mut lines = printed.lines();
    // Views that several address spaces share are printed once, with all their names before the first range.
    if !lines.any(|line| line.trim_start().starts_with(SPACE)) {
        return Err(Error::Malformed {
            problem: "`info mtree -f` printed no flat view of the address space `memory`"
                .to_owned(),
        });
    }
    let mut visible = Vec::new();
    for line in lines.take_while(|line| !line.trim().is_empty() && !line.starts_with("FlatView")) {
        let line = line.trim();
        if line.starts_with("AS ") || line.starts_with("Root memory region:") {
            continue;
        }
        match range(line) {
            Some(Kind::Memory(range)) => visible.push(range),
            Some(Kind::Other) => {}
            None => return Err(not_understood(line)),
        }
    }
    Ok(visible)
}

fn not_understood(line: &str) -> Error {
    // Longer than any line of a known QEMU.
    const SHOWN: usize = 300;
    let line: String = line.chars().take(SHOWN).collect();
    Error::Malformed {
        problem: format!("`info mtree -f` printed a line that was not understood: `{line}`"),
    }
}

enum Kind {
    Memory(Visible),
    Other,
}

fn range(line: &str) -> Option<Kind> {
    let (addresses, rest) = line.split_once(" (prio ")?;
    let (attributes, what) = rest.split_once("): ")?;
    let (_, kind) = attributes.split_once(", ")?;
    let (first, last) = addresses.split_once('-')?;
    let (first, last) = (hexadecimal(first)?, hexadecimal(last)?);
    // `romd` is flash that is being read and not programmed. `ramd` is a device's own memory: not the guest's state.
    if !matches!(
        kind.strip_prefix("nv-").unwrap_or(kind),
        "ram" | "rom" | "romd"
    ) {
        return Some(Kind::Other);
    }
    let (label, offset) = match what.rsplit_once(" @") {
        Some((label, rest)) => {
            let digits = rest.split(' ').next().unwrap_or_default();
            (label, hexadecimal(digits)?)
        }
        None => (what, 0),
    };
    Some(Kind::Memory(Visible {
        address: first,
        length: last.checked_sub(first)?.checked_add(1)?,
        label: label.to_owned(),
        offset,
    }))
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_views_are_read() {
        for printed in [
            include_str!("fixtures/mtree-7.2.txt"),
            include_str!("fixtures/mtree-10.0.txt"),
        ] {
            let found: Vec<_> = parse(printed)
                .unwrap()
                .into_iter()
                .map(|range| (range.label, range.offset, range.address, range.length))
                .collect();
            let expected = [
                ("pc.ram", 0, 0, 0xa_0000),
                ("pc.rom", 0, 0xc_0000, 0x2_0000),
                ("pc.bios", 0x2_0000, 0xe_0000, 0x2_0000),
                ("pc.ram", 0x10_0000, 0x10_0000, 0x70_2000),
                ("pc.bios", 0, 0xfffc_0000, 0x4_0000),
            ]
            .map(|(label, offset, address, length)| (label.to_owned(), offset, address, length));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_view_without_the_space_or_with_another_line_is_refused() {
        let good = include_str!("fixtures/mtree-7.2.txt");
        for printed in [
            "",
            "unknown command: 'info mtree -f'\r\n",
            &good.replace("AS \"memory\"", "AS \"other\""),
            &good.replace("(prio 0, ram)", "(prio 0)"),
            &good.replace("0000000000100000-", "-"),
            &good.replace("0000000000801fff", "00000000000fffff"),
            &good.replace(" @0000000000100000", " @x"),
        ] {
            assert!(
                matches!(parse(printed), Err(Error::Malformed { .. })),
                "{printed}"
            );
        }
    }

    #[test]
    fn flash_counts_and_a_devices_memory_does_not() {
        let line = |kind| {
            format!("0000000000001000-0000000000001fff (prio 0, {kind}): a b @0000000000000010 KVM")
        };
        for kind in ["ram", "rom", "romd", "nv-ram"] {
            let Some(Kind::Memory(range)) = range(&line(kind)) else {
                panic!("{kind}")
            };
            assert_eq!((range.label.as_str(), range.offset), ("a b", 16));
        }
        for kind in ["ramd", "i/o", "nv-ramd", "container"] {
            assert!(matches!(range(&line(kind)), Some(Kind::Other)), "{kind}");
        }
    }
}
