//! Mapped access: the file behind a shared memory backend, read and written as a file.
//!
//! ```text
//!   guest ── QEMU's mapping, shared ──▶ pages of the file ◀── pread, pwrite ── sealift
//! ```
//!
//! Both see the same pages, so this needs no mapping of sealift's own, and thus no `unsafe` and no SIGBUS when somebody cuts
//! the file; a mapping would be faster for single pages (docs/QEMU.md). A hole reads as zeros without being filled, and a page
//! that is written whole is not cleared first.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, fstatfs, major, minor, seek};
use rustix::io::Errno;

use super::maps::FileId;
use super::{Purpose, runs};

/// From `linux/magic.h`: file systems whose files hold, for reads and writes, the very pages that are mapped.
const TMPFS: u64 = 0x0102_1994;
const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
/// This one as well, but it takes no writes.
const HUGETLBFS: u64 = 0x9584_58f6;

/// A block's file.
#[derive(Debug)]
pub(super) struct Mapped {
    file: File,
    /// Where in it the block begins.
    start: u64,
}

impl Mapped {
    /// Opens the file through QEMU's own descriptor of it: its name may be gone, or be another file's by now.
    pub(super) fn open(
        pid: u32,
        id: FileId,
        start: u64,
        length: u64,
        purpose: Purpose,
    ) -> Result<Self, String> {
        let path = descriptor(pid, id)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(purpose == Purpose::Write)
            .open(path)
            .map_err(|error| format!("its backend's file cannot be opened ({error})"))?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        // QEMU may have closed that descriptor and opened another under its number.
        if !is(&metadata, id) {
            return Err("QEMU has closed its backend's file meanwhile".to_owned());
        }
        if start
            .checked_add(length)
            .is_none_or(|end| end > metadata.len())
        {
            return Err("its backend's file is shorter than the block".to_owned());
        }
        suits(&file, purpose)?;
        Ok(Self { file, start })
    }

    pub(super) fn read(&self, offsets: &[u64], page: usize, into: &mut [u8]) -> io::Result<()> {
        runs::each(offsets, page, into, |offset, part| {
            self.file.read_exact_at(part, self.start + offset)
        })
    }

    pub(super) fn write(&self, offsets: &[u64], page: usize, from: &[u8]) -> io::Result<()> {
        runs::each_from(offsets, page, from, |offset, part| {
            self.file.write_all_at(part, self.start + offset)
        })
    }

    /// All that is not a hole; none where the file system does not tell.
    pub(super) fn populated(&self, length: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        let end = self.start + length;
        let mut found = Vec::new();
        let mut at = self.start;
        while at < end {
            let data = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => data,
                // A hole to the end.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if data >= end {
                break;
            }
            let hole = seek(&self.file, SeekFrom::Hole(data))?.min(end);
            found.push(data - self.start..hole - self.start);
            // Never back, whatever the file system says.
            at = hole.max(data + 1);
        }
        Ok(Some(found))
    }
}

/// QEMU keeps its backends' files open.
fn descriptor(pid: u32, id: FileId) -> Result<PathBuf, String> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = fs::read_dir(&directory)
        .map_err(|error| format!("QEMU's open files cannot be listed ({error})"))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| names(path, id))
        .ok_or_else(|| "QEMU does not hold its backend's file open".to_owned())
}

fn names(path: &Path, id: FileId) -> bool {
    fs::metadata(path).is_ok_and(|metadata| is(&metadata, id))
}

/// Whether it is this file, and a plain one: to open something else might wait, or do something.
fn is(metadata: &fs::Metadata, id: FileId) -> bool {
    let this = FileId {
        major: major(metadata.dev()),
        minor: minor(metadata.dev()),
        inode: metadata.ino(),
    };
    this == id && metadata.is_file()
}

fn suits(file: &File, purpose: Purpose) -> Result<(), String> {
    let kind = fstatfs(file)
        .map_err(|error| format!("its backend's file system is not known ({error})"))?
        .f_type;
    match u64::try_from(kind) {
        Ok(TMPFS | EXT | XFS) => Ok(()),
        Ok(HUGETLBFS) if purpose == Purpose::Read => Ok(()),
        Ok(HUGETLBFS) => {
            Err("its backend's file has huge pages, which are not written as a file".to_owned())
        }
        _ => Err(format!(
            "its backend's file system (type {kind:#x}) is not known to show a mapping and a file alike"
        )),
    }
}

/// Whether a failure means that the file ended.
pub(super) fn is_short(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::WriteZero
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of this process's own stands for QEMU's.
    fn open(file: &File, start: u64, length: u64, purpose: Purpose) -> Result<Mapped, String> {
        let metadata = file.metadata().unwrap();
        let id = FileId {
            major: major(metadata.dev()),
            minor: minor(metadata.dev()),
            inode: metadata.ino(),
        };
        Mapped::open(std::process::id(), id, start, length, purpose)
    }

    #[test]
    fn a_block_is_a_part_of_its_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.set_len(5 * 4096).unwrap();
        let mapped = open(&file, 4096, 4 * 4096, Purpose::Write).unwrap();

        let pages = [[2; 4096], [3; 4096], [4; 4096]].concat();
        mapped
            .write(&[2 * 4096, 3 * 4096, 4096], 4096, &pages)
            .unwrap();
        let mut all = vec![9; 4 * 4096];
        mapped.read(&[0], all.len(), &mut all).unwrap();
        let expected = [[0; 4096], [4; 4096], [2; 4096], [3; 4096]].concat();
        assert_eq!(all, expected);
        let mut before = [0; 1];
        file.read_exact_at(&mut before, 4095).unwrap();
        assert_eq!(before, [1]);
    }

    #[test]
    fn what_was_never_written_is_not_populated() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let mapped = open(&file, 0, 64 << 20, Purpose::Write).unwrap();
        assert_eq!(mapped.populated(64 << 20).unwrap().unwrap(), []);

        mapped.write(&[32 << 20], 4096, &[1; 4096]).unwrap();
        let populated = mapped.populated(64 << 20).unwrap().unwrap();
        let holds = |offset| populated.iter().any(|range| range.contains(&offset));
        assert!(
            holds(32 << 20) && !holds(0) && !holds(48 << 20),
            "{populated:?}"
        );
    }

    #[test]
    fn a_file_that_is_cut_is_short() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * 4096).unwrap();
        let mapped = open(&file, 0, 2 * 4096, Purpose::Read).unwrap();
        file.set_len(4096).unwrap();
        let mut page = [0; 4096];
        mapped.read(&[0], 4096, &mut page).unwrap();
        let error = mapped.read(&[4096], 4096, &mut page).unwrap_err();
        assert!(is_short(&error), "{error}");

        let refused = open(&file, 0, 2 * 4096, Purpose::Read).unwrap_err();
        assert!(refused.contains("shorter"), "{refused}");
    }

    #[test]
    fn a_file_that_nobody_holds_is_not_found() {
        let id = FileId {
            major: 0,
            minor: 0,
            inode: 1,
        };
        let refused = Mapped::open(std::process::id(), id, 0, 1, Purpose::Read).unwrap_err();
        assert!(refused.contains("does not hold"), "{refused}");
    }
}
