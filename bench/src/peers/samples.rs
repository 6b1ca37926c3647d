//! How a move goes while it lasts: what has passed, what is left, when it should end.
//!
//! ```text
//!   bytes      the destination's end of the link, by /proc of its QEMU: the same for all
//!   the rest   sealift: its progress events       QEMU: query-migrate, four times a second
//! ```

use std::fs;
use std::time::{Duration, Instant};

use sealift_lab::guest::Guest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Often enough for a picture, seldom enough not to be seen in it: an answer takes QEMU well below a millisecond.
const EVERY: Duration = Duration::from_millis(250);

/// One look. What is not known is left out.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the order.
    pub at_s: f64,
    /// Bytes over the link since the order, both ways.
    pub wire_bytes: Option<u64>,
    /// Memory that has still to be sent.
    pub remaining_bytes: Option<u64>,
    /// What the guest rewrites in a second, as whoever moves it sees it.
    pub dirty_bytes_per_s: Option<u64>,
    /// When it should have ended, in seconds since the order.
    pub predicted_end_s: Option<f64>,
}

/// Takes them while a guest moves.
#[derive(Debug)]
pub(super) struct Sampler {
    begun: Instant,
    /// A process on the destination's host.
    at: u32,
    passed_before: u64,
    next: Instant,
    taken: Vec<Sample>,
}

/// What the looks at QEMU say beside the figures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QemuSays {
    /// Walks through memory that are done.
    pub(super) walks: u64,
}

impl Sampler {
    /// From now on; a process on the destination's host tells what passes.
    pub(super) fn new(at: u32) -> Self {
        let begun = Instant::now();
        Self {
            begun,
            at,
            passed_before: passed(at).unwrap_or(0),
            next: begun,
            taken: Vec::new(),
        }
    }

    /// Looks, if it is time; at the source's QEMU as well if that is who moves the guest.
    pub(super) fn look(&mut self, source: Option<&mut Guest>) -> Option<QemuSays> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let at_s = now.duration_since(self.begun).as_secs_f64();
        let passed = passed(self.at).map(|now| now.saturating_sub(self.passed_before));
        let mut sample = Sample {
            at_s,
            wire_bytes: passed,
            ..Sample::default()
        };
        let said = source.and_then(|source| {
            let asked = source.qmp().execute("query-migrate", Value::Null);
            asked.ok().map(|answer| sample.add_qemu(&answer))
        });
        self.taken.push(sample);
        said
    }

    /// All that were taken, with what sealift has told of itself.
    pub(super) fn into_samples(mut self, ordered_ns: u64, sealift: &[Value]) -> Vec<Sample> {
        let told = sealift
            .iter()
            .filter_map(|event| Sample::of_progress(event, ordered_ns));
        self.taken.extend(told);
        self.taken.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        self.taken
    }
}

impl Sample {
    /// QEMU predicts nothing; what it knows says when it would end if the guest rewrote nothing more than it does now.
    #[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
    fn add_qemu(&mut self, answer: &Value) -> QemuSays {
        let ram = &answer["ram"];
        self.remaining_bytes = ram["remaining"].as_u64();
        let page = ram["page-size"].as_u64().unwrap_or(4096);
        let rate = ram["dirty-pages-rate"].as_u64();
        // 0 until it has walked through memory once.
        let known = rate.filter(|&pages| pages > 0);
        self.dirty_bytes_per_s = known.map(|pages| pages * page);
        let pages_per_s = ram["pages-per-second"].as_u64();
        let gained = pages_per_s
            .zip(rate)
            .map(|(sent, dirtied)| sent.saturating_sub(dirtied));
        if let (Some(remaining), Some(gained @ 1..)) = (self.remaining_bytes, gained) {
            self.predicted_end_s = Some(self.at_s + remaining as f64 / (gained * page) as f64);
        }
        QemuSays {
            walks: ram["dirty-sync-count"].as_u64().unwrap_or(0),
        }
    }

    fn of_progress(event: &Value, ordered_ns: u64) -> Option<Self> {
        if event["event"] != "progress" {
            return None;
        }
        let at = OffsetDateTime::parse(event["at"].as_str()?, &Rfc3339).ok()?;
        let since = at.unix_timestamp_nanos() - i128::from(ordered_ns);
        let at_s = Duration::from_nanos(u64::try_from(since).ok()?).as_secs_f64();
        let ends = event["predicted_end_ms"].as_f64();
        Some(Self {
            at_s,
            wire_bytes: None,
            remaining_bytes: event["remaining_bytes"].as_u64(),
            dirty_bytes_per_s: event["dirty_bytes_per_s"].as_u64(),
            predicted_end_s: ends.map(|in_ms| at_s + in_ms / 1e3),
        })
    }
}

/// What a process on a host has received over the link and sent, by its namespace's own account.
fn passed(pid: u32) -> Option<u64> {
    parse_passed(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

/// `eth0: RECEIVED packets … SENT packets …`, eight numbers each.
fn parse_passed(table: &str) -> Option<u64> {
    let mut lines = table.lines();
    let (_, numbers) = lines.find_map(|line| line.trim().split_once("eth0:"))?;
    let numbers: Vec<u64> = numbers
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    Some(numbers.first()? + numbers.get(8)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_sealift_tells_is_on_the_clock_of_the_order() {
        let told = json!({
            "at": "1970-01-01T00:00:12.500000000Z", "event": "progress", "remaining_bytes": 4096, "predicted_end_ms": 1500.0,
        });
        let sample = Sample::of_progress(&told, 10_000_000_000).unwrap();
        assert_eq!((sample.at_s, sample.predicted_end_s), (2.5, Some(4.0)));
        assert_eq!(sample.remaining_bytes, Some(4096));
        assert!(Sample::of_progress(&json!({ "event": "stage" }), 0).is_none());
    }

    #[test]
    fn qemu_never_ends_where_it_gains_nothing() {
        let answer = |sent: u64| json!({ "ram": { "remaining": 8192, "page-size": 4096, "dirty-pages-rate": 5, "pages-per-second": sent } });
        let mut sample = Sample::default();
        sample.add_qemu(&answer(5));
        assert_eq!(sample.predicted_end_s, None);
        sample.add_qemu(&answer(7));
        assert_eq!(sample.predicted_end_s, Some(1.0));
    }

    #[test]
    fn both_directions_of_the_link_are_counted() {
        let table = "Inter-| Receive\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 100 2 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n";
        assert_eq!(parse_passed(table), Some(130));
        assert_eq!(parse_passed("lo: 1"), None);
    }
}
