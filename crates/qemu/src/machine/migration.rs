//! The answer to `query-migrate`.
//!
//! ```text
//!   None ─▶ Setup ─▶ Active ─▶ (PreSwitchover) ─▶ Device ─▶ Completed
//!                       │            │               │
//!                       └────────────┴───────────────┴─▶ Failed, or Cancelling ─▶ Cancelled
//! ```

use serde_json::Value;

/// How a migration stands.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Migration {
    /// The stage.
    pub status: MigrationStatus,
    /// QEMU's own words on what went wrong.
    pub error: Option<String>,
    /// What became of the memory; at the destination there is none.
    pub ram: Option<RamProgress>,
    /// How long the guest stood still, in milliseconds; once completed.
    pub downtime_ms: Option<u64>,
    /// For how many hundredths of the time QEMU stops the guest's processors, while it does.
    pub throttled_percent: Option<u8>,
    /// Why this guest cannot be migrated; empty when it can.
    pub blocked_reasons: Vec<String>,
}

/// QEMU's stages of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum MigrationStatus {
    /// None has been started.
    #[default]
    None,
    /// It is being prepared, or a destination waits.
    Setup,
    /// The guest runs and its memory is carried.
    Active,
    /// The guest is stopped and QEMU waits for `migrate-continue`.
    PreSwitchover,
    /// The guest is stopped and the rest is carried.
    Device,
    /// The destination runs, or was started, before all memory was there.
    PostcopyActive,
    /// Done: at the source the guest is stopped for good.
    Completed,
    /// It failed.
    Failed,
    /// It is being given up.
    Cancelling,
    /// It was given up.
    Cancelled,
    /// It waits for a device to be unplugged.
    WaitUnplug,
    /// Another word.
    Other(String),
}

impl MigrationStatus {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    fn parse(word: &str) -> Self {
        match word {
            "none" => Self::None,
            "setup" => Self::Setup,
            "active" => Self::Active,
            "pre-switchover" => Self::PreSwitchover,
            "device" => Self::Device,
            "postcopy-active" => Self::PostcopyActive,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelling" => Self::Cancelling,
            "cancelled" => Self::Cancelled,
            "wait-unplug" => Self::WaitUnplug,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// QEMU's own count of the memory that it has sent; 0 where it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RamProgress {
    /// Bytes of memory still to be sent in this round.
    pub remaining: u64,
    /// Pages a second that the guest writes to, over the last round.
    pub dirty_pages_rate: u64,
    /// How often QEMU has looked at the dirty bitmap.
    pub dirty_sync_count: u64,
}

impl Migration {
    pub(super) fn parse(answer: &Value) -> Self {
        let number = |field: &str| answer[field].as_u64();
        Self {
            // An empty answer is a QEMU that never migrated.
            status: answer["status"]
                .as_str()
                .map(MigrationStatus::parse)
                .unwrap_or_default(),
            error: answer["error-desc"].as_str().map(str::to_owned),
            ram: answer
                .get("ram")
                .filter(|ram| ram.is_object())
                .map(RamProgress::parse),
            downtime_ms: number("downtime"),
            throttled_percent: number("cpu-throttle-percentage")
                .and_then(|percent| u8::try_from(percent).ok()),
            blocked_reasons: answer["blocked-reasons"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl RamProgress {
    fn parse(ram: &Value) -> Self {
        let number = |field: &str| ram[field].as_u64().unwrap_or(0);
        Self {
            remaining: number("remaining"),
            dirty_pages_rate: number("dirty-pages-rate"),
            dirty_sync_count: number("dirty-sync-count"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_qemu_that_never_migrated_says_nothing() {
        assert_eq!(Migration::parse(&json!({})), Migration::default());
    }

    #[test]
    fn a_blocked_guest_names_its_reasons() {
        let migration = Migration::parse(&json!({ "blocked-reasons": ["a 9p share", 7] }));
        assert_eq!(migration.blocked_reasons, ["a 9p share"]);
        assert_eq!(migration.status, MigrationStatus::None);
    }

    #[test]
    fn a_later_qemus_words_are_kept() {
        let migration = Migration::parse(&json!({ "status": "colo", "error-desc": "why" }));
        assert_eq!(migration.status, MigrationStatus::Other("colo".to_owned()));
        assert_eq!(migration.error.as_deref(), Some("why"));
        assert!(!migration.status.is_final());
    }

    #[test]
    fn both_versions_progress_is_read() {
        for (answer, status, rounds) in [
            (
                include_str!("fixtures/migrate-7.2.json"),
                MigrationStatus::Completed,
                2,
            ),
            (
                include_str!("fixtures/migrate-10.0.json"),
                MigrationStatus::Completed,
                2,
            ),
        ] {
            let migration = Migration::parse(&serde_json::from_str(answer).unwrap());
            assert_eq!(migration.status, status);
            assert!(migration.status.is_final());
            let ram = migration.ram.unwrap();
            assert!(ram.dirty_sync_count >= rounds, "{ram:?}");
            assert_eq!(ram.remaining, 0);
            assert!(migration.downtime_ms.is_some());
        }
    }
}
