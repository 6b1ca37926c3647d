//! From what the guest sees where to one order that both ends agree on.
//!
//! ```text
//!   visible     pc.ram 0..a0000 at 0 │ pc.bios 20000..40000 at e0000 │ pc.ram a0000.. at a0000 │ pc.bios 0..40000 at fffc0000
//!   canonical   pc.bios 0..40000 (from two places) │ pc.ram 0.. (from two places)
//! ```
//!
//! By block and offset, each byte once, neighbours joined: where a view is cut is each QEMU's own affair.

use super::flat_view::Visible;

/// A part of a RAM block, and where the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) block: String,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Guest address and length of each piece, in order.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl Range {
    /// What stands before the memory: no two lists of ranges give the same bytes.
    pub(super) fn head(&self) -> Vec<u8> {
        let name = self.block.as_bytes();
        // A name in the stream has at most 255 bytes, and only names that the stream has are admitted.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let mut head = length.to_be_bytes().to_vec();
        head.extend_from_slice(name);
        head.extend_from_slice(&self.offset.to_be_bytes());
        head.extend_from_slice(&self.length.to_be_bytes());
        head
    }
}

pub(super) fn canonical(visible: &[Visible], admitted: &[String]) -> Vec<Range> {
    let mut found: Vec<(Owner<'_>, &Visible)> = visible
        .iter()
        .filter_map(|visible| Some((owner_of(&visible.label, admitted)?, visible)))
        .collect();
    // Of two places that show the same, the lower address at both ends.
    found.sort_by_key(|(owner, visible)| (owner.block, visible.offset, visible.address));

    let mut ranges: Vec<Range> = Vec::new();
    for (Owner { block, is_sure }, visible) in found {
        let end = visible.offset.saturating_add(visible.length);
        match ranges.last_mut() {
            Some(last)
                if is_sure
                    && last.block == block
                    && visible.offset <= last.offset + last.length =>
            {
                // The part that is not there yet; none when the whole was seen elsewhere.
                let new = end.saturating_sub(last.offset + last.length);
                if new > 0 {
                    last.pieces
                        .push((visible.address + (visible.length - new), new));
                    last.length += new;
                }
            }
            _ => ranges.push(Range {
                block: block.to_owned(),
                offset: visible.offset,
                length: end - visible.offset,
                pieces: vec![(visible.address, end - visible.offset)],
            }),
        }
    }
    ranges
}

/// The admitted block that a region belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner<'a> {
    block: &'a str,
    /// Two devices of one kind have regions of one name. What is shown of them goes by the first one's block, at both ends
    /// alike, and is not taken for the same memory.
    is_sure: bool,
}

/// A block's name is its region's, behind the path of the device that owns it: `0000:00:02.0/vga.vram`. Behind the region's
/// name may stand more, such as ` KVM`. The longest match is the block.
fn owner_of<'a>(label: &str, admitted: &'a [String]) -> Option<Owner<'a>> {
    let mut best: Option<(usize, Owner<'a>)> = None;
    for block in admitted {
        let is_region = |region: &&str| {
            label
                .strip_prefix(*region)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let Some(length) = region_names(block).find(is_region).map(str::len) else {
            continue;
        };
        match &mut best {
            Some((longest, owner)) if *longest == length => owner.is_sure = false,
            Some((longest, _)) if *longest > length => {}
            _ => {
                let is_sure = true;
                best = Some((length, Owner { block, is_sure }));
            }
        }
    }
    best.map(|(_, owner)| owner)
}

/// What a block's region may be called: the whole, or what follows a slash. The longest comes first.
fn region_names(block: &str) -> impl Iterator<Item = &str> {
    let after = |(index, _): (usize, &str)| block.get(index + 1..);
    std::iter::once(block)
        .chain(block.match_indices('/').filter_map(after))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(label: &str, offset: u64, address: u64, length: u64) -> Visible {
        Visible {
            address,
            length,
            label: label.to_owned(),
            offset,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn each_byte_of_a_block_counts_once_wherever_the_view_is_cut() {
        let admitted = names(&["pc.ram", "pc.bios"]);
        let one = [
            at("pc.ram", 0, 0, 100),
            at("pc.bios", 20, 1000, 20),
            at("pc.ram KVM", 100, 100, 50),
            at("pc.bios", 0, 2000, 40),
        ];
        let other = [
            at("pc.ram", 0, 0, 30),
            at("pc.ram", 30, 30, 120),
            at("pc.bios", 0, 2000, 40),
        ];
        let heads = |visible: &[Visible]| -> Vec<_> {
            canonical(visible, &admitted)
                .iter()
                .map(Range::head)
                .collect()
        };
        assert_eq!(heads(&one), heads(&other));
        assert_eq!(
            canonical(&one, &admitted),
            [
                Range {
                    block: "pc.bios".to_owned(),
                    offset: 0,
                    length: 40,
                    pieces: vec![(2000, 40)],
                },
                Range {
                    block: "pc.ram".to_owned(),
                    offset: 0,
                    length: 150,
                    pieces: vec![(0, 100), (100, 50)],
                },
            ]
        );
    }

    #[test]
    fn an_overlap_is_read_once_and_a_gap_starts_a_range() {
        let visible = [
            at("a", 0, 1000, 10),
            at("a", 5, 2000, 10),
            at("a", 20, 3000, 5),
        ];
        let ranges = canonical(&visible, &names(&["a"]));
        assert_eq!(
            ranges
                .iter()
                .map(|range| (range.offset, range.length, range.pieces.clone()))
                .collect::<Vec<_>>(),
            [
                (0, 15, vec![(1000, 10), (2005, 5)]),
                (20, 5, vec![(3000, 5)])
            ]
        );
    }

    #[test]
    fn two_devices_memory_of_one_name_is_all_read() {
        let visible = [at("vram", 0, 1000, 10), at("vram", 0, 2000, 10)];
        let ranges = canonical(&visible, &names(&["02.0/vram", "03.0/vram"]));
        let pieces: Vec<_> = ranges.into_iter().map(|range| range.pieces).collect();
        assert_eq!(pieces, [[(1000, 10)], [(2000, 10)]]);
    }

    #[test]
    fn a_region_finds_its_block_behind_the_devices_path() {
        let admitted = names(&[
            "pc.ram",
            "pc.ram 2",
            "0000:00:02.0/vga.vram",
            "0000:00:03.0/vga.vram",
            "/rom@etc/acpi/tables",
        ]);
        for (label, block) in [
            ("pc.ram", Some("pc.ram")),
            ("pc.ram KVM", Some("pc.ram")),
            ("pc.ram 2 KVM", Some("pc.ram 2")),
            ("vga.vram", Some("0000:00:02.0/vga.vram")),
            ("/rom@etc/acpi/tables", Some("/rom@etc/acpi/tables")),
            ("pc.ramp", None),
            ("pc.bios", None),
            ("", None),
        ] {
            let found = owner_of(label, &admitted);
            assert_eq!(found.map(|owner| owner.block), block, "{label}");
            assert_eq!(
                found.is_some_and(|owner| owner.is_sure),
                block.is_some() && label != "vga.vram"
            );
        }
    }
}
