//! Trips as tables.

use std::fmt::Write as _;
use std::time::Duration;

use sealift_pages::Share;

use super::recorded::Recorded;
use super::{Trip, Way};

/// What the pages are.
#[must_use]
pub fn summary(recorded: &Recorded) -> String {
    let zeros = recorded
        .sent
        .iter()
        .filter(|(_, content)| content.is_none());
    format!(
        "{} pages: {} of zeros, {} MB of content; {} kB of something else",
        recorded.sent.len(),
        zeros.count(),
        recorded.memory.len() / 1_000_000,
        recorded.others / 1000
    )
}

/// Bytes and speeds of each way.
#[must_use]
pub fn speeds(ways: &[Way], trips: &[Trip]) -> String {
    let mut text = format!(
        "{:<26} {:>10} {:>7} {:>7}  {:<31} {:<38} {}\n",
        "",
        "sealed MB",
        "out",
        "back",
        "ns per page: read find enc seal",
        "open decode resolve verify place",
        "zstd's own speed, and out's part of it"
    );
    for (way, trip) in ways.iter().zip(trips) {
        let pages = trip.content / 4096;
        let parts = |parts: &[Duration]| {
            let each = parts.iter().map(|part| format!("{:>6}", per(*part, pages)));
            each.collect::<String>()
        };
        let (content, raw) = (trip.content, trip.tally.group_raw_bytes);
        let zstd = match way.level {
            Some(_) if way.windows == 0 => format!(
                "{:.3} GB/s  {:.2}",
                speed(raw, trip.zstd),
                trip.zstd.as_secs_f64() / trip.out().as_secs_f64()
            ),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<26} {:>10.1} {:>7.3} {:>7.3}  {:<31} {:<38} {zstd}",
            way.name,
            mb(trip.sealed),
            speed(content, trip.out()),
            speed(content, trip.back()),
            parts(&trip.out),
            parts(&trip.back),
        );
    }
    text
}

/// Pages and bytes of each kind.
#[must_use]
pub fn kinds(ways: &[Way], trips: &[Trip]) -> String {
    let mut text = format!(
        "{:<26} {:>20} {:>22} {:>20} {:>20} {:>16}\n",
        "pages, MB", "zero", "literal", "same-as", "delta", "groups"
    );
    for (way, trip) in ways.iter().zip(trips) {
        let tally = &trip.tally;
        let share = |share: Share| format!("{} {:>9.2}", share.pages, mb(share.bytes));
        let _ = writeln!(
            text,
            "{:<26} {:>20} {:>22} {:>20} {:>20} {:>7.1} → {:>6.1}",
            way.name,
            share(tally.zero),
            share(tally.literal),
            share(tally.same_as),
            share(tally.delta),
            mb(tally.group_raw_bytes),
            mb(tally.group_bytes),
        );
    }
    text
}

fn speed(bytes: u64, took: Duration) -> f64 {
    mb(bytes) / 1e3 / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "byte counts are far below 2^53")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn per(took: Duration, pages: u64) -> u128 {
    took.as_nanos() / u128::from(pages.max(1))
}
