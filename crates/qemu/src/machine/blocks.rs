//! What HMP's `info ramblock` prints. There is no QMP command for it.
//!
//! ```text
//!               Block Name    PSize              Offset               Used              Total                HVA  RO
//!                   pc.ram    4 KiB  0x0000000000000000 0x0000000000802000 0x0000000000802000 0x00007f66ea800000  rw
//!   /rom@etc/acpi/tables    4 KiB  0x0000000001900000 0x0000000000020000 0x0000000000200000 …
//! ```
//!
//! The last two columns are there from 8.2 on; anything after the sixth is passed over. A name may hold spaces, so a line
//! is read from its right end: the size's two words stand before the first hexadecimal number.

use crate::Error;

/// A block of the guest's memory, as this QEMU has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// As the migration stream names it.
    pub name: String,
    /// Of the memory behind it: larger than the guest's with huge pages.
    pub page_size: u64,
    /// Bytes in use: a resizable block's may be less than its total.
    pub used: u64,
    /// Bytes that it may grow to.
    pub total: u64,
    /// Where it lies in QEMU's process; not said before 8.2.
    pub address: Option<u64>,
}

/// More blocks than this are not believed; the monitor's answer is bounded anyway.
const MAX_BLOCKS: usize = 4096;

pub(super) fn parse(printed: &str) -> Result<Vec<RamBlock>, Error> {
    let mut lines = printed.lines().filter(|line| !line.trim().is_empty());
    let heading = lines.next().unwrap_or_default();
    if !heading.trim_start().starts_with("Block Name") {
        return Err(not_understood(heading));
    }
    let blocks = lines
        .take(MAX_BLOCKS)
        .map(|line| block(line).ok_or_else(|| not_understood(line)))
        .collect::<Result<Vec<_>, _>>()?;
    if blocks.is_empty() {
        return Err(not_understood("no line after the heading"));
    }
    Ok(blocks)
}

fn not_understood(line: &str) -> Error {
    // A block's name has at most 255 bytes, the columns less than that.
    const SHOWN: usize = 512;
    let line: String = line.chars().take(SHOWN).collect();
    Error::Malformed {
        problem: format!("`info ramblock` printed a line that was not understood: `{line}`"),
    }
}

fn block(line: &str) -> Option<RamBlock> {
    // The first number in this form is the offset. A name could hold one too, but hardly with a size before it.
    let (before, numbers) = line.split_once("iB  0x")?;
    let (name_and_size, unit) = match before.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(rest) => (rest, before.get(rest.len()..)?),
        None => return None,
    };
    let (name, size) = name_and_size.trim_end().rsplit_once(' ')?;
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 40,
    };
    let page_size = size.parse::<u64>().ok()?.checked_shl(shift)?;
    let mut numbers = numbers.split_whitespace().skip(1).map(|number| {
        let digits = number.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    });
    Some(RamBlock {
        name: name.trim().to_owned(),
        page_size,
        used: numbers.next()??,
        total: numbers.next()??,
        address: numbers.next().flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_7_2: &str = include_str!("fixtures/ramblock-7.2.txt");
    const FROM_10_0: &str = include_str!("fixtures/ramblock-10.0.txt");

    #[test]
    fn both_versions_tables_are_read() {
        for (printed, addresses) in [
            (FROM_7_2, [None; 2]),
            (FROM_10_0, [Some(0x7f1d_9b60_0000), Some(0x7f1d_9960_0000)]),
        ] {
            let blocks = parse(printed).unwrap();
            assert_eq!(blocks.len(), 8);
            assert!(blocks.contains(&RamBlock {
                name: "pc.ram".to_owned(),
                page_size: 4096,
                used: 0x0080_2000,
                total: 0x0080_2000,
                address: addresses[0],
            }));
            // A resizable one.
            assert!(blocks.contains(&RamBlock {
                name: "/rom@etc/acpi/tables".to_owned(),
                page_size: 4096,
                used: 0x0002_0000,
                total: 0x0020_0000,
                address: addresses[1],
            }));
        }
    }

    #[test]
    fn huge_pages_and_names_with_spaces_are_read() {
        let printed = FROM_10_0
            .replace(
                "               pc.ram    4 KiB",
                "  my own 0x memory    2 MiB",
            )
            .replace(
                "   /rom@etc/table-loader    4 KiB",
                "   /rom@etc/table-loader    1 GiB",
            );
        let blocks = parse(&printed).unwrap();
        let of = |name: &str| {
            blocks
                .iter()
                .find(|block| block.name == name)
                .map(|block| block.page_size)
        };
        assert_eq!(of("my own 0x memory"), Some(2 << 20));
        assert_eq!(of("/rom@etc/table-loader"), Some(1 << 30));
    }

    #[test]
    fn another_table_is_refused() {
        for printed in [
            "",
            "unknown command: 'info ramblock'\r\n",
            "              Block Name    PSize\r\n",
            &FROM_7_2.replace("KiB", "miles"),
            &FROM_7_2.replace("0x", ""),
        ] {
            assert!(
                matches!(parse(printed), Err(Error::Malformed { .. })),
                "{printed}"
            );
        }
    }
}
