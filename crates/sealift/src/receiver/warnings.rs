//! Warnings of callers who have proven nothing: as many as an operator can read, however many call.
//!
//! ```text
//!  refused ─▶ a token? ─┬─ yes ─▶ told, with how many were left out before it
//!                       └─ no ──▶ counted ── a second in which a token was left over ─▶ the count is told
//!
//!   tokens: ten at first, one more each second, ten at the most
//! ```
//!
//! Whoever scans the port, or tries it with another authority's certificate, would fill the log otherwise, and what matters to the
//! operator would be lost in it.

use std::time::{Duration, Instant};

/// Told at once: more than the sources that an operator sets up wrongly at one time.
const AT_ONCE: u32 = 10;
/// After those, one in this time: somebody who watches can read them.
const EVERY: Duration = Duration::from_secs(1);

/// The book of what may be told.
#[derive(Debug)]
pub(crate) struct Warnings {
    /// When all tokens are there again, if none is taken; each takes [`EVERY`] to come back.
    full_at: Instant,
    left_out: u64,
}

impl Warnings {
    /// All tokens are there.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            full_at: now,
            left_out: 0,
        }
    }

    /// What is to be told of a caller who was refused, if anything is.
    pub(crate) fn refused(&mut self, now: Instant, warning: String) -> Option<String> {
        if now < self.tokens_at(1) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.full_at = self.full_at.max(now) + EVERY;
        Some(match std::mem::take(&mut self.left_out) {
            0 => warning,
            left_out => format!(
                "{warning} ({} before that are not shown)",
                callers(left_out)
            ),
        })
    }

    /// When to come for [`Self::left_out`]: when nobody called for so long that a token was left over. Never, if nothing was left out.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.left_out > 0).then(|| self.tokens_at(2))
    }

    /// How many were refused and not told of, once nobody else comes who would be told of together with them.
    pub(crate) fn left_out(&mut self, now: Instant) -> Option<String> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.full_at = self.full_at.max(now) + EVERY;
        let left_out = std::mem::take(&mut self.left_out);
        Some(format!(
            "{} more could not prove who they are, and are not shown one by one",
            callers(left_out)
        ))
    }

    /// When there are so many tokens.
    fn tokens_at(&self, tokens: u32) -> Instant {
        let all_but = EVERY * AT_ONCE.saturating_sub(tokens);
        self.full_at.checked_sub(all_but).unwrap_or(self.full_at)
    }
}

fn callers(number: u64) -> String {
    match number {
        1 => "1 caller".to_owned(),
        number => format!("{number} callers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some time after the clock's beginning, so that there is a time before it.
    fn start() -> Instant {
        Instant::now() + EVERY * AT_ONCE
    }

    fn refused(warnings: &mut Warnings, now: Instant) -> Option<String> {
        warnings.refused(now, "a stranger".to_owned())
    }

    fn exhausted(now: Instant) -> Warnings {
        let mut warnings = Warnings::new(now);
        for _ in 0..AT_ONCE {
            assert_eq!(refused(&mut warnings, now).as_deref(), Some("a stranger"));
        }
        warnings
    }

    #[test]
    fn ten_are_told_at_once_and_then_one_a_second_with_how_many_were_left_out() {
        let now = start();
        let mut warnings = exhausted(now);
        let mut told = Vec::new();
        // A thousand a second, for three seconds.
        for millis in 0..=3000 {
            let now = now + Duration::from_millis(millis);
            assert_eq!(warnings.left_out(now), None, "somebody still calls");
            told.extend(refused(&mut warnings, now).map(|told| (millis, told)));
        }
        let after = |left_out| format!("a stranger ({left_out} callers before that are not shown)");
        assert_eq!(
            told,
            [(1000, after(1000)), (2000, after(999)), (3000, after(999))]
        );
    }

    #[test]
    fn those_left_out_are_told_of_once_when_nobody_calls_any_more() {
        let now = start();
        let mut warnings = exhausted(now);
        assert_eq!(warnings.due(), None);
        for _ in 0..5 {
            assert_eq!(refused(&mut warnings, now), None);
        }
        let due = warnings.due().unwrap();
        assert_eq!(due, now + 2 * EVERY);
        assert_eq!(warnings.left_out(now + EVERY), None);
        let told = warnings.left_out(due).unwrap();
        assert!(told.starts_with("5 callers more"), "{told}");
        assert_eq!((warnings.due(), warnings.left_out(due)), (None, None));
        // That took a token, and one is left.
        assert!(refused(&mut warnings, due).is_some());
        assert_eq!(refused(&mut warnings, due), None);
    }

    #[test]
    fn a_quiet_time_brings_no_more_than_ten() {
        let now = start();
        let mut warnings = exhausted(now);
        let later = now + 100 * EVERY;
        let told = (0..100).filter_map(|_| refused(&mut warnings, later));
        assert_eq!(told.count(), AT_ONCE as usize);
    }
}
