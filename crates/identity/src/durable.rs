//! Files that are there whole or not at all, also after a power cut.
//!
//! ```text
//!  write .NAME.PID.new ─▶ fsync ─▶ link or rename to NAME ─▶ fsync the directory
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Only this user.
pub(crate) const PRIVATE: u32 = 0o600;
/// Everybody may read: certificates.
pub(crate) const PUBLIC: u32 = 0o644;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Writes a file that must not exist yet.
///
/// # Errors
/// Also when a file of that name exists (`AlreadyExists`), which is then untouched.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = write_beside(path, bytes, mode)?;
    // A link never replaces, unlike a rename.
    let linked = fs::hard_link(&new, path);
    let removed = fs::remove_file(&new);
    linked.and(removed)?;
    sync_directory_of(path)
}

/// Writes a file, in place of an older one if there is one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = write_beside(path, bytes, mode)?;
    if let Err(error) = fs::rename(&new, path) {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    sync_directory_of(path)
}

/// Makes a directory that only this user can enter, and those above it; one that exists stays as it is.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIRECTORY)
        .create(path)
}

/// Makes sure that names that were made or removed beside `path` stay so.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let name = format!(".{}.{}.new", name.display(), std::process::id());
    let new = directory_of(path).join(name);
    // A process of this number may have ended half-way once.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        // Never through a link that somebody else put there.
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(new)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
