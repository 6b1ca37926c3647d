//! What a bench has measured, as it is kept: everything that the report shows, and what the samples were.

use std::fs;
use std::path::Path;

use sealift_lab::{Context as _, Error};
use serde::{Deserialize, Serialize};

use super::figures::Outcome;
use super::verdict::Verdict;

/// One call of the bench.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// On what.
    pub machine: String,
    /// When, to the minute, in UTC.
    pub date: String,
    /// How many processes wanted to run just before.
    pub load_before: Option<f64>,
    /// QEMU's version.
    pub qemu: String,
    /// In the order in which they were measured.
    pub rows: Vec<Measured>,
}

/// What a row came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// The guest and the link.
    pub what: String,
    /// What sealift was held against, if anything was there.
    pub against: Option<String>,
    /// Every run.
    pub runs: Vec<Outcome>,
    /// What was wanted, and whether it is so.
    pub verdicts: Vec<Verdict>,
}

impl Record {
    /// Reads one.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let text = fs::read(file).context(format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).context(format!("{} is no record", file.display()))
    }

    /// Writes it.
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).context("the record")?;
        write(file, &text)
    }
}

/// Writes a file, with its folder if that is missing.
pub fn write(file: &Path, contents: &[u8]) -> Result<(), Error> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).context(format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, contents).context(format!("cannot write {}", file.display()))
}
