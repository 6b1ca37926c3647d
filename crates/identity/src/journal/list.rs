//! The journals of this host, and where they are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::{Journal, JournalError, Record, Trouble};

/// What a journal's name ends in; a file that is only being made has another ending.
pub(super) const EXTENSION: &str = "journal";

/// A journal in a directory: what it says, or why that is not known.
#[derive(Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub record: Result<Record, JournalError>,
}

/// The journals in `directory`, by name. One that is damaged is listed as such: it belongs to a guest all the same. A directory that
/// does not exist has none.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &Path) -> Result<Vec<Listed>, JournalError> {
    let of = |error: io::Error| JournalError::new(directory, Trouble::Read(error));
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(of)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(of)?.path();
        if path.extension() == Some(OsStr::new(EXTENSION)) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut listed = Vec::with_capacity(paths.len());
    for path in paths {
        let record = Journal::read(&path);
        // A session that ended meanwhile.
        let gone = |error: &JournalError| matches!(error.trouble(), Trouble::Read(error) if error.kind() == io::ErrorKind::NotFound);
        if !record.as_ref().is_err_and(gone) {
            listed.push(Listed { path, record });
        }
    }
    Ok(listed)
}

/// Where journals are kept when nothing else is said: a place that outlives a restart of the host.
///
/// # Errors
/// When this user has no home.
pub fn default_directory() -> Result<PathBuf, JournalError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/sealift/sessions"));
    }
    let of_user = state_home(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"));
    of_user.ok_or_else(|| JournalError::new(Path::new(""), Trouble::NoHome))
}

/// By the XDG base directory specification, which says that relative paths are to be ignored.
pub(super) fn state_home(
    state: Option<impl Into<PathBuf>>,
    home: Option<impl Into<PathBuf>>,
) -> Option<PathBuf> {
    let state = state.map(Into::into).filter(|path| path.is_absolute());
    let home = home.map(Into::into).filter(|path| path.is_absolute());
    let base = state.or_else(|| Some(home?.join(".local/state")))?;
    Some(base.join("sealift/sessions"))
}
