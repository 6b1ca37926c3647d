//! What can be wrong with a journal. The fault is this host's: its disk, its permissions, its settings.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A journal that cannot be used.
#[derive(Debug)]
pub struct JournalError {
    path: PathBuf,
    trouble: Trouble,
}

/// What is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// The system did not write it.
    Write(io::Error),
    /// The system did not read it.
    Read(io::Error),
    /// There is a journal of this session and side already.
    Exists,
    /// It has no room for another step; no session has so many.
    Full,
    /// A text that it should hold is too long.
    TooLong {
        /// Which.
        field: &'static str,
        /// The bound in bytes.
        most: usize,
        /// Its length.
        found: usize,
    },
    /// Bytes in it changed after they were written.
    Damaged {
        /// What is seen of it.
        what: &'static str,
    },
    /// Another version of sealift wrote it, in another form.
    OtherVersion {
        /// The form's number.
        version: u16,
    },
    /// A newer sealift wrote a step that this one does not know.
    NewerStep {
        /// The step's number.
        kind: u8,
    },
    /// No directory was named and the environment names no home.
    NoHome,
}

impl JournalError {
    pub(super) fn new(path: &Path, trouble: Trouble) -> Self {
        Self {
            path: path.to_owned(),
            trouble,
        }
    }

    /// Which file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        &self.trouble
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.trouble {
            Trouble::Write(error) if is_full(error) => write!(
                f,
                "this host's disk has no room for the journal {path}: make room and start again; without a journal no guest is \
                 handed off"
            ),
            Trouble::Write(_) => write!(
                f,
                "this host cannot write the journal {path}: without a journal no guest is handed off"
            ),
            Trouble::Read(_) => write!(f, "this host cannot read the journal {path}"),
            Trouble::Exists => write!(
                f,
                "there is a journal {path} already, and a session's id is used once: start the session anew"
            ),
            Trouble::Full => write!(f, "the journal {path} has no room for another step (a fault of this sealift)"),
            Trouble::TooLong { field, most, found } => write!(
                f,
                "the journal {path} has no room for the {field}: it has {found} bytes, and at most {most} fit"
            ),
            Trouble::Damaged { what } => write!(
                f,
                "the journal {path} is damaged ({what}): ask both QEMUs and the peer's journal where the guest is, and do not start it \
                 on this file's word"
            ),
            Trouble::OtherVersion { version } => write!(
                f,
                "the journal {path} has the form {version}, which this sealift does not know: read it with the one that wrote it"
            ),
            Trouble::NewerStep { kind } => write!(
                f,
                "the journal {path} has a step {kind}, which this sealift does not know: read it with the one that wrote it"
            ),
            Trouble::NoHome => f.write_str(
                "there is no place for journals: neither XDG_STATE_HOME nor HOME is set to an absolute path",
            ),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.trouble {
            Trouble::Write(error) | Trouble::Read(error) => Some(error),
            _ => None,
        }
    }
}
