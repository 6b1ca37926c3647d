//! A file that is there whole or not at all.
//!
//! ```text
//!  .NAME.PID.new, for this user alone ─▶ written ─▶ fsync ─▶ link to NAME, never over another file ─▶ fsync the directory
//!      └ dropped before that: removed
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Only this user: it holds a guest's memory, sealed or not.
const PRIVATE: u32 = 0o600;

/// A file that has no name yet.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    /// What it is called until then.
    temporary: PathBuf,
}

impl Unfinished {
    /// Begins a file. The error is `AlreadyExists` when there is one of that name, which stays as it is.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
        let name = format!(".{}.{}.new", name.display(), std::process::id());
        let temporary = directory_of(path).join(name);
        let file = OpenOptions::new()
            .write(true)
            // Never through a link that somebody else put there.
            .create_new(true)
            .mode(PRIVATE)
            .open(&temporary)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            temporary,
        })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, when all that was written is on the disk.
    pub(crate) fn keep(self) -> io::Result<()> {
        self.file.sync_all()?;
        // A link never replaces, unlike a rename.
        fs::hard_link(&self.temporary, &self.path)?;
        // The name must not be lost either, before anybody counts on it.
        File::open(directory_of(&self.path))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The file stays if it has its other name.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_file_that_is_kept_is_there_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let unfinished = Unfinished::create(&path).unwrap();
        unfinished.file().write_all(b"whole").unwrap();
        assert!(!path.exists());
        unfinished.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!((mode & 0o777, names(directory.path())), (0o600, 1));
    }

    #[test]
    fn a_file_that_is_not_kept_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(Unfinished::create(&directory.path().join("file")).unwrap());
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let unfinished = Unfinished::create(&path).unwrap();
        fs::write(&path, b"older").unwrap();
        let again = Unfinished::create(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let kept = unfinished.keep().unwrap_err();
        assert_eq!(kept.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"older");
        assert_eq!(names(directory.path()), 1);
    }
}
