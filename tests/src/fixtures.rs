//! The captured streams in `tests/fixtures/`, for every crate's tests, and their list, MANIFEST.json.
//!
//! ```text
//!   tests/fixtures/MANIFEST.json
//!   tests/fixtures/<QEMU release>-<case>/<connection>-<forward|return>.zst
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::capture::hex;
use crate::{Context, Error};

/// One captured migration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fixture {
    /// `<QEMU release>-<case>`.
    pub name: String,
    /// QEMU's version as it prints it.
    pub qemu: String,
    /// Machine type.
    pub machine: String,
    /// Switched on at both ends.
    pub capabilities: Vec<String>,
    /// Set at both ends.
    pub parameters: Value,
    /// Whether the guest was switched over in the middle.
    pub post_copy: bool,
    /// What `-m` took.
    pub memory: String,
    /// QEMU's further arguments.
    pub arguments: Vec<String>,
    /// The guest and how it was set up.
    pub guest: String,
    /// In the order of the connections.
    pub files: Vec<File>,
}

/// One direction of one connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Below `tests/fixtures/`.
    pub path: String,
    /// The first connection is 0.
    pub connection: usize,
    /// Which way.
    pub direction: Direction,
    /// What the connection carries.
    pub channel: Channel,
    /// Uncompressed.
    pub length: u64,
    /// Of the uncompressed bytes.
    pub sha256: String,
}

/// Which way the bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Source to destination.
    Forward,
    /// Destination to source.
    Return,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Return => "return",
        })
    }
}

/// What a connection carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// The main channel; its return direction is the return path.
    Main,
    /// A multifd channel with the number that it says it has.
    Multifd(u8),
    /// Neither: post-copy's second channel, which has no magic.
    PostcopyPreempt,
}

impl Channel {
    /// Told by the first bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        /// Behind the magic, the version and a UUID.
        const MULTIFD_NUMBER_AT: usize = 24;
        match bytes.get(..4) {
            Some(b"QEVM") => Self::Main,
            Some([0x11, 0x22, 0x33, 0x44]) => {
                Self::Multifd(bytes.get(MULTIFD_NUMBER_AT).copied().unwrap_or_default())
            }
            _ => Self::PostcopyPreempt,
        }
    }
}

/// All fixtures. They are part of the repository, so one that is missing is an error.
pub fn fixtures() -> Result<Vec<Fixture>, Error> {
    let path = directory().join(MANIFEST);
    let text = fs::read_to_string(&path).context(format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).context(format!("{} is damaged", path.display()))
}

/// Writes the list.
pub fn write_manifest(directory: &Path, fixtures: &[Fixture]) -> Result<(), Error> {
    let path = directory.join(MANIFEST);
    let mut text =
        serde_json::to_string_pretty(fixtures).context("cannot write the list of fixtures")?;
    text.push('\n');
    fs::write(&path, text).context(format!("cannot write {}", path.display()))
}

const MANIFEST: &str = "MANIFEST.json";

/// Where the fixtures are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

impl Fixture {
    /// The file of a channel and direction, if there is one.
    #[must_use]
    pub fn file(&self, channel: &Channel, direction: Direction) -> Option<&File> {
        self.files
            .iter()
            .find(|file| file.channel == *channel && file.direction == direction)
    }

    /// The main channel's forward bytes.
    pub fn main(&self) -> Result<Vec<u8>, Error> {
        self.file(&Channel::Main, Direction::Forward)
            .ok_or_else(|| Error::new(format!("the fixture {} has no main channel", self.name)))?
            .bytes()
    }
}

impl File {
    /// The bytes as they were on the wire, checked against the list.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let path = directory().join(&self.path);
        let packed = fs::read(&path).context(format!("cannot read {}", path.display()))?;
        let bytes = zstd::decode_all(packed.as_slice())
            .context(format!("cannot decompress {}", path.display()))?;
        if bytes.len() as u64 != self.length || hex(&Sha256::digest(&bytes)) != self.sha256 {
            return Err(Error::new(format!(
                "{} is not what {MANIFEST} says",
                path.display()
            )));
        }
        Ok(bytes)
    }
}
