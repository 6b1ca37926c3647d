//! What each side wrote down about a hand-off, so that whoever comes after a crash can learn who must run the guest.
//!
//! One file per session and side, `SESSION-source.journal` or `SESSION-receiver.journal`:
//!
//! ```text
//!  0                                                                       4096
//!  ┌──────┬─────────┬──────────────────────┬────────┬────────┬───┬───────────┐
//!  │magic │ version │ about: which session │ step 1 │ step 2 │ … │ zeros     │
//!  └──────┴─────────┴──────────────────────┴────────┴────────┴───┴───────────┘
//!     8        2           one entry         entry    entry
//!
//!  source:    create ─▶ Intent ─▶ Completed ─▶ Commit ─▶ Done
//!  receiver:  create ─▶ Prepared ─▶ Commit ─▶ Active ─▶ Done          (either, instead: Aborted)
//! ```
//!
//! - The file gets its full length when it is made, so that a disk that fills up later does not lose a step. It has one name, from
//!   the moment at which it is whole and on the disk.
//! - A step is on the disk when [`Journal::append`] returns. Each entry's checksum covers the one before: none can be left out.
//! - An entry that a crash tore is the last one and was never relied upon: [`Record::torn`] says that there was one. Damage
//!   anywhere else is an error: a journal that has lost steps must not look like one that has fewer.
//!
//! Neither guest memory nor keys stand in it. Which of the two journals decides what is not its business: the source QEMU's
//! `completed` is the decision, and the journal is how it is remembered.

mod codec;
mod error;
mod list;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::Side;
use crate::certificate::hex;
use crate::durable;

use codec::{Checksum, FILE_LEN};
pub use error::{JournalError, Trouble};
pub use list::{Listed, default_directory, list};

/// 128 bits that name a session.
pub type SessionId = [u8; 16];

/// What a session is about, for the person who finds its journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct About {
    /// The guest's name; at most 1024 bytes.
    pub guest_name: String,
    /// The guest's UUID.
    pub guest_uuid: [u8; 16],
    /// Who is at the other end; at most 512 bytes.
    pub peer_name: String,
    /// Where this host's QEMU has its control socket, if it has one; at most 512 bytes.
    pub qmp_address: Option<String>,
}

/// How the guest was when it stopped at the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunState {
    /// It ran, and must run at the destination.
    Running,
    /// It was paused, and must stay so.
    Paused,
    /// It slept (ACPI S3), and must sleep on.
    Suspended,
    /// Any other state in which it did not run, such as one after an error.
    Stopped,
}

/// A step of the hand-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Source: SHUT is about to be passed to QEMU. From here on only QEMU knows whether the guest has left.
    Intent,
    /// Source: QEMU says `completed`. The guest has left.
    Completed {
        /// How it was when it stopped.
        run_state: RunState,
    },
    /// Receiver: all is placed, verified and loaded, and the guest stands still.
    Prepared,
    /// Source: about to say that the guest may run there. Receiver: was told so.
    Commit {
        /// How it was when it stopped.
        run_state: RunState,
    },
    /// Receiver: the guest runs here, or stands still here as it did there.
    Active,
    /// Nothing is left to do.
    Done,
    /// The session ended before the decision. The guest is at the source.
    Aborted,
}

/// A step and when it was written, by the wall clock of its host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What happened.
    pub step: Step,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
}

/// What a journal says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Which session.
    pub session: SessionId,
    /// Whose journal.
    pub side: Side,
    /// What the session is about.
    pub about: About,
    /// When the journal was made: nanoseconds since 1970.
    pub created_ns: u64,
    /// The steps in order.
    pub steps: Vec<Entry>,
    /// A last entry was being written when the host or the program stopped. Nothing was done on its strength.
    pub torn: bool,
}

impl Record {
    /// The last step, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<Entry> {
        self.steps.last().copied()
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next entry goes.
    end: u64,
    last: Checksum,
}

impl Journal {
    /// Makes the journal of a session, in `directory`, which is made too where it is missing. When this returns, the journal is on
    /// the disk.
    ///
    /// # Errors
    /// When it cannot be written, or exists: a session id is used once.
    pub fn create(
        directory: &Path,
        session: SessionId,
        side: Side,
        about: &About,
        at_ns: u64,
    ) -> Result<Self, JournalError> {
        let path = directory.join(file_name(&session, side));
        let of = |trouble| JournalError::new(&path, trouble);
        let (mut bytes, last) = codec::head(&session, side, about, at_ns).map_err(of)?;
        let end = bytes.len() as u64;
        bytes.resize(FILE_LEN, 0);
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => of(Trouble::Exists),
            _ => of(Trouble::Write(error)),
        };
        // What is there of its name, and no directory, is no journal.
        durable::create_private_directory(directory).map_err(|error| of(Trouble::Write(error)))?;
        durable::create(&path, &bytes, durable::PRIVATE).map_err(io)?;
        let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        Ok(Self {
            path,
            file,
            end,
            last,
        })
    }

    /// Writes a step down. When this returns, it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written. What the step stands for must not be done then; whether a reader sees the step is not known, as
    /// after a crash at this moment. Another attempt takes the same place.
    pub fn append(&mut self, step: Step, at_ns: u64) -> Result<(), JournalError> {
        let of = |trouble| JournalError::new(&self.path, trouble);
        let (bytes, checksum) = codec::step(step, at_ns, &self.last);
        let next = self.end + bytes.len() as u64;
        if next > FILE_LEN as u64 {
            return Err(of(Trouble::Full));
        }
        let written = self
            .file
            .write_all_at(&bytes, self.end)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Best effort: the step may have reached the disk although the system says that it did not.
            let zeros = vec![0; bytes.len()];
            let _ = self.file.write_all_at(&zeros, self.end);
            let _ = self.file.sync_data();
            return Err(of(Trouble::Write(error)));
        }
        self.end = next;
        self.last = checksum;
        Ok(())
    }

    /// Where the journal is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the journal of a session about which nothing is left to learn.
    ///
    /// # Errors
    /// When it cannot be removed; it then still says what it said.
    pub fn finish(self) -> Result<(), JournalError> {
        fs::remove_file(&self.path)
            .and_then(|()| durable::sync_directory_of(&self.path))
            .map_err(|error| JournalError::new(&self.path, Trouble::Write(error)))
    }

    /// Reads a journal, of a session that is over or not.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Record, JournalError> {
        let of = |trouble| JournalError::new(path, trouble);
        let file = File::open(path).map_err(|error| of(Trouble::Read(error)))?;
        // One byte more than the longest, to see that it is longer.
        let mut bytes = Vec::with_capacity(FILE_LEN + 1);
        io::Read::read_to_end(&mut io::Read::take(file, FILE_LEN as u64 + 1), &mut bytes)
            .map_err(|error| of(Trouble::Read(error)))?;
        codec::read(&bytes).map_err(of)
    }
}

fn file_name(session: &SessionId, side: Side) -> String {
    format!("{}-{side}.{}", hex(session), list::EXTENSION)
}
