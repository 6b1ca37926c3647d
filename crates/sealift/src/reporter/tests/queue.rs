//! Telling never waits.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::{Written, event, everything, progress};
use crate::event::{Event, Progress, What};
use crate::reporter::face::Show;
use crate::reporter::json::Json;
use crate::reporter::{Reporter, WAITING_MAX};

/// Shows nothing before it is let: like a pipe that is full.
struct Stuck {
    entered: Sender<()>,
    go: Receiver<()>,
    shown: Sender<Event>,
}

impl Show for Stuck {
    fn show(&mut self, event: &Event) {
        let _ = self.entered.send(());
        let _ = self.go.recv();
        let _ = self.shown.send(event.clone());
    }
}

/// A reporter whose reader is stuck with its first event, and what lets it go on.
fn stuck(linger: Duration) -> (Reporter, Sender<()>, Receiver<Event>) {
    let (entered, has_entered) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let (shown, seen) = mpsc::channel();
    let show = Stuck { entered, go, shown };
    let reporter = Reporter::start(move || Box::new(show), linger).unwrap();
    reporter.tell(warning("first"));
    has_entered.recv().unwrap();
    (reporter, let_go, seen)
}

fn warning(message: &str) -> Event {
    event(What::Warning {
        message: message.into(),
    })
}

/// Generous: it only ends what hangs.
const PATIENT: Duration = Duration::from_secs(600);

#[test]
fn whoever_tells_does_not_wait_for_a_reader_that_is_stuck() {
    let (reporter, let_go, seen) = stuck(PATIENT);
    // All but two find room.
    for _ in 0..WAITING_MAX + 2 {
        reporter.tell(warning("more"));
    }
    drop(let_go);
    reporter.finish(warning("last"));
    let messages: Vec<_> = seen
        .iter()
        .map(|event| match event.what {
            What::Warning { message } => message,
            _ => String::new(),
        })
        .collect();
    assert_eq!(messages.len(), 1 + WAITING_MAX + 2);
    assert_eq!(
        messages[1 + WAITING_MAX..],
        [
            "2 events were left out, because nobody read the output",
            "last"
        ]
    );
}

#[test]
fn of_progress_that_waits_the_newest_is_shown() {
    let (reporter, let_go, seen) = stuck(PATIENT);
    for round in 1..=WAITING_MAX as u64 * 2 {
        reporter.tell(event(What::Progress(Progress {
            round,
            ..progress()
        })));
    }
    drop(let_go);
    reporter.finish(warning("last"));
    let rounds: Vec<_> = seen
        .iter()
        .filter_map(|event| match event.what {
            What::Progress(progress) => Some(progress.round),
            _ => None,
        })
        .collect();
    assert_eq!(rounds, [WAITING_MAX as u64 * 2]);
}

#[test]
fn the_end_does_not_wait_for_ever_for_a_reader_that_is_stuck() {
    let (reporter, let_go, seen) = stuck(Duration::ZERO);
    reporter.finish(warning("last"));
    assert!(seen.try_recv().is_err());
    drop(let_go);
}

#[test]
fn all_is_told_before_the_end() {
    let (out, err) = (Written::default(), Written::default());
    let (to, aside) = (out.clone(), err.clone());
    let show = move || -> Box<dyn Show> { Box::new(Json::new(Some(to.sink()), aside.sink())) };
    let reporter = Reporter::start(show, PATIENT).unwrap();
    for what in everything() {
        reporter.tell(event(what));
    }
    reporter.finish(warning("last"));
    assert_eq!(out.take().lines().count(), everything().len() + 1);
}

#[test]
fn the_last_event_is_told_although_others_share_the_reporter_and_none_is_told_behind_it() {
    let out = Written::default();
    let to = out.clone();
    let show = move || -> Box<dyn Show> { Box::new(Json::new(Some(to.sink()), to.sink())) };
    let reporter = Arc::new(Reporter::start(show, PATIENT).unwrap());
    let shared = Arc::clone(&reporter);
    reporter.tell(warning("first"));
    reporter.finish(warning("last"));
    shared.tell(warning("too late"));
    shared.finish(warning("too late"));
    let told = out.take();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[1].contains("last"), "{told}");
}
