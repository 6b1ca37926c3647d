//! What lies behind a range of QEMU's addresses, by `/proc/PID/maps`.
//!
//! ```text
//!   7f1b1fe00000-7f1b23e00000 rw-p 00000000 00:00 0                                      anonymous
//!   7f14a5fff000-7f14a7fff000 rw-s 00000000 00:01 11533     /memfd:memory-backend-memfd  a shared file, from offset 0
//!   └ addresses, in hexadecimal   │ offset   │ device, file                              └ may be missing, may hold spaces
//!                                 └ p: private, s: shared
//! ```

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    shared: bool,
    offset: u64,
    file: FileId,
    path: String,
}

/// A file, by what the system tells it apart from others: its device's two numbers and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) inode: u64,
}

/// What a whole range is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// One file, shared, from this offset on.
    File {
        file: FileId,
        offset: u64,
        path: String,
    },
    /// Memory of the process alone, which is zeros until it is written.
    Anonymous,
    /// Something else that can be read and written: a private view of a file, more than one kind.
    Mixed,
}

/// `None` when a line is not understood.
pub(super) fn parse(printed: &str) -> Option<Vec<Mapping>> {
    printed.lines().map(line).collect()
}

fn line(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let trimmed = rest.trim_start();
        let (word, after) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        rest = after;
        word
    };
    let (start, end) = word().split_once('-')?;
    let permissions = word().as_bytes();
    let offset = hexadecimal(word())?;
    let (major, minor) = word().split_once(':')?;
    let inode = word().parse().ok()?;
    let &[read, write, _, sharing] = permissions else {
        return None;
    };
    Some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        writable: read == b'r' && write == b'w',
        shared: sharing == b's',
        offset,
        file: FileId {
            major: u32::from_str_radix(major, 16).ok()?,
            minor: u32::from_str_radix(minor, 16).ok()?,
            inode,
        },
        path: rest.trim().to_owned(),
    })
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// What is behind a range; none when a part of it is not mapped, or cannot be both read and written.
///
/// Several mappings may make one range: the kernel splits them where advice or NUMA policies differ.
pub(super) fn behind(mappings: &[Mapping], address: u64, length: u64) -> Option<Behind> {
    let end = address.checked_add(length)?;
    let mut at = address;
    let mut behind: Option<Behind> = None;
    for mapping in mappings {
        if mapping.end <= at || at >= end {
            continue;
        }
        // They are in order: whatever starts later leaves a gap.
        if mapping.start > at || !mapping.writable {
            return None;
        }
        let this = mapping.behind(at);
        behind = Some(match behind {
            None => this,
            Some(before) if continues(&before, &this, at - address) => before,
            Some(_) => Behind::Mixed,
        });
        at = mapping.end;
    }
    if at < end { None } else { behind }
}

impl Mapping {
    fn behind(&self, address: u64) -> Behind {
        if self.shared {
            Behind::File {
                file: self.file,
                offset: self.offset.saturating_add(address - self.start),
                path: self.path.clone(),
            }
        } else if self.file.inode == 0 {
            Behind::Anonymous
        } else {
            Behind::Mixed
        }
    }
}

fn continues(before: &Behind, this: &Behind, distance: u64) -> bool {
    match (before, this) {
        (
            Behind::File { file, offset, .. },
            Behind::File {
                file: same,
                offset: next,
                ..
            },
        ) => file == same && offset.checked_add(distance) == Some(*next),
        (Behind::Anonymous, Behind::Anonymous) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = include_str!("fixtures/maps.txt");

    fn of(address: u64, length: u64) -> Option<Behind> {
        behind(&parse(PRINTED).unwrap(), address, length)
    }

    fn memfd(offset: u64) -> Behind {
        Behind::File {
            file: FileId {
                major: 0,
                minor: 1,
                inode: 11533,
            },
            offset,
            path: "/memfd:memory-backend-memfd (deleted)".to_owned(),
        }
    }

    #[test]
    fn private_memory_is_told_from_shared_files_and_private_views_of_files() {
        assert_eq!(of(0x7f14_ec40_0000, 0x0200_0000), Some(Behind::Anonymous));
        assert_eq!(of(0x7f14_a5ff_f000, 0x0200_0000), Some(memfd(0)));
        assert_eq!(of(0x7f14_a600_0000, 0x1000), Some(memfd(0x1000)));
        // `share=off`.
        assert_eq!(of(0x7f14_b000_0000, 0x0100_0000), Some(Behind::Mixed));
    }

    #[test]
    fn a_range_in_several_mappings_is_one_if_they_continue_each_other() {
        let one = of(0x7f14_c000_0000, 0x0200_0000);
        let Some(Behind::File { offset, path, .. }) = one else {
            panic!("{one:?}")
        };
        assert_eq!((offset, path.as_str()), (0x100_0000, "/dev/shm/guest one"));
        // The third has another offset, and the fourth is anonymous.
        assert_eq!(of(0x7f14_c000_0000, 0x0300_0000), Some(Behind::Mixed));
        assert_eq!(of(0x7f14_c200_0000, 0x0180_0000), Some(Behind::Mixed));
        assert_eq!(of(0x7f14_c300_0000, 0x0100_0000), Some(Behind::Anonymous));
    }

    #[test]
    fn what_is_not_mapped_or_not_writable_is_not_reached() {
        // One page more than there is, one that begins too early, none at all.
        assert_eq!(of(0x7f14_a5ff_f000, 0x0200_1000), None);
        assert_eq!(of(0x7f14_a5ff_e000, 0x1000_0000), None);
        assert_eq!(of(0x1000, 0x1000), None);
        assert_eq!(of(u64::MAX, 0x1000), None);
        // QEMU's text, and a guard page.
        assert_eq!(of(0x55d0_7a40_0000, 0x1000), None);
        assert_eq!(of(0x7f14_ee40_0000, 0x1000), None);
    }

    #[test]
    fn another_table_is_refused() {
        for printed in [
            "7f14ec400000 rw-p 00000000 00:00 0",
            "7f14ec400000-7f14ee400000 rw 00000000 00:00 0",
            "7f14ec400000-7f14ee400000 rw-p 00000000 0000 0",
            "7f14ec400000-7f14ee400000",
            "Permission denied",
        ] {
            assert_eq!(parse(printed), None, "{printed}");
        }
    }
}
