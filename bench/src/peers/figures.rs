//! What one run came to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Transport;
use super::samples::Sample;

/// The figures of a run in which the guest arrived.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    /// From the order to the guest's running at the destination with all that it has, seconds.
    pub time_s: f64,
    /// From the guest's stop to its running at the destination, milliseconds.
    pub blackout_ms: f64,
    /// What QEMU says that was, milliseconds.
    pub qemu_downtime_ms: Option<f64>,
    /// Bytes through the source host's end of the link, both ways.
    pub wire_bytes: u64,
    /// Processor seconds of all that moved the guest.
    pub cpu_s: f64,
    /// The guest's work while it moved, as a share of its work before.
    pub work: f64,
    /// Pages that it checked a second before it moved.
    pub work_before: f64,
    /// The longest time that its program did not come to run while it moved, milliseconds.
    pub stall_ms: f64,
    /// The same for as long before it moved as was looked at, milliseconds.
    pub stall_before_ms: f64,
    /// Whether every page was what it had to be, checked at the destination; else what was wrong.
    pub damage: Option<String>,
    /// How it went.
    pub samples: Vec<Sample>,
    /// How sealift reached the guest's memory at the source, in its own words.
    pub access: Option<String>,
    /// The events of sealift's source in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealift: Vec<Value>,
}

impl Figures {
    /// The bytes on the wire.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
    pub fn wire(&self) -> f64 {
        self.wire_bytes as f64
    }
}

/// One run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    /// How the guest was moved.
    pub transport: Transport,
    /// In which round.
    pub round: usize,
    /// With the calmer guest that the row's own is held against.
    #[serde(default)]
    pub calmer: bool,
    /// What it came to.
    #[serde(flatten)]
    pub came_to: CameTo,
}

/// What a run came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CameTo {
    /// The guest arrived.
    Figures(Box<Figures>),
    /// It did not, or not in time; why.
    Failure(String),
}

impl Outcome {
    /// The figures, if the guest arrived.
    #[must_use]
    pub fn figures(&self) -> Option<&Figures> {
        match &self.came_to {
            CameTo::Figures(figures) => Some(figures),
            CameTo::Failure(_) => None,
        }
    }

    /// Why there are none.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.came_to {
            CameTo::Figures(_) => None,
            CameTo::Failure(why) => Some(why),
        }
    }
}
